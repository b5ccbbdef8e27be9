//! A program in the background of a terminal, whose workers try to reach that.

use super::{builder, say};
use pool_runtime::{Process, Result, Sandbox, task};
use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::FromRawFd as _,
        unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    },
    process::Command,
};

fn again(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(name);
    command
}

/// Makes a terminal, types into it, and starts a process whose session it controls.
pub(super) fn beside_one() -> Result<()> {
    // SAFETY: the descriptor is this process's own; the name fits into its place.
    let (mut typing, name) = unsafe {
        let typing = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert!(typing >= 0 && libc::grantpt(typing) == 0 && libc::unlockpt(typing) == 0, "a pseudoterminal");
        let mut name = [0; 64];
        assert_eq!(libc::ptsname_r(typing, name.as_mut_ptr(), name.len()), 0);
        (File::from_raw_fd(typing), CStr::from_ptr(name.as_ptr()).to_owned())
    };
    typing.write_all(b"typed\n").expect("a terminal");
    let name = name.to_str().expect("a path").to_owned();
    let terminal = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&name).expect("a terminal");
    let mut leader = again("leads-a-session");
    leader.env("TERMINAL", name).stdin(terminal);
    let control = || {
        // SAFETY: system calls on plain numbers.
        match unsafe { libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0 } {
            true => Ok(()),
            false => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: it does nothing but system calls.
    let ended = unsafe { leader.pre_exec(control) }.status().expect("it starts");
    assert!(ended.success(), "{ended}");
    Ok(())
}

/// Starts a program in the background, as a shell does, and says how it ends or stops.
pub(super) fn leads_a_session() -> Result<()> {
    let mut child = again("in-the-background").process_group(0).spawn().expect("it starts");
    let (which, how) = (libc::P_PID, libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT);
    // SAFETY: all zeroes is a value of what is told, and there is room for it; the child is this process's own.
    let stopped = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        assert_eq!(libc::waitid(which, child.id(), &raw mut info, how), 0);
        (info.si_code == libc::CLD_STOPPED).then(|| info.si_status())
    };
    if let Some(signal) = stopped {
        say(format!("stopped by signal {signal}"));
        child.kill().expect("a child");
    }
    say(child.wait().expect("a child"));
    Ok(())
}

/// What comes of opening a file and reading from it at once: an error number, or 0.
#[task]
fn read_from(path: &str) -> i32 {
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let read = opened.and_then(|mut file| file.read(&mut [0; 1]));
    read.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0)
}

/// A device that holds nothing is there with the others.
pub(super) fn in_the_background() -> Result<()> {
    let terminal = std::env::var("TERMINAL").expect("a terminal");
    let sandboxes = [
        ("below /", Sandbox::strict().read("/")),
        ("below /dev", Sandbox::strict().read("/dev")),
        ("written", Sandbox::strict().write("/").processes(true)),
        ("files", Sandbox::none().network(false)),
        ("named", Sandbox::strict().read("/dev/zero").read(&terminal)),
    ];
    for (what, sandbox) in sandboxes {
        let pool = builder().processes(1).sandbox(sandbox.clone()).build()?;
        let tried = ["/dev/tty", &terminal, "/dev/zero"].map(|path| pool.apply(read_from::call(path)));
        let tried = tried.into_iter().collect::<Result<Vec<_>>>()?;
        let process = Process::new(read_from::call("/dev/tty")).sandbox(sandbox).start()?;
        say(format!("{what}: {tried:?} {}", process.join()?));
    }
    Ok(())
}
