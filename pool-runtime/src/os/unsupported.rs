//! Stands in on a system without an implementation, so that the crate compiles there: calls run on threads, and what
//! would start a process is an error.
//!
//! What cannot be had is a type without values, so its methods are never called.

use crate::locks::{lock, sleep_on};
use crate::os::{
    Abilities, CodePlace, Confinement, Crash, CrashSink, Delivery, End, Given, Handle, HandleRef, Io, OomKill,
    Outgoing, Peeked, Scheduler, SocketFile, SocketPlace, Spawn, Usage, Weight,
};
use std::ffi::{CStr, OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write as _};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub(crate) use io::pipe;

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "pool-runtime starts processes on Linux only"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Never {}

/// Types without values: constructors that fail, and methods.
macro_rules! never {
    ($($type:ident $(<$param:ident $(: ?$sized:ident)?>)? {
        $(Self::$make:ident($($from:ty),*);)*
        $(self.$method:ident($($arg:ty),*) $(-> $result:ty)?;)*
    })*) => {$(
        #[derive(Debug)]
        pub(crate) struct $type $(<$param $(: ?$sized)?>)? (Never $(, PhantomData<$param>)?);

        impl $(<$param $(: ?$sized)?>)? $type $(<$param>)? {
            $(pub(crate) fn $make($(_: $from),*) -> io::Result<Self> {
                unsupported()
            })*
            $(pub(crate) fn $method(&self, $(_: $arg),*) $(-> $result)? {
                match self.0 {}
            })*
        }
    )*};
}

/// Functions, each with the expression that it returns.
macro_rules! functions {
    ($($name:ident($($arg:tt: $type:ty),*) $(-> $result:ty)? = $value:expr;)*) => {
        $(pub(crate) fn $name($($arg: $type),*) $(-> $result)? {
            $value
        })*
    };
}

/// Functions of types, each with the expression that it returns.
macro_rules! methods {
    ($($of:ty: $name:ident($($arg:tt: $type:ty),*) $(-> $result:ty)? = $value:expr;)*) => {
        $(impl $of {
            pub(crate) fn $name($($arg: $type),*) $(-> $result)? {
                $value
            }
        })*
    };
}

never! {
    Child {
        self.pid() -> u32;
        self.sentinel() -> HandleRef<'_>;
        self.terminate() -> io::Result<()>;
        self.interrupt() -> io::Result<()>;
        self.ask_to_end() -> io::Result<()>;
        self.kill() -> io::Result<()>;
        self.was_killed() -> bool;
        self.has_ended() -> bool;
        self.wait_timeout(Option<Duration>) -> bool;
        self.await_death(Duration) -> bool;
        self.status() -> Option<End>;
        self.status_error() -> Option<String>;
        self.usage() -> Option<Usage>;
        self.memory(u64) -> Option<Weight>;
        self.has_children() -> Option<bool>;
    }
    OomWatch {
        self.ask() -> Option<OomKill>;
    }
    PolledPipe {
        Self::new(PipeReader);
        self.handle() -> HandleRef<'_>;
        self.unread() -> u64;
    }
    Poller {
        Self::new();
        self.ring();
        self.wait(impl Iterator, Option<Duration>) -> io::Result<Vec<bool>>;
    }
    Link<E> {
        Self::new(E);
        self.open_file() -> &Handle;
        self.duplicate() -> io::Result<Handle>;
        self.is_standard() -> bool;
        self.is_high() -> bool;
        self.number() -> SocketNumber;
        self.handle() -> HandleRef<'_>;
        self.never_wait() -> io::Result<()>;
        self.replace(Handle) -> io::Result<()>;
        self.shut_down();
        self.peek() -> io::Result<Peeked>;
    }
    SharedSocket<O: ?Sized> {
        self.handle() -> HandleRef<'_>;
        self.shut_down();
    }
    Socket {
        Self::connect(SocketPlace<'_>, Option<Instant>);
        self.accept() -> io::Result<Option<(Self, Option<SocketAddr>)>>;
        self.local_address() -> io::Result<Option<SocketAddr>>;
        self.handle() -> HandleRef<'_>;
        self.send_all([&[u8]; 2]) -> io::Result<()>;
        self.try_send(&[u8]) -> io::Result<usize>;
        self.receive(&mut [u8]) -> io::Result<usize>;
        self.try_receive(&mut [u8]) -> io::Result<usize>;
        self.await_readable(Option<Instant>) -> io::Result<bool>;
        self.shut_down();
    }
    Memory {
        Self::copy(&[u8]);
        Self::create(usize, impl FnOnce(&mut [u8]));
        Self::open(Handle);
        Self::reusable(usize);
        Self::writable(usize);
        Self::writable_copy(&[u8]);
        Self::file(Handle);
        self.as_bytes() -> &[u8];
        self.length() -> usize;
        self.read() -> io::Result<Vec<u8>>;
        self.is_sealed() -> bool;
        self.is_writable() -> bool;
        self.is_file() -> bool;
        self.open_file() -> &Handle;
        self.duplicate() -> io::Result<Handle>;
        self.is_vacant(u32) -> bool;
        Self::sparse();
        self.is_sparse() -> bool;
        self.back(Range<u64>) -> io::Result<()>;
        self.discard(Range<u64>);
        self.resident() -> u64;
        self.window(u64, usize) -> io::Result<Window>;
        self.handle() -> HandleRef<'_>;
    }
    Enrolment {
        Self::new(&Memory);
        self.take(u32) -> io::Result<bool>;
        self.handle() -> HandleRef<'_>;
    }
    Draft {
        Self::new(usize);
        self.seal() -> io::Result<Memory>;
    }
}

/// For threads of this process: there are no others.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    count: Mutex<u32>,
    rung: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        let mut count = lock(&self.count);
        *count = count.wrapping_add(1);
        self.rung.notify_all();
    }

    pub(crate) fn seen(&self) -> u32 {
        *lock(&self.count)
    }

    pub(crate) fn wait(&self, seen: u32, timeout: Option<Duration>) {
        let count = lock(&self.count);
        if *count == seen {
            drop(sleep_on(&self.rung, count, timeout.and_then(|timeout| Instant::now().checked_add(timeout))));
        }
    }
}

#[derive(Debug)]
pub(crate) struct BellWatch<'b>(PhantomData<&'b Bell>);

impl<'b> BellWatch<'b> {
    pub(crate) const MOST: usize = 2;

    pub(crate) fn is_supported() -> bool {
        false
    }

    pub(crate) fn of(_: impl Iterator<Item = &'b Bell>) -> Self {
        Self(PhantomData)
    }

    pub(crate) fn wait(&self, timeout: Duration) {
        thread::sleep(timeout);
    }
}

functions! {
    current_pid() -> u32 = std::process::id();
    no_channel(error: io::Error) -> io::Error = error;
    exceeded_limit(_: i32) -> Option<&'static str> = None;
    signal_name(_: i32) -> String = String::new();
    wait_hung_up(_: HandleRef<'_>, _: Option<HandleRef<'_>>, _: Option<HandleRef<'_>>) -> bool = true;
    die_with_parent() = ();
    parent_handle() -> Option<Handle> = None;
    sealed_memory(_: &CStr, _: usize) -> io::Result<Handle> = unsupported();
    check_size(_: &Handle, _: usize) -> io::Result<()> = unsupported();
    prefer_huge_pages(_: &mut [MaybeUninit<impl Sized>]) = ();
    stack_pointer() -> usize = 0;
    stack() -> Option<Range<usize>> = None;
    forget_stack() = ();
    sleep_while(_: &AtomicU32, _: u32, _: Option<Duration>) -> bool = false;
    wake_sleepers(_: &AtomicU32, _: u32) = ();
    accept_barriers() -> bool = false;
    remote_barrier() -> bool = false;
    block_all_signals() = ();
    outlive_requests_to_end() = ();
    exit_now(code: i32) -> ! = std::process::exit(code);
    has_more_rights() -> bool = false;
    is_root() -> bool = false;
    is_same(_: HandleRef<'_>, _: HandleRef<'_>) -> bool = false;
    check_parents_capabilities(_: Option<&Handle>) -> Result<(), String> = Ok(());
    excess_of_rights() -> Option<&'static str> = None;
    parent_pid() -> u32 = 0;
    await_parent(_: u32, _: Option<Duration>) -> bool = true;
    count_cores(_: &[usize]) -> Option<usize> = None;
    program_path() -> io::Result<PathBuf> = std::env::current_exe();
    own_command(args: Vec<OsString>) -> io::Result<(PathBuf, Vec<OsString>)> = Ok((program_path()?, args));
    name_thread(_: &str) = ();
    check_memory_is_seen() -> io::Result<()> = unsupported();
    usable_cpus() -> Vec<usize> = (0..crate::os::cpu_count()).collect();
    set_cpus(_: &[usize]) -> io::Result<()> = unsupported();
    set_nice(_: i32) -> io::Result<()> = unsupported();
    set_scheduler(_: Scheduler) -> io::Result<()> = unsupported();
    current_cpu() -> u32 = u32::MAX;
    leave_cpu(_: u32) = ();
    open_judged(path: &Path) -> io::Result<(File, Option<String>)> = Ok((File::open(path)?, None));
    file_id(_: &Path) -> io::Result<(u64, u64)> = unsupported();
    lists_processes(_: &Path) -> bool = false;
    write_stderr(bytes: &[u8]) = copy_to_stderr(bytes);
    copy_to_stderr(bytes: &[u8]) = drop(io::stderr().write_all(bytes));
    copy_to_stdout(bytes: &[u8]) = drop(io::stdout().write_all(bytes));
    has_stderr() -> bool = true;
    has_stdout() -> bool = true;
    close_inherited() -> io::Result<()> = unsupported();
    replace_stdin_by_nothing() -> io::Result<()> = unsupported();
    remove_socket_file(_: &Path, _: &SocketFile) = ();
    replace_stdout(_: Handle) -> io::Result<()> = unsupported();
    hide_socket_file(_: &Path) -> io::Result<(Handle, PathBuf)> = unsupported();
}

pub(crate) fn monotonic() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

pub(crate) fn are_readable<'h>(handles: impl Iterator<Item = HandleRef<'h>>) -> Vec<bool> {
    handles.map(|_| true).collect()
}

pub(crate) fn at_high_numbers<R>(open: impl Fn() -> io::Result<R>) -> io::Result<R> {
    open()
}

pub(crate) fn wait_any<'h>(_: impl Iterator<Item = HandleRef<'h>>, _: Option<Duration>) -> io::Result<Vec<bool>> {
    unsupported()
}

pub(crate) fn wait_readable<const N: usize>(_: [HandleRef<'_>; N], _: Option<Duration>) -> io::Result<[bool; N]> {
    unsupported()
}

pub(crate) fn wait_writable(_: HandleRef<'_>) -> io::Result<()> {
    unsupported()
}

pub(crate) fn thread_builder(name: impl Into<String>, stack: Option<usize>) -> thread::Builder {
    let builder = thread::Builder::new().name(name.into());
    match stack {
        Some(stack) => builder.stack_size(stack),
        None => builder,
    }
}

pub(crate) fn with_room<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    work()
}

pub(crate) fn spawn_thread<T: Send + 'static>(
    name: impl Into<String>,
    stack: Option<usize>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread_builder(name, stack).spawn(work)
}

pub(crate) fn forget_variables(kept: impl Fn(&OsStr) -> bool) {
    let others = std::env::vars_os().map(|(name, _)| name).filter(|name| !kept(name));
    others.for_each(crate::os::remove_variable);
}

pub(crate) mod passing {
    use super::{Delivery, Foremost, Handle, HandleRef, Outgoing, io, unsupported};

    functions! {
        pair() -> io::Result<(Handle, Handle)> = unsupported();
        send(_: &Handle, _: &Outgoing<'_>) -> io::Result<()> = unsupported();
        receive(_: &Handle) -> io::Result<Option<Delivery>> = unsupported();
        try_receive(_: &Handle) -> io::Result<Option<Delivery>> = unsupported();
        peek(_: &Handle) -> io::Result<Option<Foremost>> = unsupported();
        room(_: &Handle) -> io::Result<(usize, usize)> = unsupported();
        is_hung_up(_: HandleRef<'_>) -> bool = true;
        sleep_on(_: HandleRef<'_>, _: std::time::Duration) -> bool = true;
    }
}

pub(crate) mod fault {
    use super::{Arc, CodePlace, CrashSink};

    functions! {
        install(_: Arc<dyn CrashSink>) = ();
        leave_to_system() = ();
        anchor() -> usize = 0;
        place_of(_: u64) -> Option<CodePlace> = None;
    }
}

methods! {
    Spawn<'_>: start(self: &Self) -> io::Result<Child> = unsupported();
    Given<Io<'_>>: manifest(self: &Self) -> io::Result<Manifest> = unsupported();
    Given<Handle>: check_giver(self: &Self) -> Result<(), String> = Ok(());
    Crash: fault_address(self: &Self) -> Option<u64> = None;
    Usage: of_this_process() -> Self = Self::default();
    Abilities: here() -> Self = Self { landlock: 0, seccomp: false };
    Confinement: apply(self: &Self, kernel: Abilities, _: bool) -> Result<(), String> = self.check(kernel);
    OomWatch: new(_: u32) -> Self = unreachable!("no process was started");
    SigpipeHeld: new() -> Self = Self;
    SigpipeHeld: peer_was_gone(self: &Self) = ();
    Manifest: parse(_: &str) -> Option<Self> = None;
    Manifest: close_strays(self: Self) -> io::Result<()> = match self.0 {};
    Manifest: take(self: Self) -> Result<Given<Handle>, String> = match self.0 {};
    Socket: listen(_: SocketPlace<'_>) -> io::Result<(Self, Option<SocketFile>)> = unsupported();
    Draft: append(self: &mut Self, _: &[u8]) -> io::Result<()> = match self.0 {};
    Mapping: new(_: &Handle, _: usize) -> io::Result<Self> = unsupported();
    Mapping: twice(_: &Handle, _: usize, _: usize) -> io::Result<Self> = unsupported();
    Mapping: private(size: usize) -> io::Result<Self> = Ok(Self(vec![Line([0; 128]); size.div_ceil(128)].into()));
    Mapping: start(self: &Self) -> NonNull<u8> = NonNull::from_ref(&*self.0).cast();
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code: {code}"),
            Self::Signal(signal) => write!(f, "signal: {signal}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manifest(Never);

impl fmt::Display for Manifest {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

impl Read for PolledPipe {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketNumber(Never);

impl<O: ?Sized> SharedSocket<O> {
    pub(crate) fn new(_: Arc<O>, number: SocketNumber) -> Self {
        match number.0 {}
    }
}

impl<E> Deref for Link<E> {
    type Target = E;

    fn deref(&self) -> &E {
        match self.0 {}
    }
}

pub(crate) struct SigpipeHeld;

#[derive(Debug)]
pub(crate) struct PrivateDir(PathBuf);

impl PrivateDir {
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        Ok(path.is_dir().then(|| Self(path.to_owned())))
    }

    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path).map(|()| Self(path.to_owned()))
    }

    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        File::create_new(self.0.join(name))
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.0.join(name))
    }
}

/// Memory of this process alone.
#[derive(Debug)]
pub(crate) struct Mapping(Box<[Line]>);

#[derive(Clone, Copy, Debug)]
#[repr(align(128))]
struct Line(#[expect(dead_code, reason = "read through a pointer")] [u8; 128]);

/// Never implemented for what could lie in memory, as there is none.
pub trait Word: Sync + 'static {}
impl<W: Sync + 'static> Word for W {}

impl Memory {
    pub(crate) fn words<W: Word>(&self) -> &[W] {
        match self.0 {}
    }

    pub(crate) unsafe fn overwrite(&self, _: &[u8]) {
        match self.0 {}
    }
}
