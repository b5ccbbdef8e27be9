//! The system calls that a confined process is denied: a seccomp filter.
//!
//! The list is of what is denied, with `EPERM`, as a program may use any of some hundred harmless calls. Calls that are
//! newer than the list or of other conventions (32 bits, x32) do not exist for a confined process.
//!
//! Where files are denied, `ioctl` and `fcntl` have lists of what is allowed instead: each file system and each driver
//! has requests of its own, some of which change a file that is open for reading. Of terminals' and consoles' requests
//! there is such a list in any case: a standard stream may be one.

use super::Devices;
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
    pub(super) const SYS_futex_requeue: c_long = 456;
    pub(super) const MFD_HUGETLB: c_int = 4;
    pub(super) const F_GETLK: c_int = 5;
    pub(super) const F_SETLK: c_int = 6;
    pub(super) const F_SETLKW: c_int = 7;
    pub(super) const F_SETSIG: c_int = 10;
    pub(super) const F_GETSIG: c_int = 11;
    pub(super) const F_SETOWN_EX: c_int = 15;
    pub(super) const F_GETOWN_EX: c_int = 16;
    pub(super) const F_GETOWNER_UIDS: c_int = 17;
    pub(super) const F_DUPFD_QUERY: c_int = 1027;
    pub(super) const F_CREATED_QUERY: c_int = 1028;
    pub(super) const F_GET_RW_HINT: c_int = 1035;
    pub(super) const F_GET_FILE_RW_HINT: c_int = 1037;
    pub(super) const F_GETDELEG: c_int = 1039;
    pub(super) const TIOCGPTN: Ioctl = 0x8004_5430_u32 as Ioctl;
    pub(super) const TIOCSPTLCK: Ioctl = 0x4004_5431;
    pub(super) const TIOCGPTLCK: Ioctl = 0x8004_5439_u32 as Ioctl;
    pub(super) const TIOCGPTPEER: Ioctl = 0x5441;
    pub(super) const TIOCVHANGUP: Ioctl = 0x5437;
    pub(super) const FIOQSIZE: Ioctl = 0x5460;
    pub(super) const FIOSETOWN: Ioctl = 0x8901;
    pub(super) const SIOCSPGRP: Ioctl = 0x8902;
    pub(super) const FIOGETOWN: Ioctl = 0x8903;
    pub(super) const SIOCGPGRP: Ioctl = 0x8904;
    pub(super) const SIOCATMARK: Ioctl = 0x8905;
    pub(super) const SIOCGSTAMP: Ioctl = 0x8906;
    pub(super) const SIOCGSTAMPNS: Ioctl = 0x8907;
    pub(super) const FIGETBSZ: Ioctl = 2;
    pub(super) const FS_IOC_GETFLAGS: Ioctl = 0x8008_6601_u32 as Ioctl;
    pub(super) const FS_IOC_SETFLAGS: Ioctl = 0x4008_6602;
    pub(super) const FS_IOC_GETVERSION: Ioctl = 0x8008_7601_u32 as Ioctl;
    pub(super) const FS_IOC_FSGETXATTR: Ioctl = 0x801c_581f_u32 as Ioctl;
    pub(super) const FS_IOC_FSSETXATTR: Ioctl = 0x401c_5820;
    pub(super) const FS_IOC_GETFSLABEL: Ioctl = 0x8100_9431_u32 as Ioctl;
    pub(super) const FS_IOC_FIEMAP: Ioctl = 0xc020_660b_u32 as Ioctl;
    pub(super) const FICLONE: Ioctl = 0x4004_9409;
    pub(super) const FICLONERANGE: Ioctl = 0x4020_940d;
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

/// A standard stream may be a terminal. `TIOCSTI` types into it and `TIOCLINUX` pastes; `TIOCSETD` loads drivers; the
/// others take it away from those who use it.
const NEVER_CONTROLS: &[sys::Ioctl] =
    names! { TIOCSTI TIOCLINUX TIOCSETD TIOCSPGRP TIOCSCTTY TIOCNOTTY TIOCCONS TIOCVHANGUP };

/// What may be asked of the terminals that a process makes for itself.
const PSEUDOTERMINAL_CONTROLS: &[sys::Ioctl] = names! { TIOCGPTN TIOCSPTLCK TIOCGPTLCK TIOCGPTPEER };

/// The letters of file systems' own requests: those of ext4 and many others, of versions, XFS, Btrfs, F2FS, FAT, Ceph, SMB,
/// bcachefs, NILFS and OCFS2.
const FILE_SYSTEM_CONTROLS: &[u8] = &[b'f', b'v', b'X', 0x94, 0xf5, b'r', 0x97, 0xcf, 0xbc, b'n', b'o'];

/// What may be asked of an open file where other files are denied: what it is, how much can be read, and what only
/// concerns this process's descriptor.
const CONTROLS: &[sys::Ioctl] = names! {
    FIOCLEX FIONCLEX FIONBIO FIONREAD FIOQSIZE FIGETBSZ FIOGETOWN SIOCGPGRP
    TCGETS TCGETS2 TCGETA TIOCGWINSZ TIOCGPGRP TIOCGSID TIOCGETD TIOCOUTQ
    SIOCATMARK SIOCGSTAMP SIOCGSTAMPNS
    FS_IOC_GETFLAGS FS_IOC_GETVERSION FS_IOC_FSGETXATTR FS_IOC_GETFSLABEL FS_IOC_FIEMAP
};

/// These write to a file that is open for writing.
const WRITING_CONTROLS: &[sys::Ioctl] = names! { FICLONE FICLONERANGE };

/// Which interfaces the machine has. The crate `libc` gives them another type than requests have with musl.
const NETWORK_CONTROLS: &[sys::Ioctl] = &[
    sys::SIOCGIFNAME as _,
    sys::SIOCGIFCONF as _,
    sys::SIOCGIFFLAGS as _,
    sys::SIOCGIFADDR as _,
    sys::SIOCGIFDSTADDR as _,
    sys::SIOCGIFBRDADDR as _,
    sys::SIOCGIFNETMASK as _,
    sys::SIOCGIFMETRIC as _,
    sys::SIOCGIFMTU as _,
    sys::SIOCGIFHWADDR as _,
    sys::SIOCGIFINDEX as _,
    sys::SIOCGIFTXQLEN as _,
    sys::SIOCGIFMAP as _,
];

/// The same for `fcntl`. Missing are leases and notifications, which hold up whoever opens a file next; the size of a
/// pipe, of which each user has a share; and what is newer than this list.
const COMMANDS: &[sys::c_int] = names! {
    F_DUPFD F_DUPFD_CLOEXEC F_DUPFD_QUERY F_CREATED_QUERY F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_OFD_GETLK
    F_GETOWN F_GETOWN_EX F_GETOWNER_UIDS F_GETSIG F_GETLEASE F_GETDELEG F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS
    F_GET_RW_HINT F_GET_FILE_RW_HINT
};

/// They can be held on a file that is open for reading, and keep others from writing to it.
const LOCKING_COMMANDS: &[sys::c_int] = names! { F_SETLK F_SETLKW F_OFD_SETLK F_OFD_SETLKW };

/// Each user, or the whole machine, has so many of them; and what writes out everybody's files. One's own is `fsync`.
const SCARCE: &[sys::c_long] = names! { SYS_io_setup SYS_inotify_init1 SYS_sync SYS_syncfs; SYS_inotify_init };

/// The machine has so much memory for filters, those of sockets among them.
const SOCKET_FILTERS: &[sys::c_int] =
    names! { SO_ATTACH_FILTER SO_ATTACH_BPF SO_ATTACH_REUSEPORT_CBPF SO_ATTACH_REUSEPORT_EBPF };

/// What waits in a pipe may be a few bytes of a huge page that the process has given up, and counts nowhere.
const HOARDING: &[sys::c_long] = names! { SYS_vmsplice };

/// On memory which several processes share, these lead threads that sleep there to another word, where nobody wakes
/// them; or they sleep there with a priority to hand on, and every `FUTEX_WAKE` on that word fails. The C libraries use
/// those for one process's memory.
const AGAINST_SLEEPERS: &[sys::c_int] = names! {
    FUTEX_REQUEUE FUTEX_CMP_REQUEUE FUTEX_CMP_REQUEUE_PI FUTEX_WAKE_OP
    FUTEX_LOCK_PI FUTEX_LOCK_PI2 FUTEX_TRYLOCK_PI FUTEX_WAIT_REQUEUE_PI
};

/// In a new namespace, a process may do what it may not do outside.
const NAMESPACES: &[sys::c_int] = names! {
    CLONE_NEWNS CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET
};

const STARTING: &[sys::c_long] = names! { SYS_execve SYS_execveat; SYS_fork SYS_vfork };

/// Signals to a process that is given by a handle.
const SIGNALS_BY_HANDLE: &[sys::c_long] = names! { SYS_pidfd_open SYS_pidfd_send_signal };

/// Signals to a process whose number is the first argument; for `tkill`, with which musl's `raise` and `abort` end the
/// main thread, to a thread.
const SIGNALS: &[sys::c_long] = names! { SYS_kill SYS_tkill SYS_tgkill SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo };

/// With these, a descriptor that becomes ready sends a signal to any process.
const SIGNALLING_FCNTLS: &[sys::c_int] = names! { F_SETOWN F_SETSIG F_SETOWN_EX };
const SIGNALLING_CONTROLS: &[sys::Ioctl] = names! { FIOASYNC FIOSETOWN SIOCSPGRP };

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

/// Those that open files, and which argument has the flags. With an access mode of three, a file is opened for neither
/// reading nor writing: Landlock asks for no right then, and what can be done with the descriptor is done.
const OPENING: &[(&[sys::c_long], u8)] = &[(names! { SYS_openat }, 2), (names! {; SYS_open }, 1)];
const NO_ACCESS: u64 = 3;

/// `O_CREAT`; and what is in `O_TMPFILE` alone.
const MAKING: [sys::c_int; 2] = [sys::O_CREAT, sys::O_TMPFILE & !sys::O_DIRECTORY];

#[derive(Default)]
struct DeniedCalls(BTreeMap<i64, Vec<SeccompRule>>);

/// What an argument has to be: its index, and how it compares. All are 32 bits, as the kernel takes them.
type Condition = (u8, Op, u64);

fn flag(index: u8, flag: sys::c_int) -> Condition {
    let flag = flag.cast_unsigned().into();
    (index, Op::MaskedEq(flag), flag)
}

impl DeniedCalls {
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

    fn of(confinement: &Confinement, own: u64, devices: Devices) -> Result<Self, BackendError> {
        let mut list = Self::default();
        list.deny(NEVER);
        for namespace in NAMESPACES {
            list.deny_if(&[sys::SYS_clone], &[flag(0, *namespace)])?;
        }
        // A child of the parent's would be unknown there, and outlive the sandbox.
        list.deny_if(&[sys::SYS_clone], &[flag(0, sys::CLONE_PARENT)])?;
        for command in AGAINST_SLEEPERS {
            // With the flag that the memory is this process's own, they are harmless; another flag chooses a clock.
            let any_clock = u64::from(!sys::FUTEX_CLOCK_REALTIME.cast_unsigned());
            list.deny_if(&[sys::SYS_futex], &[(1, Op::MaskedEq(any_clock), command.cast_unsigned().into())])?;
        }
        // The limits and scheduling of other processes; 0 is the caller.
        let of_process = names! { SYS_prlimit64 SYS_sched_setscheduler SYS_sched_setparam SYS_sched_setattr };
        list.deny_if(of_process, &[(0, Op::Ne, 0), (0, Op::Ne, own)])?;
        // `PRIO_PROCESS` and `IOPRIO_WHO_PROCESS`; the others are of many processes.
        for (call, process) in [(sys::SYS_setpriority, 0), (sys::SYS_ioprio_set, 1)] {
            list.deny_if(&[call], &[(0, Op::Ne, process)])?;
            list.deny_if(&[call], &[(1, Op::Ne, 0), (1, Op::Ne, own)])?;
        }
        if !confinement.processes {
            list.deny(STARTING);
            // Who leads a session gets a terminal by opening it.
            list.deny(&[sys::SYS_setsid]);
            let thread = u64::from(sys::CLONE_THREAD.cast_unsigned());
            list.deny_if(&[sys::SYS_clone], &[(0, Op::MaskedEq(thread), 0)])?;
            // The limit is of a table of descriptors: no thread has one of its own.
            let files = u64::from(sys::CLONE_FILES.cast_unsigned());
            list.deny_if(&[sys::SYS_clone], &[(0, Op::MaskedEq(files), 0)])?;
            list.deny_if(&[sys::SYS_close_range], &[flag(2, sys::CLOSE_RANGE_UNSHARE.cast_signed())])?;
            list.deny(SIGNALS_BY_HANDLE);
            list.deny_if(SIGNALS, &[(0, Op::Ne, own)])?;
            // The kernel ends this process with its parent: nobody chooses another signal, or none.
            let ends_with_parent = (0, Op::Eq, sys::PR_SET_PDEATHSIG.cast_unsigned().into());
            list.deny_if(&[sys::SYS_prctl], &[ends_with_parent, (1, Op::Ne, sys::SIGKILL.cast_unsigned().into())])?;
            for command in SIGNALLING_FCNTLS {
                list.deny_if(&[sys::SYS_fcntl], &[(1, Op::Eq, command.cast_unsigned().into())])?;
            }
            list.deny_controls(SIGNALLING_CONTROLS)?;
            // Own threads have numbers of their own, which nothing tells from those of other processes.
            list.deny_if(&[sys::SYS_sched_setaffinity], &[(0, Op::Ne, 0), (0, Op::Ne, own)])?;
            if confinement.limits.memory.is_some() {
                list.deny_shared_memory()?;
            }
        }
        if confinement.limits.memory.is_some() {
            // A stack counts as no memory, and each may become as large as the limit for stacks.
            list.deny_if(&[sys::SYS_mmap], &[flag(3, sys::MAP_GROWSDOWN)])?;
            list.deny(HOARDING);
            if !confinement.processes {
                // Who starts none confines none.
                list.deny(&[sys::SYS_landlock_create_ruleset]);
            }
            if !confinement.network {
                let level = (1, Op::Eq, sys::SOL_SOCKET.cast_unsigned().into());
                for option in [sys::SO_SNDBUF, sys::SO_RCVBUF] {
                    let option = (2, Op::Eq, option.cast_unsigned().into());
                    list.deny_if(&[sys::SYS_setsockopt], &[level.clone(), option])?;
                }
            }
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
            list.deny(SCARCE);
            // The machine has so many huge pages.
            list.deny_if(&[sys::SYS_mmap], &[flag(3, sys::MAP_HUGETLB)])?;
            list.deny_if(&[sys::SYS_memfd_create], &[flag(1, sys::MFD_HUGETLB)])?;
            if !confinement.processes {
                // Who starts none confines none; the machine has so much memory for filters.
                list.deny(&[sys::SYS_seccomp]);
                list.deny_if(&[sys::SYS_prctl], &[(0, Op::Eq, sys::PR_SET_SECCOMP.cast_unsigned().into())])?;
            }
            for option in SOCKET_FILTERS {
                let level = (1, Op::Eq, sys::SOL_SOCKET.cast_unsigned().into());
                let option = (2, Op::Eq, option.cast_unsigned().into());
                list.deny_if(&[sys::SYS_setsockopt], &[level, option])?;
            }
            for (calls, flags) in OPENING {
                list.deny_if(calls, &[(*flags, Op::MaskedEq(NO_ACCESS), NO_ACCESS)])?;
            }
            if !files.attributes {
                list.deny(ATTRIBUTES);
            } else {
                // With a path; without one it is that of the descriptor. A pointer: either half may be zero.
                let path = SeccompCondition::new(1, Length::Qword, Op::Ne, 0)?;
                list.0.entry(sys::SYS_utimensat).or_default().push(SeccompRule::new(vec![path])?);
            }
            if !files.locks {
                list.deny(&[sys::SYS_flock]);
            }
            list.deny_rights_of_others()?;
        }
        list.deny_controls(NEVER_CONTROLS)?;
        if confinement.files.is_some() && devices != Devices::NotNamed {
            for letter in FILE_SYSTEM_CONTROLS {
                let letter = u64::from(*letter) << 8;
                list.deny_if(&[sys::SYS_ioctl], &[(1, Op::MaskedEq(0xff00), letter)])?;
            }
        }
        Ok(list)
    }

    fn deny_controls(&mut self, controls: &[sys::Ioctl]) -> Result<(), BackendError> {
        controls.iter().try_for_each(|control| self.deny_if(&[sys::SYS_ioctl], &[(1, Op::Eq, *control as _)]))
    }

    /// No limit of the kernel's counts it: it would go beyond the one for memory.
    fn deny_shared_memory(&mut self) -> Result<(), BackendError> {
        self.deny(names! { SYS_memfd_create SYS_memfd_secret });
        let anonymous = flag(3, sys::MAP_ANONYMOUS);
        for shared in [sys::MAP_SHARED, sys::MAP_SHARED_VALIDATE] {
            let kind = (3, Op::MaskedEq(0xf), shared.cast_unsigned().into());
            self.deny_if(&[sys::SYS_mmap], &[kind, anonymous.clone()])?;
        }
        Ok(())
    }
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const IF_GREATER: u16 = 0x25;
const IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn refuse(with: Errno) -> sock_filter {
    step(RETURN, 0, 0, SeccompAction::Errno(with.raw_os_error().cast_unsigned()).into())
}

/// Answers `ENOSYS` for unknown calls, and for those whose arguments a filter cannot see, so that programs use older
/// ones: `clone3` with its flags, `futex_requeue` and, where files are denied, `openat2` with its flags and mode.
fn unknown(confinement: &Confinement) -> BpfProgram {
    let opaque = if confinement.files.is_some() { sys::SYS_openat2 } else { sys::SYS_clone3 };
    vec![
        // The number is the first word. Those of x32 have a high bit set.
        step(LOAD, 0, 0, 0),
        step(IF_GREATER, 3, 0, LATEST),
        step(IF_EQUAL, 2, 0, sys::SYS_clone3 as u32),
        step(IF_EQUAL, 1, 0, sys::SYS_futex_requeue as u32),
        step(IF_EQUAL, 0, 1, opaque as u32),
        refuse(Errno::NOSYS),
        step(RETURN, 0, 0, SeccompAction::Allow.into()),
    ]
}

/// The second argument follows the number, the architecture, the address and the first argument. The kernel looks at its
/// lower half alone.
const SECOND: u32 = 4 + 4 + 8 + 8;

/// Allows all calls but one; what follows is about that one.
fn about(call: sys::c_long) -> BpfProgram {
    vec![step(LOAD, 0, 0, 0), step(IF_EQUAL, 1, 0, call as u32), step(RETURN, 0, 0, SeccompAction::Allow.into())]
}

/// Denies it unless its second argument is in a list.
fn only(allowed: &[u32]) -> BpfProgram {
    let mut program = vec![step(LOAD, 0, 0, SECOND)];
    // Each leads to the end.
    let ahead = (1..=allowed.len()).rev().map(|ahead| u8::try_from(ahead).expect("a list is short"));
    program.extend(allowed.iter().zip(ahead).map(|(request, ahead)| step(IF_EQUAL, ahead, 0, *request)));
    program.extend([refuse(Errno::PERM), step(RETURN, 0, 0, SeccompAction::Allow.into())]);
    program
}

/// Denies all requests of consoles, and those of terminals that are not in a list. Others pass.
///
/// They are of the times before requests said what they carry: the upper half is zero, and the second byte is `K` or `V`
/// for consoles, `T` for terminals. The newer ones of terminals have numbers among `T` that no other driver uses: from
/// 0x20 to 0x7f. Of the older ones, timers of sound have four (`_IO('T', 0xa0)` and so on), which no terminal has.
fn terminals(allowed: &[u32]) -> BpfProgram {
    const CONSOLE: u32 = 0x4b00;
    const SCREEN: u32 = 0x5600;
    const TERMINAL: u32 = 0x5400;
    const SOUND_TIMER: u32 = TERMINAL | 0xa0;
    let of_sound = [
        step(LOAD, 0, 0, SECOND),
        step(AND, 0, 0, 0xffff_fffc),
        step(IF_EQUAL, 0, 1, SOUND_TIMER),
        step(RETURN, 0, 0, SeccompAction::Allow.into()),
    ];
    let plain = [
        step(LOAD, 0, 0, SECOND),
        step(AND, 0, 0, 0xffff_ff00),
        step(IF_EQUAL, 8, 0, CONSOLE),
        step(IF_EQUAL, 7, 0, SCREEN),
        step(IF_EQUAL, 6, 0, TERMINAL),
    ];
    let newer = [
        step(LOAD, 0, 0, SECOND),
        step(AND, 0, 0, 0xffe0),
        step(IF_EQUAL, 3, 0, TERMINAL | 0x20),
        step(IF_EQUAL, 2, 0, TERMINAL | 0x40),
        step(IF_EQUAL, 1, 0, TERMINAL | 0x60),
    ];
    [&of_sound[..], &plain, &newer, &[step(RETURN, 0, 0, SeccompAction::Allow.into())], &only(allowed)].concat()
}

/// What is asked of open files: where others are denied, what is in a list, and otherwise what is no terminal's.
fn requests(confinement: &Confinement, devices: Devices) -> Vec<BpfProgram> {
    let mut controls = CONTROLS.to_vec();
    let mut programs = Vec::new();
    if confinement.network {
        controls.extend(NETWORK_CONTROLS);
    }
    if confinement.processes {
        controls.extend(SIGNALLING_CONTROLS);
    }
    if let Some(files) = &confinement.files {
        let mut commands = COMMANDS.to_vec();
        if files.locks {
            commands.extend(LOCKING_COMMANDS);
        }
        if confinement.processes {
            commands.extend(SIGNALLING_FCNTLS);
        }
        if !files.writes.is_empty() {
            controls.extend(WRITING_CONTROLS);
        }
        if files.attributes {
            controls.extend(ATTRIBUTE_CONTROLS);
        }
        let commands: Vec<u32> = commands.into_iter().map(i32::cast_unsigned).collect();
        programs.push([about(sys::SYS_fcntl), only(&commands)].concat());
    }
    let list = |controls: Vec<sys::Ioctl>| controls.into_iter().map(|control| control as u32).collect::<Vec<_>>();
    let ioctl = match (&confinement.files, devices) {
        (Some(_), Devices::NotNamed) => only(&list(controls)),
        (Some(_), Devices::Terminals) => return programs,
        (None, _) | (Some(_), Devices::Named) => {
            controls.extend(PSEUDOTERMINAL_CONTROLS);
            terminals(&list(controls))
        }
    };
    programs.push([about(sys::SYS_ioctl), ioctl].concat());
    programs
}

/// Denies this process, all of its threads, and all that it starts, what `confinement` denies, for good.
pub(super) fn apply(confinement: &Confinement, devices: Devices) -> io::Result<()> {
    let invalid = |error: BackendError| io::Error::other(error.to_string());
    let list = DeniedCalls::of(confinement, std::process::id().into(), devices).map_err(invalid)?;
    let denied = SeccompAction::Errno(Errno::PERM.raw_os_error().cast_unsigned());
    let architecture = std::env::consts::ARCH.try_into().map_err(invalid)?;
    let filter = SeccompFilter::new(list.0, SeccompAction::Allow, denied, architecture).map_err(invalid)?;
    let filter: BpfProgram = filter.try_into().map_err(invalid)?;
    let mut programs = vec![unknown(confinement)];
    programs.extend(requests(confinement, devices));
    // The last one, as it may deny more of them.
    programs.push(filter);
    for program in &programs {
        apply_filter_all_threads(program).map_err(|error| match error {
            seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
            error => io::Error::other(error.to_string()),
        })?;
    }
    Ok(())
}
