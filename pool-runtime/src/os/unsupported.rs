//! A system that nobody has ported the library to: what would need it is an error, and the rest works.
//!
//! Calls run on threads of the program, as they need nothing of the system. What cannot be had is a type without
//! values.

use crate::os::{Abilities, Confinement, Crash, End, Given, Handle, HandleRef, Io, OomKill, Spawn, Usage};
use std::ffi::CStr;
use std::fmt;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write as _};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "pool-runtime starts processes on Linux only"))
}

/// A type without values: what is made of nothing, and the methods that nobody calls.
macro_rules! never {
    ($type:ident: $(Self::$make:ident($($from:ty),*);)* $(self.$method:ident($($arg:ty),*) -> $result:ty;)*) => {
        #[derive(Debug)]
        pub(crate) enum $type {}

        impl $type {
            $(pub(crate) fn $make($(_: $from),*) -> io::Result<Self> {
                unsupported()
            })*
            $(pub(crate) fn $method(&self, $(_: $arg),*) -> $result {
                match *self {}
            })*
        }
    };
}

/// Functions that fail.
macro_rules! refused {
    ($($name:ident($($arg:ty),*) -> $result:ty;)*) => {
        $(pub(crate) fn $name($(_: $arg),*) -> io::Result<$result> {
            unsupported()
        })*
    };
}

// ---- processes ----

never! {
    Child:
    self.pid() -> u32;
    self.sentinel() -> HandleRef<'_>;
    self.terminate() -> io::Result<()>;
    self.interrupt() -> io::Result<()>;
    self.kill() -> io::Result<()>;
    self.was_killed() -> bool;
    self.has_ended() -> bool;
    self.wait_timeout(Option<Duration>) -> bool;
    self.wait() -> Option<End>;
    self.status() -> Option<End>;
    self.usage() -> Option<Usage>;
}

impl End {
    pub(crate) const KILLED: Self = Self::Signal(9);
    pub(crate) const ABORTED: Self = Self::Signal(6);

    pub(crate) fn was_killed(self) -> bool {
        self == Self::KILLED
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code: {code}"),
            Self::Signal(signal) => write!(f, "signal: {signal}"),
        }
    }
}

pub(crate) fn signal_name(_: i32) -> String {
    String::new()
}

impl Usage {
    pub(crate) fn of_this_process() -> Self {
        Self { user: Duration::ZERO, system: Duration::ZERO, peak: 0, minor_faults: 0, major_faults: 0 }
    }
}

impl Spawn<'_> {
    pub(crate) fn start(&self) -> io::Result<Child> {
        unsupported()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manifest {}

impl Given<Io<'_>> {
    pub(crate) fn manifest(&self) -> io::Result<Manifest> {
        unsupported()
    }
}

impl Manifest {
    pub(crate) fn parse(_: &str) -> Option<Self> {
        None
    }

    pub(crate) fn take(self) -> Result<Given<Handle>, String> {
        match self {}
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

pub(crate) struct Strays;

impl<H> Given<H> {
    pub(crate) fn strays(&self) -> io::Result<Strays> {
        Ok(Strays)
    }
}

impl Strays {
    pub(crate) fn close(self) {}
}

#[derive(Debug)]
pub(crate) struct OomWatch;

impl OomWatch {
    pub(crate) fn new(_: u32) -> Self {
        Self
    }

    pub(crate) fn ask(&self) -> Option<OomKill> {
        None
    }
}

impl Abilities {
    pub(crate) fn here() -> Self {
        Self { landlock: 0, seccomp: false }
    }
}

impl Confinement {
    pub(crate) fn apply(&self, kernel: Abilities, _: usize) -> Result<(), String> {
        self.check(kernel)
    }
}

// ---- waiting ----

pub(crate) fn wait_readable<const N: usize>(_: [HandleRef<'_>; N], _: Option<Duration>) -> io::Result<[bool; N]> {
    unsupported()
}

pub(crate) fn wait_hung_up(_: HandleRef<'_>, _: Option<HandleRef<'_>>) -> bool {
    true
}

#[derive(Debug)]
pub(crate) struct PolledPipe(PipeReader);

impl PolledPipe {
    pub(crate) fn new(pipe: PipeReader) -> io::Result<Self> {
        Ok(Self(pipe))
    }

    pub(crate) fn handle(&self) -> HandleRef<'_> {
        #[cfg(unix)]
        return std::os::fd::AsFd::as_fd(&self.0);
        #[cfg(windows)]
        return std::os::windows::io::AsHandle::as_handle(&self.0);
    }

    pub(crate) fn unread(&self) -> u64 {
        0
    }
}

impl Read for PolledPipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

never! {
    Poller:
    Self::new();
    self.ring() -> ();
}

impl Poller {
    pub(crate) fn wait<'p>(
        &'p self,
        _: impl Iterator<Item = HandleRef<'p>>,
        _: Option<Duration>,
    ) -> io::Result<Vec<bool>> {
        match *self {}
    }
}

#[derive(Debug)]
enum Never {}

#[derive(Debug)]
pub(crate) struct Link<E>(Never, PhantomData<E>);

#[derive(Debug)]
pub(crate) struct Peeked {
    pub(crate) head: [u8; 16],
    pub(crate) length: usize,
    pub(crate) has_handles: bool,
}

impl<E> Link<E> {
    pub(crate) fn new(_: E) -> io::Result<Self> {
        unsupported()
    }

    pub(crate) fn is_standard(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn number(&self) -> SocketNumber {
        match self.0 {}
    }

    pub(crate) fn handle(&self) -> HandleRef<'_> {
        match self.0 {}
    }

    pub(crate) fn duplicate(&self) -> io::Result<Handle> {
        match self.0 {}
    }

    pub(crate) fn replace(&self, _: Handle) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn peek(&self) -> io::Result<Peeked> {
        match self.0 {}
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketNumber;

#[derive(Debug)]
pub(crate) struct SharedSocket<O: ?Sized>(std::sync::Arc<O>);

impl<O: ?Sized> SharedSocket<O> {
    pub(crate) fn new(owner: std::sync::Arc<O>, _: SocketNumber) -> Self {
        Self(owner)
    }

    pub(crate) fn handle(&self) -> HandleRef<'_> {
        unreachable!("there is no link on this system")
    }
}

impl<E> Deref for Link<E> {
    type Target = E;

    fn deref(&self) -> &E {
        match self.0 {}
    }
}

pub(crate) struct SigpipeHeld;

impl SigpipeHeld {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn peer_was_gone(&self) {}
}

pub(crate) use io::pipe;

// ---- memory ----

/// Memory of this process alone.
#[derive(Debug)]
pub(crate) struct Mapping(Box<[Line]>);

#[derive(Clone, Copy, Debug)]
#[repr(align(128))]
struct Line(#[expect(dead_code, reason = "looked at through a pointer")] [u8; 128]);

impl Mapping {
    pub(crate) fn new(_: &Handle, _: usize) -> io::Result<Self> {
        unsupported()
    }

    pub(crate) fn twice(_: &Handle, _: usize, _: usize) -> io::Result<Self> {
        unsupported()
    }

    pub(crate) fn private(size: usize) -> io::Result<Self> {
        Ok(Self(vec![Line([0; 128]); size.div_ceil(128)].into()))
    }

    #[inline]
    pub(crate) fn start(&self) -> NonNull<u8> {
        NonNull::from_ref(&*self.0).cast()
    }
}

refused! {
    sealed_memory(&CStr, usize) -> Handle;
    check_size(&Handle, usize) -> ();
}

pub(crate) fn prefer_huge_pages<T>(_: &mut [MaybeUninit<T>]) {}

never! {
    Memory:
    Self::copy(&[u8]);
    Self::create(usize, impl FnOnce(&mut [u8]));
    Self::open(Handle);
    Self::reusable(usize);
    self.as_bytes() -> &[u8];
    self.is_sealed() -> bool;
    self.handle() -> HandleRef<'_>;
}

impl Memory {
    pub(crate) unsafe fn overwrite(&self, _: &[u8]) {
        match *self {}
    }
}

never! {
    Draft:
    Self::new(usize);
}

impl Draft {
    pub(crate) fn append(&mut self, _: &[u8]) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn seal(self) -> io::Result<Memory> {
        match self {}
    }
}

#[derive(Debug)]
pub(crate) struct Bell(AtomicU32);

impl Bell {
    pub(crate) fn ring(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn seen(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn wait(&self, _: u32, _: Option<Duration>) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn accept_barriers() -> bool {
    false
}

pub(crate) fn remote_barrier() -> bool {
    false
}

pub(crate) mod passing {
    use super::{Handle, io, unsupported};
    use crate::os::{Delivery, Passed};

    refused! {
        pair() -> (Handle, Handle);
        send(&Handle, &Passed<'_>) -> ();
        receive(&Handle) -> Option<Delivery>;
    }
}

// ---- crashes ----

pub(crate) mod fault {
    use crate::os::CrashSink;
    use std::sync::Arc;

    pub(crate) fn install(_: Arc<dyn CrashSink>) {}

    pub(crate) fn leave_to_system() {}

    pub(crate) fn place_of(_: u64) -> Option<usize> {
        None
    }
}

impl Crash {
    pub(crate) fn fault_address(&self) -> Option<u64> {
        None
    }
}

// ---- this process ----

pub(crate) fn block_all_signals() {}

pub(crate) fn outlive_interrupts() {}

pub(crate) fn exit_now(code: i32) -> ! {
    std::process::exit(code)
}

pub(crate) fn remove_variable(name: &str) {
    // SAFETY: as on Linux: this comes before the program's own code, in a process of one thread.
    unsafe { std::env::remove_var(name) };
}

pub(crate) fn has_more_rights() -> bool {
    false
}

pub(crate) fn parent_pid() -> u32 {
    0
}

pub(crate) fn program_path() -> io::Result<PathBuf> {
    std::env::current_exe()
}

pub(crate) fn name_thread(_: &str) {}

pub(crate) fn monotonic() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

pub(crate) fn private_memory(_: u32) -> Option<u64> {
    None
}

pub(crate) fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(crate) fn usable_cpus() -> Vec<usize> {
    (0..cpu_count()).collect()
}

refused! {
    set_cpus(&[usize]) -> ();
    set_nice(i32) -> ();
}

/// Unknown.
pub(crate) fn current_cpu() -> u32 {
    u32::MAX
}

pub(crate) fn leave_cpu(_: u32) {}

// ---- files and standard streams ----

pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    File::create_new(path)
}

pub(crate) fn write_stderr(bytes: &[u8]) {
    copy_to_stderr(bytes);
}

pub(crate) fn copy_to_stderr(bytes: &[u8]) {
    let _ = io::stderr().write_all(bytes);
}

pub(crate) fn has_stderr() -> bool {
    true
}

refused! {
    file_id(&Path) -> (u64, u64);
    replace_stdout(Handle) -> ();
}
