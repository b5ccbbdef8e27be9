//! System calls that would lead out of a sandbox are refused, each of them; those that this library does not know are
//! not there.

use crate::support::{builder, over_every_transport, pool};
use pool_runtime::{Pool, Sandbox, task};

over_every_transport! {
    they_are_refused,
    requests_of_terminals_are_by_a_list,
    nobody_is_moved_in_their_sleep,
    nobody_leads_a_session_or_becomes_another_user,
    what_is_needed_is_not,
}

/// What comes of a call with these arguments: an error number, or 0.
fn raw(call: i64, arguments: [i64; 4]) -> i32 {
    let [a, b, c, d] = arguments;
    // SAFETY: they are meant to be refused; if they are not, their pointers are null and their numbers small or
    // invalid.
    let done = unsafe { libc::syscall(call, a, b, c, d, 0, 0) };
    if done >= 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) }
}

#[task]
fn try_all(calls: &[i64]) -> Vec<(i64, i32)> {
    calls.iter().map(|call| (*call, raw(*call, [0; 4]))).collect()
}

#[task]
fn try_one(call: i64, arguments: [i64; 4]) -> i32 {
    raw(call, arguments)
}

/// Those that are harmless with arguments of 0 if they are not refused, and fail in another way then.
const REFUSED: [i64; 36] = [
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    442,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_shmget,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_clock_settime,
];

fn inside(sandbox: Sandbox) -> Pool {
    builder().processes(1).sandbox(sandbox).build().expect("a pool")
}

fn they_are_refused() {
    // Whatever else is allowed.
    let open = Sandbox::strict().read("/").network(true).processes(true);
    for sandbox in [Sandbox::strict(), open, Sandbox::none().network(false)] {
        let pool = inside(sandbox);
        for (call, error) in pool.apply(try_all::call(&REFUSED)).unwrap() {
            assert_eq!(error, libc::EPERM, "call {call}");
        }
        let trace_me = pool.apply(try_one::call(libc::SYS_ptrace, [0; 4])).unwrap();
        assert_eq!(trace_me, libc::EPERM);
        // Into the terminal; how it works, what it holds, and whether it goes on.
        let others = [libc::TCSETS as i64, libc::TCSETSF as i64, 0x402c_542b, libc::TCFLSH as i64, libc::TCXONC as i64];
        for control in [libc::TIOCSTI as i64, 0x541C].into_iter().chain(others) {
            assert_eq!(pool.apply(try_one::call(libc::SYS_ioctl, [1, control, 0, 0])).unwrap(), libc::EPERM);
            // The kernel looks at 32 bits of it.
            let disguised = control | 1 << 40;
            assert_eq!(pool.apply(try_one::call(libc::SYS_ioctl, [1, disguised, 0, 0])).unwrap(), libc::EPERM);
        }
        // Of the future, and of x32, which has the numbers of others with a bit set.
        for unknown in [470, 1000, 0x4000_0000 | libc::SYS_getpid] {
            assert_eq!(pool.apply(try_one::call(unknown, [0; 4])).unwrap(), libc::ENOSYS, "call {unknown:#x}");
        }
    }
}

/// What is asked of standard output, which is a pipe here: an error number.
fn asked(pool: &Pool, request: u64) -> i32 {
    pool.apply(try_one::call(libc::SYS_ioctl, [1, request as i64, 0, 0])).unwrap()
}

fn requests_of_terminals_are_by_a_list() {
    // `KDSETMODE`, `KDSKBMODE`, `KDSKBLED`, `VT_ACTIVATE`, `VT_LOCKSWITCH`, an unknown one of each, `TCSETS`, `TCSETS2`,
    // `TIOCSWINSZ`, `TCXONC`, `TIOCVHANGUP`, `TIOCSRS485`, `TIOCSIG`.
    let refused = [
        0x4b3a,
        0x4b45,
        0x4b65,
        0x5606,
        0x560b,
        0x4bff,
        0x5600,
        0x54f0,
        0x549f,
        0x54a4,
        0x5402,
        0x402c_542b,
        0x5414,
        0x540a,
        0x5437,
        0xc020_542f,
        0x4004_5436,
    ];
    // The size, what waits, `TIOCGPTN`.
    let allowed = [0x5413, 0x5411, 0x8004_5430];
    // Of graphics cards, cameras and timers of sound: the letters are the same, and the numbers are not.
    let of_devices = [0x8018_4b01, 0x8068_5600, 0x4034_5410, 0x54a0, 0x54a3];
    let named = Sandbox::strict().write("/dev/urandom").inherit_output(true);
    for sandbox in [Sandbox::none().network(false), Sandbox::none().processes(false), named] {
        let pool = inside(sandbox);
        for request in refused {
            assert_eq!(asked(&pool, request), libc::EPERM, "{request:#x}");
            assert_eq!(asked(&pool, request | 1 << 40), libc::EPERM, "the kernel looks at 32 bits: {request:#x}");
        }
        for request in allowed.into_iter().chain(of_devices) {
            assert_ne!(asked(&pool, request), libc::EPERM, "{request:#x}");
        }
    }
    // `FS_IOC_ENABLE_VERITY`, `BTRFS_IOC_SUBVOL_CREATE`, and those that make files or change layouts on Ceph, SMB,
    // bcachefs and OCFS2.
    let of_file_systems = [0x4080_6685, 0x5000_940e, 0x4028_9702, 0x4004_cf03, 0x4020_bc10, 0x4018_6f04];
    let pool = inside(Sandbox::strict().write("/dev/urandom"));
    assert!(of_file_systems.into_iter().all(|request| asked(&pool, request) == libc::EPERM));
    // A terminal that was named takes them, and so do others; not those that type, or make it control who asks.
    let pool = inside(Sandbox::strict().write("/dev/ptmx"));
    assert!([0x5402, 0x5414].into_iter().all(|request| asked(&pool, request) != libc::EPERM));
    assert!([0x5412, 0x540e].into_iter().all(|request| asked(&pool, request) == libc::EPERM));
}

/// Who leads a session gets a terminal by opening it, and the kernel does not end with its parent who has become another
/// user.
fn nobody_leads_a_session_or_becomes_another_user() {
    let other = [65534; 4];
    for sandbox in [Sandbox::strict(), Sandbox::none().processes(false)] {
        let pool = inside(sandbox);
        assert_eq!(pool.apply(try_one::call(libc::SYS_setsid, [0; 4])).unwrap(), libc::EPERM);
        for call in [libc::SYS_setresuid, libc::SYS_setresgid, libc::SYS_setuid, libc::SYS_setgroups] {
            assert_eq!(pool.apply(try_one::call(call, other)).unwrap(), libc::EPERM, "{call}");
        }
        // SAFETY: it takes nothing.
        let own = i64::from(unsafe { libc::getuid() });
        assert_eq!(pool.apply(try_one::call(libc::SYS_setresuid, [own; 4])).unwrap(), 0);
    }
}

/// A thread that sleeps on memory which processes share stays where it is woken, and can be.
fn nobody_is_moved_in_their_sleep() {
    let futex = |operation: i32| [0, i64::from(operation), 0, 0];
    let moving = [libc::FUTEX_REQUEUE, libc::FUTEX_CMP_REQUEUE, libc::FUTEX_WAKE_OP, libc::FUTEX_CMP_REQUEUE_PI];
    // Whoever wakes on a word where one of these sleeps gets an error.
    let priorities = [libc::FUTEX_LOCK_PI, libc::FUTEX_LOCK_PI2, libc::FUTEX_TRYLOCK_PI, libc::FUTEX_WAIT_REQUEUE_PI];
    let open = Sandbox::strict().read("/").network(true).processes(true);
    for sandbox in [Sandbox::strict(), open, Sandbox::none().network(false)] {
        let pool = inside(sandbox);
        for operation in moving.into_iter().chain(priorities) {
            let shared = |flags: i32| pool.apply(try_one::call(libc::SYS_futex, futex(operation | flags))).unwrap();
            assert_eq!((shared(0), shared(libc::FUTEX_CLOCK_REALTIME)), (libc::EPERM, libc::EPERM), "{operation}");
            // Memory of one process: C libraries need it.
            assert_ne!(shared(libc::FUTEX_PRIVATE_FLAG), libc::EPERM, "{operation}");
        }
        // In the newer one, the flag is out of sight.
        assert_eq!(pool.apply(try_one::call(456, [0; 4])).unwrap(), libc::ENOSYS);
        // To wake and to sleep are needed.
        assert_ne!(pool.apply(try_one::call(libc::SYS_futex, futex(libc::FUTEX_WAKE))).unwrap(), libc::EPERM);
    }
}

fn what_is_needed_is_not() {
    let harmless = [libc::SYS_getpid, libc::SYS_gettid, libc::SYS_sched_yield, libc::SYS_getuid, libc::SYS_umask];
    let pool = inside(Sandbox::strict());
    for (call, error) in pool.apply(try_all::call(&harmless)).unwrap() {
        assert_eq!(error, 0, "call {call}");
    }
    // The kernel ends it with its parent, and goes on doing so.
    let on_parents_death = |signal: i32| [libc::PR_SET_PDEATHSIG.into(), signal.into(), 0, 0];
    for (signal, error) in [(0, libc::EPERM), (libc::SIGTERM, libc::EPERM), (libc::SIGKILL, 0)] {
        assert_eq!(pool.apply(try_one::call(libc::SYS_prctl, on_parents_death(signal))).unwrap(), error, "{signal}");
    }
    // Outside, the test's calls are not refused in this way for lack of rights alone.
    let outside = self::pool(1);
    assert_ne!(outside.apply(try_one::call(libc::SYS_shmget, [0, 0, 0, 0])).unwrap(), libc::EPERM);
    assert_ne!(outside.apply(try_one::call(libc::SYS_mq_unlink, [0; 4])).unwrap(), libc::EPERM);
}
