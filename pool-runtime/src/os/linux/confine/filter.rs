//! The system calls that a confined process is refused: a seccomp filter.
//!
//! The list is of what is denied, as a program may use any of some hundred harmless calls. For what it promises it is
//! meant to be whole: calls that are newer than this list, and those of other conventions (32 bits, x32), are not there
//! for a confined process. Refused calls return `EPERM`, so that the program can tell, and say so.

use crate::os::Confinement;
use libc::c_long;
use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads, sock_filter,
};
use std::collections::BTreeMap;
use std::io;

/// The highest number of a system call that this list was made with: that of Linux 6.18.
const LATEST: u32 = 469;

/// Those that have no name in the crate `libc` yet; the same on all architectures.
mod number {
    use super::c_long;
    pub(super) const CLONE3: u32 = 435;
    pub(super) const OPENAT2: u32 = 437;
    pub(super) const PIDFD_GETFD: c_long = 438;
    pub(super) const PROCESS_MADVISE: c_long = 440;
    pub(super) const MOUNT_SETATTR: c_long = 442;
    pub(super) const QUOTACTL_FD: c_long = 443;
    pub(super) const PROCESS_MRELEASE: c_long = 448;
    pub(super) const FCHMODAT2: c_long = 452;
    pub(super) const STATMOUNT: c_long = 457;
    pub(super) const LISTMOUNT: c_long = 458;
    pub(super) const SETXATTRAT: c_long = 463;
    pub(super) const REMOVEXATTRAT: c_long = 466;
    pub(super) const OPEN_TREE_ATTR: c_long = 467;
    pub(super) const FILE_SETATTR: c_long = 469;
}

/// What would lead out of any confinement, or is no business of a confined process.
const NEVER: &[c_long] = &[
    // Other processes' memory, descriptors and secrets.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    number::PROCESS_MADVISE,
    number::PROCESS_MRELEASE,
    number::PIDFD_GETFD,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Whatever is asked for through io_uring, no filter sees.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Programs and probes in the kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_syslog,
    // What is where in the tree of files, and what it is seen from.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    number::OPEN_TREE_ATTR,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    number::MOUNT_SETATTR,
    number::STATMOUNT,
    number::LISTMOUNT,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    // Files by handle, and those that others open.
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    // The machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    number::QUOTACTL_FD,
    libc::SYS_nfsservctl,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    // Memory, locks and messages that any process of this user reaches by a number or a name.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmdt,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_notify,
    libc::SYS_mq_getsetattr,
];

#[cfg(target_arch = "x86_64")]
const NEVER_HERE: &[c_long] =
    &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib, libc::SYS__sysctl];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_HERE: &[c_long] = &[];

/// Standard output may be a terminal. `TIOCSTI` types into it and `TIOCLINUX` pastes; `TIOCSETD` loads drivers; the
/// others take it away from those who use it.
const NEVER_CONTROLS: &[libc::Ioctl] =
    &[libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD, libc::TIOCSPGRP, libc::TIOCSCTTY, libc::TIOCCONS];

/// A new namespace is a place where a process may do what it may not do here.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

const STARTING: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// Signals to a process that is given by a handle, or to a thread of whichever process.
const SIGNALS_TO_ANYBODY: &[c_long] = &[libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_tkill];

/// Signals to a process whose number comes first.
const SIGNALS: &[c_long] = &[libc::SYS_kill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo];

/// A descriptor that is ready sends a signal, to whom and whichever one is asked for.
const SIGNALLING_FCNTLS: [libc::c_int; 3] = [libc::F_SETOWN, F_SETSIG, F_SETOWN_EX];
const F_SETSIG: libc::c_int = 10;
const F_SETOWN_EX: libc::c_int = 15;
/// The same, asked for in another way: `FIOSETOWN`, `SIOCSPGRP`.
const SIGNALLING_CONTROLS: &[libc::Ioctl] = &[0x8901, 0x8902];

const NETWORK: &[c_long] =
    &[libc::SYS_socket, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4];

/// Changes of what is said about a file, where the file is given by its path; and news of what happens to it.
const ATTRIBUTES_BY_PATH: &[c_long] = &[
    libc::SYS_fchmodat,
    number::FCHMODAT2,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    number::SETXATTRAT,
    number::REMOVEXATTRAT,
    number::FILE_SETATTR,
    libc::SYS_inotify_add_watch,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
];

/// The same, where it is open.
const ATTRIBUTES: &[c_long] =
    &[libc::SYS_fchmod, libc::SYS_fchown, libc::SYS_fsetxattr, libc::SYS_fremovexattr, libc::SYS_utimensat];

/// `FS_IOC_SETFLAGS`, `FS_IOC_FSSETXATTR`.
const ATTRIBUTE_CONTROLS: &[libc::Ioctl] = &[0x4008_6602, 0x401c_5820];

/// Calls that say which mode a file is to have, in this argument.
const MODES: &[(c_long, u8)] = &[
    (libc::SYS_fchmod, 1),
    (libc::SYS_mknodat, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, 1),
];

/// The same for those that open files, where the flags before it say that they make one.
const MODES_OF_NEW: &[(c_long, u8)] = &[
    (libc::SYS_openat, 3),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 2),
];

/// A process that runs such a file has the rights of its owner, or its group.
const RIGHTS_OF_OTHERS: [u32; 2] = [libc::S_ISUID, libc::S_ISGID];

/// `O_CREAT`; and what is in `O_TMPFILE` alone.
const MAKING: [libc::c_int; 2] = [libc::O_CREAT, libc::O_TMPFILE & !libc::O_DIRECTORY];

/// Says which calls are refused, and when.
#[derive(Default)]
struct List(BTreeMap<i64, Vec<SeccompRule>>);

/// What an argument has to be: its index, and how it compares. All are 32 bits, as
/// the kernel takes them.
type Condition = (u8, Op, u64);

impl List {
    /// Whatever the arguments.
    fn deny(&mut self, calls: &[c_long]) {
        // No rules: always.
        self.0.extend(calls.iter().map(|call| (*call, Vec::new())));
    }

    /// Where all these hold.
    fn deny_if(&mut self, call: c_long, conditions: &[Condition]) -> Result<(), seccompiler::BackendError> {
        let rules = self.0.entry(call);
        if let std::collections::btree_map::Entry::Occupied(rules) = &rules
            && rules.get().is_empty()
        {
            return Ok(());
        }
        let condition =
            |(index, op, value): &Condition| SeccompCondition::new(*index, Length::Dword, op.clone(), *value);
        let conditions = conditions.iter().map(condition).collect::<Result<_, _>>()?;
        rules.or_default().push(SeccompRule::new(conditions)?);
        Ok(())
    }

    /// Makes no file that runs with its owner's rights: outside, somebody may start it.
    fn deny_rights_of_others(&mut self) -> Result<(), seccompiler::BackendError> {
        for bit in RIGHTS_OF_OTHERS.map(u64::from) {
            for (call, mode) in MODES {
                self.deny_if(*call, &[(*mode, Op::MaskedEq(bit), bit)])?;
            }
            for (call, mode) in MODES_OF_NEW {
                for flag in MAKING.map(|flag| u64::from(flag.cast_unsigned())) {
                    self.deny_if(*call, &[(*mode - 1, Op::MaskedEq(flag), flag), (*mode, Op::MaskedEq(bit), bit)])?;
                }
            }
        }
        Ok(())
    }

    fn of(confinement: &Confinement, own: u32) -> Result<Self, seccompiler::BackendError> {
        let own = u64::from(own);
        let mut list = Self::default();
        list.deny(NEVER);
        list.deny(NEVER_HERE);
        let mut controls = NEVER_CONTROLS.to_vec();
        for namespace in NAMESPACES {
            let flag = u64::from(namespace.cast_unsigned());
            list.deny_if(libc::SYS_clone, &[(0, Op::MaskedEq(flag), flag)])?;
        }
        // Others' limits and places in the queue for a processor; 0 is the caller.
        for call in [
            libc::SYS_prlimit64,
            libc::SYS_sched_setaffinity,
            libc::SYS_sched_setscheduler,
            libc::SYS_sched_setparam,
            libc::SYS_sched_setattr,
        ] {
            list.deny_if(call, &[(0, Op::Ne, 0), (0, Op::Ne, own)])?;
        }
        // `PRIO_PROCESS` and `IOPRIO_WHO_PROCESS`; the others are of many processes.
        for (call, process) in [(libc::SYS_setpriority, 0), (libc::SYS_ioprio_set, 1)] {
            list.deny_if(call, &[(0, Op::Ne, process)])?;
            list.deny_if(call, &[(1, Op::Ne, 0), (1, Op::Ne, own)])?;
        }
        if !confinement.processes {
            list.deny(STARTING);
            let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
            list.deny_if(libc::SYS_clone, &[(0, Op::MaskedEq(thread), 0)])?;
            list.deny(SIGNALS_TO_ANYBODY);
            for call in SIGNALS {
                list.deny_if(*call, &[(0, Op::Ne, own)])?;
            }
            for command in SIGNALLING_FCNTLS {
                list.deny_if(libc::SYS_fcntl, &[(1, Op::Eq, u64::from(command.cast_unsigned()))])?;
            }
            controls.extend(SIGNALLING_CONTROLS);
        }
        if !confinement.network {
            list.deny(NETWORK);
            // A pair of sockets is no network, unless they can be used to reach a third one: those that send
            // packets to whom they like can. Streams (1) and streams of packets (5) cannot.
            list.deny_if(libc::SYS_socketpair, &[(0, Op::Ne, u64::from(libc::AF_UNIX.cast_unsigned()))])?;
            for kind in (0..16).filter(|kind| ![1, 5].contains(kind)) {
                list.deny_if(libc::SYS_socketpair, &[(1, Op::MaskedEq(0xf), kind)])?;
            }
        }
        if let Some(files) = &confinement.files {
            list.deny(ATTRIBUTES_BY_PATH);
            if files.writes.is_empty() {
                list.deny(ATTRIBUTES);
                controls.extend(ATTRIBUTE_CONTROLS);
            } else {
                // With a path; without one it is that of the descriptor. A pointer: either half may be zero.
                let path = |half| SeccompCondition::new(1, Length::Qword, half, 0);
                let rules = list.0.entry(libc::SYS_utimensat).or_default();
                rules.push(SeccompRule::new(vec![path(Op::Ne)?])?);
                list.deny_rights_of_others()?;
            }
        }
        for control in controls {
            list.deny_if(libc::SYS_ioctl, &[(1, Op::Eq, control as _)])?;
        }
        Ok(list)
    }
}

/// Answers `ENOSYS` for calls that this list does not know, and for those whose arguments a filter cannot see, so that
/// programs use older ones: `clone3`, whose flags say what is started, and, where files may be written, `openat2`,
/// whose mode says what is made.
fn unknown(confinement: &Confinement) -> BpfProgram {
    const LOAD: u16 = 0x20;
    const IF_GREATER: u16 = 0x25;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let writes = confinement.files.as_ref().is_some_and(|files| !files.writes.is_empty());
    let opaque = if writes { number::OPENAT2 } else { number::CLONE3 };
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        // The number is the first word. Those of x32 have a high bit set.
        step(LOAD, 0, 0, 0),
        step(IF_GREATER, 2, 0, LATEST),
        step(IF_EQUAL, 1, 0, number::CLONE3),
        step(IF_EQUAL, 0, 1, opaque),
        step(RETURN, 0, 0, SeccompAction::Errno(Errno::NOSYS.raw_os_error().cast_unsigned()).into()),
        step(RETURN, 0, 0, SeccompAction::Allow.into()),
    ]
}

/// Refuses this process, all of its threads, and all that it starts, what `confinement` denies, for good.
pub(super) fn apply(confinement: &Confinement) -> io::Result<()> {
    let invalid = |error: seccompiler::BackendError| io::Error::other(error.to_string());
    let list = List::of(confinement, std::process::id()).map_err(invalid)?;
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
