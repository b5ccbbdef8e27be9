//! The operating system, as the rest of the crate sees it: an interface, and one implementation per system.
//!
//! Outside of this module nothing names a descriptor, an error number or a page size, and nothing uses `libc`, `rustix`
//! or `cfg(target_os)`. [`linux`] implements the interface, one file per role, and a port to another system repeats its
//! file names. On other systems `unsupported` stands in: threads run calls, and starting a process is an error of the
//! kind [`Unsupported`](std::io::ErrorKind::Unsupported).
//!
//! | noun | what it promises | why other systems differ |
//! |---|---|---|
//! | [`Handle`], [`HandleRef`] | an object of the system, closed when dropped, inherited by nobody | descriptor or Windows handle |
//! | [`Given`], [`Manifest`] | a worker finds what it was started with, by name | numbers in a row, or values that the manifest lists |
//! | [`Spawn`], [`Io`] | starts a process with exactly these handles | `posix_spawn`, `CreateProcessW` |
//! | [`Child`], [`End`], [`Usage`] | one process, waited for and killed without confusion with another of its pid | pidfd, kqueue, process handle; Windows has exception codes in place of signals |
//! | [`wait_readable`], [`wait_any`], [`wait_writable`], [`are_readable`], [`wait_hung_up`] | waits for handles with a time limit | `poll`, `WaitForMultipleObjects` |
//! | [`Socket`], [`SocketPlace`] | connections between programs, which find each other by an address | Unix sockets have no `SocketAddr`; elsewhere `SIGPIPE` is turned off for each socket |
//! | [`Link`] | the socket inside one end of an ipc-channel: look before receiving | named pipes; Mach ports, where it does not exist |
//! | [`Poller`], [`PolledPipe`] | waits for any of many pipes and for a bell | overlapped reads or a thread for each pipe on Windows |
//! | [`Mapping`], [`sealed_memory`] | memory of fixed size that two processes write | `shm_open`, sections |
//! | [`Memory`], [`Draft`], [`Word`] | memory that only its maker writes, and then nobody; or that everybody writes, as atomic words | seals, read-only duplicates |
//! | [`Bell`], [`BellWatch`] | words in shared memory, and sleeping until one is rung | futex, `os_sync_wait_on_address`; an event found by the word's address |
//! | [`sleep_while`], [`wake_sleepers`] | the same on any word, some sleepers at a time | as above |
//! | [`Window`] | a part of memory that grows at one end and is given back at the other | `fallocate`; reserved sections on Windows |
//! | [`Enrolment`] | which processes live that have some memory | locks on parts of its file; a named mutex for each on Windows |
//! | [`passing`], [`Outgoing`], [`Delivery`] | handles sent to another process, each with a number | `SCM_RIGHTS`, `DuplicateHandle` |
//! | [`remote_barrier`], [`accept_barriers`] | one side's memory barrier serves both; may be refused | `membarrier`, `FlushProcessWriteBuffers` (own process only) |
//! | [`fault`], [`Crash`], [`CrashSink`] | a crashing process notes how | signal handler, exception filter |
//! | [`Confinement`] and its parts | takes rights away from this process | Landlock and seccomp have no counterpart elsewhere |
//! | [`PrivateDir`], [`open_judged`] | files that nobody else reads, where nobody else writes; who may have written a file | owners and modes, access control lists |
//! | [`OomWatch`], [`OomKill`] | whether the kernel killed for want of memory | Linux only |
//! | [`stack`], [`stack_pointer`] | where the calling thread's stack lies, and where on it the thread is | limits of a first thread; other calls of the C library |
//! | the functions | clock, processors, priority, standard error, this process | |

#![cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing fills or reads what has no implementation"))]

mod confinement;
#[cfg(target_os = "linux")]
mod linux;
mod nouns;
#[cfg(not(target_os = "linux"))]
mod unsupported;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use unsupported as system;

pub(crate) use confinement::{Abilities, Allowed, Confinement, Files, ResourceLimits};
pub(crate) use system::{
    Bell, BellWatch, Child, Draft, Enrolment, Link, Manifest, Mapping, Memory, OomWatch, PolledPipe, Poller,
    PrivateDir, SPARSE_HEAD, SharedSocket, SigpipeHeld, Socket, Window, Word, accept_barriers, are_readable,
    at_high_numbers, await_parent, block_all_signals, check_memory_is_seen, check_parents_capabilities, check_size,
    close_inherited, copy_to_stderr, copy_to_stdout, count_cores, current_cpu, current_pid, die_with_parent,
    exceeded_limit, excess_of_rights, exit_now, fault, file_id, forget_stack, forget_variables, has_more_rights,
    has_stderr, has_stdout, hide_socket_file, is_root, is_same, leave_cpu, lists_processes, monotonic, name_thread,
    no_channel, open_judged, outlive_requests_to_end, own_command, parent_handle, parent_pid, passing, pipe,
    prefer_huge_pages, program_path, remote_barrier, remove_socket_file, replace_stdin_by_nothing, replace_stdout,
    sealed_memory, set_cpus, set_nice, set_scheduler, signal_name, sleep_while, spawn_thread, stack, stack_pointer,
    thread_builder, usable_cpus, wait_any, wait_hung_up, wait_readable, wait_writable, wake_sleepers, with_room,
    write_stderr,
};

pub(crate) use nouns::{
    CodePlace, Crash, CrashSink, Delivery, End, Foremost, GRANULE, Given, Handle, HandleRef, Io, MEMORY_ALIGN,
    NotPrivate, Outgoing, Peeked, SocketFile, SocketPlace, Spawn, UNSEEN, Usage, Weight, borrow, cpu_count,
    remove_variable,
};
pub use nouns::{OomKill, Scheduler};
