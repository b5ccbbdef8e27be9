//! Nothing that the parent has open is open in a child: neither files, close-on-exec or not, nor what leads to other
//! children.

use crate::support::{descriptors, directory, over_every_transport, pool};
use pool_runtime::{Process, task};
use std::{
    collections::BTreeSet,
    fs::File,
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

over_every_transport! { in_turn: what_the_parent_opened_is_not_open_in_a_child }

#[task]
fn what_is_open() -> Vec<(i32, PathBuf)> {
    descriptors()
}

/// Opens a file that programs which are executed inherit.
fn open_inheritable(path: &Path) -> File {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).expect("a path");
    // SAFETY: the path is a C string; the new descriptor is nobody else's.
    let file = unsafe { File::from_raw_fd(libc::open(path.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600)) };
    // SAFETY: a system call on plain numbers.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) }, 0, "it is not close-on-exec");
    file
}

/// Sockets, pipes and files, but for the standard streams and what all processes share.
fn names(open: &[(i32, PathBuf)]) -> BTreeSet<PathBuf> {
    open.iter().filter(|(fd, _)| *fd > 2).map(|(_, path)| path.clone()).collect()
}

fn what_the_parent_opened_is_not_open_in_a_child() {
    let directory = directory();
    let careful = File::create(directory.path().join("close-on-exec")).expect("a file");
    let careless = open_inheritable(&directory.path().join("inheritable"));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    // Other children are there already, and so are the sockets that lead to them.
    let pool = pool(2);
    let other = Process::new(what_is_open::call()).start().expect("it starts");
    other.join().expect("it returns");
    let here = descriptors();

    let process = Process::new(what_is_open::call()).start().expect("it starts");
    let in_process = process.join().expect("it returns");
    let in_worker = pool.apply(what_is_open::call()).expect("it runs");
    for open in [in_process, in_worker] {
        assert!(!open.iter().any(|(_, path)| path.starts_with(directory.path())), "{open:?}");
        let standard: Vec<i32> = open.iter().map(|(fd, _)| *fd).filter(|fd| *fd <= 2).collect();
        assert_eq!(standard, [0, 1, 2], "{open:?}");
        // What has a number of its own, as sockets and pipes do, is the same in both only if it was inherited. Handles
        // of processes have none: the child has one of its parent.
        let numbered = |path: &PathBuf| path.to_string_lossy().contains('[') && !path.ends_with("anon_inode:[pidfd]");
        let shared: Vec<PathBuf> =
            names(&open).intersection(&names(&here)).filter(|path| numbered(path)).cloned().collect();
        assert!(shared.is_empty(), "{shared:?}");
        // The two ways of its channel, the one that it watches, its parent, and the way for shared memory.
        assert!(open.len() <= 3 + 5, "{open:?}");
    }
    drop((careful, careless, reader, writer));
}
