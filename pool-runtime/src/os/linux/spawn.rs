//! Starting a process with `posix_spawn`: it shares the parent's memory until it executes, so that starting is as fast
//! from a parent of many gigabytes, and no user code runs in a copy of a program with threads.

use super::{Child, handle};
use crate::os::{Io, Spawn};
use rustix::process::Pid;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::{io, ptr};

/// This very program: also after its file was replaced or removed, where there is a `/proc`.
pub(crate) fn program_path() -> io::Result<PathBuf> {
    let own = PathBuf::from("/proc/self/exe");
    if own.try_exists().unwrap_or(false) || std::fs::symlink_metadata(&own).is_ok() {
        return Ok(own);
    }
    std::env::current_exe()
}

type CloseFrom = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, libc::c_int) -> libc::c_int;

/// glibc has it since 2.34; the crate links with older ones too.
fn close_from() -> Option<CloseFrom> {
    // SAFETY: the name is a C string; the symbol, if there is one, is documented to have this signature.
    unsafe {
        let symbol = libc::dlsym(libc::RTLD_DEFAULT, c"posix_spawn_file_actions_addclosefrom_np".as_ptr());
        std::mem::transmute::<*mut libc::c_void, Option<CloseFrom>>(symbol)
    }
}

/// Are descriptors that are not close-on-exec, and meant for nobody, closed when a process is started? Otherwise it has
/// them.
pub(super) fn closes_the_rest() -> bool {
    close_from().is_some()
}

fn check(code: libc::c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

struct FileActions(Box<MaybeUninit<libc::posix_spawn_file_actions_t>>);

impl FileActions {
    fn new() -> io::Result<Self> {
        let mut actions = Box::new(MaybeUninit::uninit());
        // SAFETY: initialises the memory that the pointer leads to.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        Ok(Self(actions))
    }

    fn dup2(&mut self, from: RawFd, to: RawFd) -> io::Result<()> {
        // SAFETY: the actions are initialised; bad descriptors are an error when the process starts.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(self.0.as_mut_ptr(), from, to) })
    }

    fn open_null(&mut self, fd: RawFd) -> io::Result<()> {
        // SAFETY: the actions are initialised; the path is a C string, which the call copies.
        check(unsafe {
            libc::posix_spawn_file_actions_addopen(self.0.as_mut_ptr(), fd, c"/dev/null".as_ptr(), libc::O_RDWR, 0)
        })
    }

    fn change_dir(&mut self, dir: &CStr) -> io::Result<()> {
        // SAFETY: the actions are initialised; the path is a C string, which the call copies.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(self.0.as_mut_ptr(), dir.as_ptr()) })
    }

    fn close_from(&mut self, least: RawFd) -> io::Result<()> {
        match close_from() {
            // SAFETY: the actions are initialised, and the function is the one of that name.
            Some(add) => check(unsafe { add(self.0.as_mut_ptr(), least) }),
            None => Ok(()),
        }
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}

struct Attributes(Box<MaybeUninit<libc::posix_spawnattr_t>>);

impl Attributes {
    /// No signal blocked, and `SIGPIPE` as the system has it, as `std::process::Command` starts programs.
    fn new() -> io::Result<Self> {
        let mut attributes = Box::new(MaybeUninit::uninit());
        let mut none = MaybeUninit::uninit();
        let mut sigpipe = MaybeUninit::uninit();
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        // SAFETY: the attributes and both sets are initialised before they are used.
        unsafe {
            check(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigemptyset(sigpipe.as_mut_ptr());
            libc::sigaddset(sigpipe.as_mut_ptr(), libc::SIGPIPE);
            let attributes = Self(attributes);
            let raw = attributes.0.as_ptr().cast_mut();
            check(libc::posix_spawnattr_setsigmask(raw, none.as_ptr()))?;
            check(libc::posix_spawnattr_setsigdefault(raw, sigpipe.as_ptr()))?;
            check(libc::posix_spawnattr_setflags(raw, flags as libc::c_short))?;
            Ok(attributes)
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`.
        unsafe { libc::posix_spawnattr_destroy(self.0.as_mut_ptr()) };
    }
}

fn c_string(bytes: impl Into<Vec<u8>>) -> io::Result<CString> {
    CString::new(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a name, path or variable contains a zero byte"))
}

fn pointers(strings: &[CString]) -> Vec<*mut libc::c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

impl Spawn<'_> {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// What `posix_spawn` returns: no such program or directory, no more processes, memory or descriptors.
    pub(crate) fn start(&self) -> io::Result<Child> {
        let program = c_string(self.program.as_bytes())?;
        let args = self.args.iter().map(|arg| c_string(arg.as_bytes())).collect::<io::Result<Vec<_>>>()?;
        let env = self
            .env
            .iter()
            .map(|(name, value)| {
                let mut entry = name.clone().into_vec();
                entry.push(b'=');
                entry.extend_from_slice(value.as_bytes());
                c_string(entry)
            })
            .collect::<io::Result<Vec<_>>>()?;

        let mut actions = FileActions::new()?;
        // All sources are first moved out of the way of all targets: descriptor 3 may be the source of 4, and 4 of 3.
        let given: Vec<_> = self.given.numbered().map(|(number, io)| (number, *io)).collect();
        let end = given.last().map_or(3, |(number, _)| number + 1);
        let stdio = self.stdio.iter().zip(0..).filter_map(|(io, number)| Some((number, (*io)?)));
        let mut moved: Vec<OwnedFd> = Vec::new();
        for (target, io) in stdio.chain(given) {
            match io {
                Io::Handle(fd) => {
                    let source = handle::above_standard(fd, end)?;
                    actions.dup2(source.as_raw_fd(), target)?;
                    moved.push(source);
                }
                Io::Null => actions.open_null(target)?,
            }
        }
        actions.close_from(end)?;
        if let Some(dir) = self.current_dir {
            actions.change_dir(&c_string(dir.as_bytes())?)?;
        }

        let attributes = Attributes::new()?;
        let (argv, envp) = (pointers(&args), pointers(&env));
        let mut pid = 0;
        // SAFETY: all pointers lead to initialised values that outlive the call; both arrays end in a null pointer.
        check(unsafe {
            libc::posix_spawn(
                &raw mut pid,
                program.as_ptr(),
                actions.0.as_ptr(),
                attributes.0.as_ptr(),
                argv.as_ptr(),
                envp.as_ptr(),
            )
        })?;
        let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("the new process has no pid"))?;
        Child::new(pid)
    }
}
