//! Starts a process with `posix_spawn`: the child shares the parent's memory until it executes the program. So a large
//! parent starts it as fast as a small one, and no user code runs in a copy of a program with threads.

use super::child::Child;
use super::step;
use crate::os::{Io, Spawn};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Pid, Resource};
use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{io, ptr};

type CloseFrom = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, c_int) -> c_int;

/// Closes descriptors that are neither close-on-exec nor meant for a new process when it starts. glibc has it since
/// 2.34; the crate links with older ones too, and with musl, where the [worker](crate::os::Manifest::close_strays) closes
/// them.
pub(super) fn close_from() -> Option<CloseFrom> {
    // SAFETY: the name is a C string; the symbol, if there is one, is documented to have this signature.
    unsafe {
        let symbol = libc::dlsym(libc::RTLD_DEFAULT, c"posix_spawn_file_actions_addclosefrom_np".as_ptr());
        std::mem::transmute::<*mut libc::c_void, Option<CloseFrom>>(symbol)
    }
}

fn check(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// A value that the C library initialises and destroys, at an address that stays.
struct Initialized<T> {
    value: Box<MaybeUninit<T>>,
    destroy: unsafe extern "C" fn(*mut T) -> c_int,
}

impl<T> Initialized<T> {
    /// # Safety
    ///
    /// `init` initialises the value, and `destroy` may be called with what it has initialised.
    unsafe fn new(
        init: unsafe extern "C" fn(*mut T) -> c_int,
        destroy: unsafe extern "C" fn(*mut T) -> c_int,
    ) -> io::Result<Self> {
        let mut value = Box::new(MaybeUninit::uninit());
        // SAFETY: as the caller says; the pointer leads to memory for the value.
        check(unsafe { init(value.as_mut_ptr()) })?;
        Ok(Self { value, destroy })
    }

    fn as_mut_ptr(&mut self) -> *mut T {
        self.value.as_mut_ptr()
    }
}

impl<T> Drop for Initialized<T> {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, whose caller vouches for the function.
        unsafe { (self.destroy)(self.value.as_mut_ptr()) };
    }
}

/// What a new process does with its descriptors before it is the program.
struct FileActions(Initialized<libc::posix_spawn_file_actions_t>);

impl FileActions {
    fn new() -> io::Result<Self> {
        // SAFETY: the two functions are a pair.
        unsafe { Initialized::new(libc::posix_spawn_file_actions_init, libc::posix_spawn_file_actions_destroy) }
            .map(Self)
    }

    fn as_ptr(&self) -> *const libc::posix_spawn_file_actions_t {
        self.0.value.as_ptr()
    }

    /// Makes `target` another number of what `source` is.
    fn copy(&mut self, source: RawFd, target: RawFd) -> io::Result<()> {
        // SAFETY: the actions are initialised; a bad descriptor is an error when the process starts.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(self.0.as_mut_ptr(), source, target) })
    }

    /// Closes a descriptor. If it is not open, the C library asks for the limit, which a filter may deny.
    fn close(&mut self, number: RawFd) -> io::Result<()> {
        // SAFETY: the actions are initialised; a bad descriptor is an error when the process starts.
        check(unsafe { libc::posix_spawn_file_actions_addclose(self.0.as_mut_ptr(), number) })
    }

    fn change_dir(&mut self, dir: &CStr) -> io::Result<()> {
        // SAFETY: the actions are initialised; the path is a C string, which the call copies.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(self.0.as_mut_ptr(), dir.as_ptr()) })
    }

    /// Gives the sources the numbers from `first` on, and closes all other descriptors but the standard streams. The
    /// sources have higher numbers than that.
    fn give(&mut self, sources: &[RawFd], first: RawFd) -> io::Result<()> {
        let end = first + sources.len() as RawFd;
        let close_from = close_from();
        // One call closes whatever is open above them at low numbers; then they are moved up.
        if let Some(close_from) = close_from
            && LEAST_GIVEN + sources.len() as RawFd <= first
        {
            for (source, low) in sources.iter().zip(LEAST_GIVEN..) {
                self.copy(*source, low)?;
            }
            // SAFETY: the actions are initialised, and the function is the one of that name.
            check(unsafe { close_from(self.0.as_mut_ptr(), LEAST_GIVEN + sources.len() as RawFd) })?;
            for (low, target) in (LEAST_GIVEN..).zip(first..end) {
                self.copy(low, target)?;
                self.close(low)?;
            }
            return Ok(());
        }
        for (source, target) in sources.iter().zip(first..) {
            self.copy(*source, target)?;
        }
        let only_open_ones = step::limits_of(Resource::Nofile).is_err();
        for number in LEAST_GIVEN..first {
            if let (true, Some(any)) = (only_open_ones, sources.first()) {
                self.copy(*any, number)?;
            }
            self.close(number)?;
        }
        // SAFETY: as above.
        close_from.map_or(Ok(()), |close_from| check(unsafe { close_from(self.0.as_mut_ptr(), end) }))
    }
}

/// The first number that is not a standard stream's.
const LEAST_GIVEN: RawFd = 3;

/// No signal blocked, and `SIGPIPE` at its default, as `std::process::Command` starts programs.
fn attributes() -> io::Result<Initialized<libc::posix_spawnattr_t>> {
    let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
    let (none, sigpipe) = (super::signal::set_of(&[]), super::signal::set_of(&[libc::SIGPIPE]));
    // SAFETY: the two functions are a pair; the attributes and both sets are initialised before they are used.
    unsafe {
        let mut attributes = Initialized::new(libc::posix_spawnattr_init, libc::posix_spawnattr_destroy)?;
        check(libc::posix_spawnattr_setsigmask(attributes.as_mut_ptr(), &raw const none))?;
        check(libc::posix_spawnattr_setsigdefault(attributes.as_mut_ptr(), &raw const sigpipe))?;
        check(libc::posix_spawnattr_setflags(attributes.as_mut_ptr(), flags as libc::c_short))?;
        Ok(attributes)
    }
}

fn c_string(bytes: impl Into<Vec<u8>>) -> io::Result<CString> {
    CString::new(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a name, path or variable contains a zero byte"))
}

fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

impl Spawn<'_> {
    /// Says what `posix_spawn` failed on: the directory and the program give the same errors.
    fn refused(&self, error: io::Error) -> io::Error {
        let dir = self.current_dir.filter(|dir| !Path::new(dir).is_dir());
        let object = match dir {
            Some(dir) => format!(" in the directory {dir:?}"),
            None => format!(" of {:?}", self.program),
        };
        step::SPAWN.failed_on(&object, error)
    }

    /// Starts it, or fails as `posix_spawn` does: no such program or directory, no more processes or memory.
    pub(crate) fn start(&self) -> io::Result<Child> {
        let program = c_string(self.program.as_bytes())?;
        let args = self.args.iter().map(|arg| c_string(arg.as_bytes())).collect::<io::Result<Vec<_>>>()?;
        let env = self.env.iter().map(|(name, value)| c_string([name.as_bytes(), b"=", value.as_bytes()].concat()));
        let env = env.collect::<io::Result<Vec<_>>>()?;
        let dir = self.current_dir.map(|dir| c_string(dir.as_bytes())).transpose()?;

        // All sources are first moved beyond all targets: the source of one may be the target of another.
        let first = self.manifest.first();
        let given: Vec<_> = (first..).zip(self.given.in_order().copied()).collect();
        let end = given.last().map_or(first, |(number, _)| number + 1);
        let stdio = (0..).zip(self.stdio).filter_map(|(number, io)| Some((number, io?)));
        let mut moved = Vec::new();
        let mut actions = FileActions::new()?;
        for (target, io) in stdio.chain(given) {
            let null;
            let fd = match io {
                Io::Handle(fd) => fd,
                // Opened in this process, as the new one could not say that it is missing.
                Io::Null => {
                    null = open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
                        .map_err(|error| step::NULL.failed(error))?;
                    null.as_fd()
                }
            };
            let source = fcntl_dupfd_cloexec(fd, end).map_err(|error| step::DUPLICATE.failed(error))?;
            moved.push((source, target));
        }
        let (stdio, given): (Vec<_>, Vec<_>) = moved.iter().partition(|(_, target)| *target < LEAST_GIVEN);
        for (source, target) in &stdio {
            actions.copy(source.as_raw_fd(), *target)?;
        }
        actions.give(&given.iter().map(|(source, _)| source.as_raw_fd()).collect::<Vec<_>>(), first)?;
        if let Some(dir) = &dir {
            actions.change_dir(dir)?;
        }

        let mut attr = attributes()?;
        let (argv, envp) = (pointers(&args), pointers(&env));
        let mut pid = 0;
        // SAFETY: all pointers lead to initialised values that outlive the call; both arrays end in a null pointer.
        check(unsafe {
            libc::posix_spawn(
                &raw mut pid,
                program.as_ptr(),
                actions.as_ptr(),
                attr.as_mut_ptr(),
                argv.as_ptr(),
                envp.as_ptr(),
            )
        })
        .map_err(|error| self.refused(error))?;
        Child::new(Pid::from_raw(pid).ok_or_else(|| io::Error::other("the new process has no pid"))?)
    }
}
