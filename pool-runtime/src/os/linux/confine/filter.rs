//! The system calls that a confined process is denied: a seccomp filter.
//!
//! The list is of what is denied, with `EPERM`, as a program may use any of some hundred harmless calls. Calls that are
//! newer than the list or of other conventions (32 bits, x32) do not exist for a confined process.

use crate::os::Confinement;
use rustix::io::Errno;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter_all_threads, sock_filter,
};
use std::collections::BTreeMap;
use std::io;

/// The highest number of a system call when the list was made: Linux 6.18.
const LATEST: u32 = 469;

/// The names of the crate `libc`, and those that it does not have yet; their numbers are the same on all architectures.
#[expect(non_upper_case_globals, reason = "written as in `libc`")]
mod sys {
    pub(super) use libc::*;
    pub(super) const SYS_fchmodat2: c_long = 452;
    pub(super) const SYS_statmount: c_long = 457;
    pub(super) const SYS_listmount: c_long = 458;
    pub(super) const SYS_setxattrat: c_long = 463;
    pub(super) const SYS_removexattrat: c_long = 466;
    pub(super) const SYS_open_tree_attr: c_long = 467;
    pub(super) const SYS_file_setattr: c_long = 469;
    pub(super) const F_SETSIG: c_int = 10;
    pub(super) const F_SETOWN_EX: c_int = 15;
    pub(super) const FIOSETOWN: Ioctl = 0x8901;
    pub(super) const SIOCSPGRP: Ioctl = 0x8902;
    pub(super) const FS_IOC_SETFLAGS: Ioctl = 0x4008_6602;
    pub(super) const FS_IOC_FSSETXATTR: Ioctl = 0x401c_5820;
}

/// A list of numbers that have a name in `sys`. Only x86_64 has those after the semicolon.
macro_rules! names {
    ($($name:ident)* $(; $($old:ident)*)?) => {
        &[$(sys::$name,)* $($(#[cfg(target_arch = "x86_64")] sys::$old,)*)?]
    };
}

/// What would lead out of any confinement, or is no business of a confined process.
const NEVER: &[sys::c_long] = names! {
    // The memory, descriptors and secrets of other processes.
    SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_process_madvise SYS_process_mrelease SYS_pidfd_getfd
    SYS_kcmp SYS_move_pages SYS_migrate_pages
    // No filter sees what is asked for through io_uring.
    SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register
    // Programs and probes in the kernel.
    SYS_bpf SYS_perf_event_open SYS_userfaultfd SYS_add_key SYS_request_key SYS_keyctl SYS_lookup_dcookie SYS_syslog
    // Mounts, and the root that paths begin at.
    SYS_mount SYS_umount2 SYS_move_mount SYS_open_tree SYS_open_tree_attr SYS_fsopen SYS_fsconfig SYS_fsmount
    SYS_fspick SYS_mount_setattr SYS_statmount SYS_listmount SYS_pivot_root SYS_chroot SYS_unshare SYS_setns
    // Files by handle, and those that others open.
    SYS_open_by_handle_at SYS_fanotify_init SYS_fanotify_mark
    // The machine.
    SYS_init_module SYS_finit_module SYS_delete_module SYS_kexec_load SYS_kexec_file_load SYS_reboot SYS_swapon
    SYS_swapoff SYS_acct SYS_quotactl SYS_quotactl_fd SYS_nfsservctl SYS_sethostname SYS_setdomainname SYS_vhangup
    SYS_settimeofday SYS_clock_settime SYS_clock_adjtime SYS_adjtimex
    // Memory, locks and messages that any process of this user reaches by a number or a name.
    SYS_shmget SYS_shmat SYS_shmdt SYS_shmctl SYS_semget SYS_semop SYS_semtimedop SYS_semctl
    SYS_msgget SYS_msgsnd SYS_msgrcv SYS_msgctl
    SYS_mq_open SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify SYS_mq_getsetattr;
    SYS_iopl SYS_ioperm SYS_modify_ldt SYS_uselib SYS__sysctl
};

/// Standard output may be a terminal. `TIOCSTI` types into it and `TIOCLINUX` pastes; `TIOCSETD` loads drivers; the
/// others take it away from those who use it.
const NEVER_CONTROLS: &[sys::Ioctl] = names! { TIOCSTI TIOCLINUX TIOCSETD TIOCSPGRP TIOCSCTTY TIOCCONS };

/// In a new namespace, a process may do what it may not do outside.
const NAMESPACES: &[sys::c_int] = names! {
    CLONE_NEWNS CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET
};

const STARTING: &[sys::c_long] = names! { SYS_execve SYS_execveat; SYS_fork SYS_vfork };

/// Signals to a process that is given by a handle, or to a thread of any process.
const SIGNALS_TO_ANYBODY: &[sys::c_long] = names! { SYS_pidfd_open SYS_pidfd_send_signal SYS_tkill };

/// Signals to a process whose number is the first argument.
const SIGNALS: &[sys::c_long] = names! { SYS_kill SYS_tgkill SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo };

/// With these, a descriptor that becomes ready sends a signal to any process.
const SIGNALLING_FCNTLS: &[sys::c_int] = names! { F_SETOWN F_SETSIG F_SETOWN_EX };
const SIGNALLING_CONTROLS: &[sys::Ioctl] = names! { FIOSETOWN SIOCSPGRP };

const NETWORK: &[sys::c_long] = names! { SYS_socket SYS_connect SYS_bind SYS_listen SYS_accept SYS_accept4 };

/// Changes to the attributes of a file that is given by its path; and notifications of changes to it.
const ATTRIBUTES_BY_PATH: &[sys::c_long] = names! {
    SYS_fchmodat SYS_fchmodat2 SYS_fchownat SYS_setxattr SYS_lsetxattr SYS_removexattr SYS_lremovexattr
    SYS_setxattrat SYS_removexattrat SYS_file_setattr SYS_inotify_add_watch;
    SYS_chmod SYS_chown SYS_lchown SYS_utime SYS_utimes SYS_futimesat
};

const ATTRIBUTES: &[sys::c_long] = names! { SYS_fchmod SYS_fchown SYS_fsetxattr SYS_fremovexattr SYS_utimensat };
const ATTRIBUTE_CONTROLS: &[sys::Ioctl] = names! { FS_IOC_SETFLAGS FS_IOC_FSSETXATTR };

/// Calls with the mode of a file, and which argument that is.
const MODES: &[(&[sys::c_long], u8)] = &[(names! { SYS_fchmod; SYS_mknod SYS_creat }, 1), (names! { SYS_mknodat }, 2)];

/// The same for those that open files, where the flags before the mode say that they make one.
const MODES_OF_NEW: &[(&[sys::c_long], u8)] = &[(names! { SYS_openat }, 3), (names! {; SYS_open }, 2)];

/// `O_CREAT`; and what is in `O_TMPFILE` alone.
const MAKING: [sys::c_int; 2] = [sys::O_CREAT, sys::O_TMPFILE & !sys::O_DIRECTORY];

#[derive(Default)]
struct List(BTreeMap<i64, Vec<SeccompRule>>);

/// What an argument has to be: its index, and how it compares. All are 32 bits, as the kernel takes them.
type Condition = (u8, Op, u64);

fn flag(index: u8, flag: sys::c_int) -> Condition {
    let flag = flag.cast_unsigned().into();
    (index, Op::MaskedEq(flag), flag)
}

impl List {
    fn deny(&mut self, calls: &[sys::c_long]) {
        // No rules: whatever the arguments.
        self.0.extend(calls.iter().map(|call| (*call, Vec::new())));
    }

    fn deny_if(&mut self, calls: &[sys::c_long], conditions: &[Condition]) -> Result<(), BackendError> {
        let conditions =
            conditions.iter().cloned().map(|(index, op, value)| SeccompCondition::new(index, Length::Dword, op, value));
        let rule = SeccompRule::new(conditions.collect::<Result<_, _>>()?)?;
        for call in calls {
            // Nothing is to be added to a call that is denied whatever its arguments.
            if !self.0.get(call).is_some_and(Vec::is_empty) {
                self.0.entry(*call).or_default().push(rule.clone());
            }
        }
        Ok(())
    }

    /// Makes no file that runs with the rights of its owner or group: somebody outside may start it.
    fn deny_rights_of_others(&mut self) -> Result<(), BackendError> {
        for bit in [sys::S_ISUID, sys::S_ISGID].map(u32::cast_signed) {
            for (calls, mode) in MODES {
                self.deny_if(calls, &[flag(*mode, bit)])?;
            }
            for (calls, mode) in MODES_OF_NEW {
                for making in MAKING {
                    self.deny_if(calls, &[flag(*mode - 1, making), flag(*mode, bit)])?;
                }
            }
        }
        Ok(())
    }

    fn of(confinement: &Confinement, own: u64) -> Result<Self, BackendError> {
        let mut list = Self::default();
        list.deny(NEVER);
        let mut controls = NEVER_CONTROLS.to_vec();
        for namespace in NAMESPACES {
            list.deny_if(&[sys::SYS_clone], &[flag(0, *namespace)])?;
        }
        // The limits and scheduling of other processes; 0 is the caller.
        let of_process = names! {
            SYS_prlimit64 SYS_sched_setaffinity SYS_sched_setscheduler SYS_sched_setparam SYS_sched_setattr
        };
        list.deny_if(of_process, &[(0, Op::Ne, 0), (0, Op::Ne, own)])?;
        // `PRIO_PROCESS` and `IOPRIO_WHO_PROCESS`; the others are of many processes.
        for (call, process) in [(sys::SYS_setpriority, 0), (sys::SYS_ioprio_set, 1)] {
            list.deny_if(&[call], &[(0, Op::Ne, process)])?;
            list.deny_if(&[call], &[(1, Op::Ne, 0), (1, Op::Ne, own)])?;
        }
        if !confinement.processes {
            list.deny(STARTING);
            let thread = u64::from(sys::CLONE_THREAD.cast_unsigned());
            list.deny_if(&[sys::SYS_clone], &[(0, Op::MaskedEq(thread), 0)])?;
            list.deny(SIGNALS_TO_ANYBODY);
            list.deny_if(SIGNALS, &[(0, Op::Ne, own)])?;
            // The kernel ends this process with its parent: nobody chooses another signal, or none.
            let ends_with_parent = (0, Op::Eq, sys::PR_SET_PDEATHSIG.cast_unsigned().into());
            list.deny_if(&[sys::SYS_prctl], &[ends_with_parent, (1, Op::Ne, sys::SIGKILL.cast_unsigned().into())])?;
            for command in SIGNALLING_FCNTLS {
                list.deny_if(&[sys::SYS_fcntl], &[(1, Op::Eq, command.cast_unsigned().into())])?;
            }
            controls.extend(SIGNALLING_CONTROLS);
        }
        if !confinement.network {
            list.deny(NETWORK);
            // A pair of sockets is no network unless one of them can reach a third: those that send packets to any
            // address can. Streams (1) and streams of packets (5) cannot.
            list.deny_if(&[sys::SYS_socketpair], &[(0, Op::Ne, sys::AF_UNIX.cast_unsigned().into())])?;
            for kind in (0..16).filter(|kind| ![1, 5].contains(kind)) {
                list.deny_if(&[sys::SYS_socketpair], &[(1, Op::MaskedEq(0xf), kind)])?;
            }
        }
        if let Some(files) = &confinement.files {
            list.deny(ATTRIBUTES_BY_PATH);
            if files.writes.is_empty() {
                list.deny(ATTRIBUTES);
                controls.extend(ATTRIBUTE_CONTROLS);
            } else {
                // With a path; without one it is that of the descriptor. A pointer: either half may be zero.
                let path = SeccompCondition::new(1, Length::Qword, Op::Ne, 0)?;
                list.0.entry(sys::SYS_utimensat).or_default().push(SeccompRule::new(vec![path])?);
                list.deny_rights_of_others()?;
            }
        }
        for control in controls {
            list.deny_if(&[sys::SYS_ioctl], &[(1, Op::Eq, control as _)])?;
        }
        Ok(list)
    }
}

/// Answers `ENOSYS` for unknown calls, and for those whose arguments a filter cannot see, so that programs use older
/// ones: `clone3` with its flags and, where files may be written, `openat2` with its mode.
fn unknown(confinement: &Confinement) -> BpfProgram {
    const LOAD: u16 = 0x20;
    const IF_GREATER: u16 = 0x25;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let writes = confinement.files.as_ref().is_some_and(|files| !files.writes.is_empty());
    let opaque = if writes { sys::SYS_openat2 } else { sys::SYS_clone3 };
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        // The number is the first word. Those of x32 have a high bit set.
        step(LOAD, 0, 0, 0),
        step(IF_GREATER, 2, 0, LATEST),
        step(IF_EQUAL, 1, 0, sys::SYS_clone3 as u32),
        step(IF_EQUAL, 0, 1, opaque as u32),
        step(RETURN, 0, 0, SeccompAction::Errno(Errno::NOSYS.raw_os_error().cast_unsigned()).into()),
        step(RETURN, 0, 0, SeccompAction::Allow.into()),
    ]
}

/// Denies this process, all of its threads, and all that it starts, what `confinement` denies, for good.
pub(super) fn apply(confinement: &Confinement) -> io::Result<()> {
    let invalid = |error: BackendError| io::Error::other(error.to_string());
    let list = List::of(confinement, std::process::id().into()).map_err(invalid)?;
    let denied = SeccompAction::Errno(Errno::PERM.raw_os_error().cast_unsigned());
    let architecture = std::env::consts::ARCH.try_into().map_err(invalid)?;
    let filter = SeccompFilter::new(list.0, SeccompAction::Allow, denied, architecture).map_err(invalid)?;
    let filter: BpfProgram = filter.try_into().map_err(invalid)?;
    for program in [&filter, &unknown(confinement)] {
        apply_filter_all_threads(program).map_err(|error| match error {
            seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
            error => io::Error::other(error.to_string()),
        })?;
    }
    Ok(())
}
