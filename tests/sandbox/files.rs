//! In a sandbox, a task reads and writes what it was given, and nothing else; so does an initializer.

use crate::support::{builder, directory, over_every_transport};
use pool_runtime::{Pool, Sandbox, task};
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
};

over_every_transport! {
    what_is_not_given_cannot_be_opened,
    what_may_be_read_cannot_be_changed,
    what_may_be_written_is_that_directory_alone,
    what_the_kernel_keeps_is_not_written_with_all_the_rest,
    attributes_are_changed_where_that_is_allowed_and_of_open_files_alone,
    no_file_runs_with_the_rights_of_its_owner,
    a_relative_path_is_of_the_directory_of_the_parent,
    the_initializer_runs_inside,
    paths_that_lead_nowhere_are_named,
    nothing_is_denied_by_none,
}

fn outcome<T>(done: io::Result<T>) -> Result<T, Option<i32>> {
    done.map_err(|error| error.raw_os_error())
}

type Outcome<T = ()> = Result<T, Option<i32>>;

const DENIED: Outcome = Err(Some(libc::EACCES));
const NOT_PERMITTED: Outcome = Err(Some(libc::EPERM));

#[task]
fn read(file: &Path) -> Outcome<String> {
    outcome(fs::read_to_string(file))
}

#[task]
fn list(dir: &Path) -> Outcome<usize> {
    outcome(fs::read_dir(dir).map(Iterator::count))
}

#[task]
fn write(file: &Path, text: &str) -> Outcome {
    outcome(fs::write(file, text))
}

#[task]
fn append(file: &Path) -> Outcome {
    outcome(fs::File::options().append(true).open(file).and_then(|mut file| file.write_all(b"more")))
}

#[task]
fn cut_off(file: &Path) -> Outcome {
    let path = std::ffi::CString::new(file.as_os_str().as_encoded_bytes()).expect("a path");
    // SAFETY: the path is a C string.
    let done = unsafe { libc::truncate(path.as_ptr(), 0) };
    outcome(if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) })
}

#[task]
fn remove(file: &Path) -> Outcome {
    outcome(fs::remove_file(file))
}

#[task]
fn rename(from: &Path, to: &Path) -> Outcome {
    outcome(fs::rename(from, to))
}

#[task]
fn make_dir(dir: &Path) -> Outcome {
    outcome(fs::create_dir(dir))
}

#[task]
fn make_device(file: &Path) -> Outcome {
    let path = std::ffi::CString::new(file.as_os_str().as_encoded_bytes()).expect("a path");
    // SAFETY: the path is a C string.
    let done = unsafe { libc::mknod(path.as_ptr(), libc::S_IFBLK | 0o600, libc::makedev(8, 0)) };
    outcome(if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) })
}

#[task]
fn set_mode(file: &Path, mode: u32) -> Outcome {
    outcome(fs::set_permissions(file, fs::Permissions::from_mode(mode)))
}

#[task]
fn set_mode_of_open(file: &Path, mode: u32) -> Outcome {
    outcome(fs::File::open(file).and_then(|file| file.set_permissions(fs::Permissions::from_mode(mode))))
}

/// In each way in which a file can be given a mode.
#[task]
fn make_with_mode(dir: &Path, mode: u32) -> Vec<(String, Outcome)> {
    let path = |name: &str| std::ffi::CString::new(dir.join(name).as_os_str().as_encoded_bytes()).expect("a path");
    let done = |done: i64| outcome(if done >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) });
    let (here, new) = (i64::from(libc::AT_FDCWD), i64::from(libc::O_CREAT | libc::O_WRONLY));
    let how = [u64::from((libc::O_CREAT | libc::O_WRONLY) as u32), u64::from(mode), 0];
    let [openat, tmpfile, mknodat, openat2] = ["openat", ".", "mknodat", "openat2"].map(path);
    // SAFETY: the paths are C strings, and `how` is what `openat2` asks for, of that length.
    let made = unsafe {
        [
            ("openat", done(libc::syscall(libc::SYS_openat, here, openat.as_ptr(), new, mode))),
            ("tmpfile", {
                let flags = libc::O_TMPFILE | libc::O_WRONLY;
                done(libc::syscall(libc::SYS_openat, here, tmpfile.as_ptr(), flags, mode))
            }),
            ("mknodat", done(libc::syscall(libc::SYS_mknodat, here, mknodat.as_ptr(), libc::S_IFREG | mode, 0))),
            ("openat2", done(libc::syscall(libc::SYS_openat2, here, openat2.as_ptr(), how.as_ptr(), 24))),
        ]
    };
    made.into_iter().map(|(how, done)| (how.to_owned(), done)).collect()
}

#[task]
fn set_times(file: &Path) -> Outcome {
    let path = std::ffi::CString::new(file.as_os_str().as_encoded_bytes()).expect("a path");
    // SAFETY: the path is a C string; without times, it is now.
    let done = unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), std::ptr::null(), 0) };
    outcome(if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) })
}

#[task]
fn set_times_of_open(file: &Path) -> Outcome {
    outcome(fs::File::open(file).and_then(|file| file.set_modified(std::time::SystemTime::now())))
}

/// Its owner, an extended attribute and its flags.
#[task]
fn set_other_attributes_of_open(file: &Path) -> [Outcome; 3] {
    use std::os::fd::AsRawFd as _;
    const FS_IOC_SETFLAGS: u64 = 0x4008_6602;
    let file = fs::File::open(file).expect("it may be read");
    let done = |done: i32| outcome(if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) });
    let (fd, flags) = (file.as_raw_fd(), 0_u64);
    // SAFETY: the descriptor is open; the pointers lead to what the calls ask for.
    unsafe {
        [
            done(libc::fchown(fd, u32::MAX, u32::MAX)),
            done(libc::fsetxattr(fd, c"user.test".as_ptr(), c"x".as_ptr().cast(), 1, 0)),
            done(libc::ioctl(fd, FS_IOC_SETFLAGS as _, &raw const flags)),
        ]
    }
}

fn inside(sandbox: Sandbox) -> Pool {
    builder().processes(1).sandbox(sandbox).build().expect("a pool")
}

fn what_is_not_given_cannot_be_opened() {
    let dir = directory();
    let (given, other) = (dir.path().join("given"), dir.path().join("other"));
    fs::create_dir(&given).unwrap();
    fs::write(given.join("file"), "inside").unwrap();
    fs::write(&other, "outside").unwrap();
    std::os::unix::fs::symlink(&other, given.join("link")).unwrap();
    let pool = inside(Sandbox::strict().read(&given));
    assert_eq!(pool.apply(read::call(&given.join("file"))).unwrap(), Ok("inside".into()));
    assert_eq!(pool.apply(list::call(&given)).unwrap(), Ok(2));
    for outside in [&other, &given.join("../other"), &given.join("link"), Path::new("/etc/passwd")] {
        assert_eq!(pool.apply(read::call(outside)).unwrap().map(drop), DENIED, "{}", outside.display());
    }
    assert_eq!(pool.apply(list::call(dir.path())).unwrap().map(drop), DENIED);
    assert_eq!(pool.apply(read::call(Path::new("/proc/self/environ"))).unwrap().map(drop), DENIED);
    // What everybody takes for granted.
    assert_eq!(pool.apply(read::call(Path::new("/dev/null"))).unwrap(), Ok(String::new()));
    assert_eq!(pool.apply(write::call(Path::new("/dev/null"), "gone")).unwrap(), Ok(()));

    // A single file.
    let pool = inside(Sandbox::strict().read(&other));
    assert_eq!(pool.apply(read::call(&other)).unwrap(), Ok("outside".into()));
    assert_eq!(pool.apply(read::call(&given.join("file"))).unwrap().map(drop), DENIED);
}

fn what_may_be_read_cannot_be_changed() {
    let dir = directory();
    let file = dir.path().join("file");
    fs::write(&file, "as it was").unwrap();
    let before = fs::metadata(&file).unwrap();
    let pool = inside(Sandbox::strict().read(dir.path()));
    assert_eq!(pool.apply(read::call(&file)).unwrap(), Ok("as it was".into()));
    let new = dir.path().join("new");
    let tries = [
        pool.apply(write::call(&file, "otherwise")),
        pool.apply(write::call(&new, "otherwise")),
        pool.apply(append::call(&file)),
        pool.apply(cut_off::call(&file)),
        pool.apply(remove::call(&file)),
        pool.apply(rename::call(&file, &new)),
        pool.apply(make_dir::call(&new)),
    ];
    for (index, tried) in tries.into_iter().enumerate() {
        assert_eq!(tried.unwrap(), DENIED, "try {index}");
    }
    let tries = [
        pool.apply(set_mode::call(&file, 0o777)),
        pool.apply(set_mode_of_open::call(&file, 0o777)),
        pool.apply(set_times::call(&file)),
        pool.apply(set_times_of_open::call(&file)),
    ];
    for (index, tried) in tries.into_iter().enumerate() {
        assert_eq!(tried.unwrap(), NOT_PERMITTED, "try {index}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "as it was");
    let after = fs::metadata(&file).unwrap();
    assert_eq!((after.mode_and_time(), fs::read_dir(dir.path()).unwrap().count()), (before.mode_and_time(), 1));
}

trait ModeAndTime {
    fn mode_and_time(&self) -> (u32, std::time::SystemTime);
}

impl ModeAndTime for fs::Metadata {
    fn mode_and_time(&self) -> (u32, std::time::SystemTime) {
        (self.permissions().mode(), self.modified().expect("a time"))
    }
}

fn what_may_be_written_is_that_directory_alone() {
    let dir = directory();
    let (open, closed) = (dir.path().join("open"), dir.path().join("closed"));
    fs::create_dir(&open).unwrap();
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("file"), "as it was").unwrap();
    let pool = inside(Sandbox::strict().write(&open).read(&closed));
    assert_eq!(pool.apply(write::call(&open.join("file"), "new")).unwrap(), Ok(()));
    assert_eq!(pool.apply(append::call(&open.join("file"))).unwrap(), Ok(()));
    assert_eq!(pool.apply(read::call(&open.join("file"))).unwrap(), Ok("newmore".into()));
    assert_eq!(pool.apply(make_dir::call(&open.join("dir"))).unwrap(), Ok(()));
    assert_eq!(pool.apply(rename::call(&open.join("file"), &open.join("dir/file"))).unwrap(), Ok(()));
    assert_eq!(pool.apply(cut_off::call(&open.join("dir/file"))).unwrap(), Ok(()));
    assert_eq!(pool.apply(remove::call(&open.join("dir/file"))).unwrap(), Ok(()));
    assert_eq!(pool.apply(write::call(&open.join("file"), "new")).unwrap(), Ok(()));

    assert_eq!(pool.apply(write::call(&closed.join("file"), "new")).unwrap(), DENIED);
    assert_eq!(pool.apply(write::call(&open.join("../closed/file"), "new")).unwrap(), DENIED);
    let across = pool.apply(rename::call(&open.join("file"), &closed.join("other"))).unwrap();
    assert!(matches!(across, Err(Some(libc::EACCES | libc::EXDEV))), "{across:?}");
    assert_eq!(pool.apply(remove::call(&closed.join("file"))).unwrap(), DENIED);
    // With rights enough, a device would be the disk itself.
    let device = open.join("device");
    assert!(pool.apply(make_device::call(&device)).unwrap().is_err());
    assert!(!fs::metadata(&device).is_ok_and(|file| file.file_type().is_block_device()));
    assert_eq!(fs::read_to_string(closed.join("file")).unwrap(), "as it was");
}

fn attributes_are_changed_where_that_is_allowed_and_of_open_files_alone() {
    let dir = directory();
    let (open, readable, outside) = (dir.path().join("open"), dir.path().join("readable"), dir.path().join("outside"));
    fs::create_dir(&open).unwrap();
    for file in [&open.join("file"), &readable, &outside] {
        fs::write(file, "").unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode() & 0o777;
    // The filter does not see which file it is.
    let pool = inside(Sandbox::strict().write(&open).read(&readable));
    for file in [&open.join("file"), &readable] {
        assert_eq!(pool.apply(set_mode_of_open::call(file, 0o700)).unwrap(), NOT_PERMITTED);
        assert_eq!(pool.apply(set_times_of_open::call(file)).unwrap(), NOT_PERMITTED);
        assert_eq!(pool.apply(set_other_attributes_of_open::call(file)).unwrap(), [NOT_PERMITTED; 3]);
        assert_eq!(mode(file), 0o600);
    }

    let pool = inside(Sandbox::strict().write(&open).attributes(true));
    assert_eq!(pool.apply(set_mode_of_open::call(&open.join("file"), 0o700)).unwrap(), Ok(()));
    assert_eq!(mode(&open.join("file")), 0o700);
    assert_eq!(pool.apply(set_times_of_open::call(&open.join("file"))).unwrap(), Ok(()));
    assert_eq!(pool.apply(set_mode::call(&outside, 0o777)).unwrap(), NOT_PERMITTED);
    assert_eq!(pool.apply(set_times::call(&outside)).unwrap(), NOT_PERMITTED);
    assert_eq!(pool.apply(set_mode_of_open::call(&outside, 0o777)).unwrap(), DENIED);
    // Where all may be written, there is nothing to protect.
    let pool = inside(Sandbox::strict().write("/"));
    assert_eq!(pool.apply(set_mode_of_open::call(&outside, 0o640)).unwrap(), Ok(()));
}

/// Above `/proc` and `/sys`, all is given but what decides about other processes; of devices, those that hold nothing.
fn what_the_kernel_keeps_is_not_written_with_all_the_rest() {
    let dir = directory();
    let link = dir.path().join("root");
    std::os::unix::fs::symlink("/", &link).unwrap();
    let own = std::process::id();
    let mut kept = ["oom_score_adj", "comm", "coredump_filter", "clear_refs", "autogroup"]
        .map(|name| format!("/proc/{own}/{name}"))
        .to_vec();
    // Whoever writes there stops or ends what is in the group.
    let groups = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|group| group.path());
    let groups = groups.chain(["/sys/fs/cgroup".into()]).map(|group| group.join("cgroup.procs"));
    kept.extend(groups.filter(|file| file.exists()).map(|file| file.display().to_string()));
    for sandbox in [Sandbox::strict().write("/"), Sandbox::none().write(&link), Sandbox::strict().write("/sys")] {
        let pool = inside(sandbox);
        for file in kept.iter().filter(|file| Path::new(file).exists()) {
            assert_eq!(pool.apply(append::call(Path::new(file))).unwrap(), DENIED, "{file}");
        }
    }
    let pool = inside(Sandbox::strict().write("/"));
    // What is a process's own may be read, as all else.
    assert!(pool.apply(read::call(Path::new("/proc/self/stat"))).unwrap().is_ok());
    assert!(pool.apply(list::call(Path::new("/"))).unwrap().is_ok_and(|entries| entries > 1));
    assert_eq!(pool.apply(write::call(&dir.path().join("file"), "text")).unwrap(), Ok(()));
    assert_eq!(pool.apply(rename::call(&dir.path().join("file"), &dir.path().join("other"))).unwrap(), Ok(()));
    assert_eq!(pool.apply(write::call(Path::new("/dev/zero"), "gone")).unwrap(), Ok(()));
    for device in ["/dev/console", "/dev/ptmx", "/dev/kmsg", "/dev/fuse"].map(Path::new) {
        if device.exists() {
            assert_eq!(pool.apply(read::call(device)).unwrap().map(drop), DENIED, "{}", device.display());
        }
    }
    if Path::new("/dev/shm").is_dir() {
        let shared =
            Path::new("/dev/shm").join(format!("pool-test-{own}-{}", dir.path().file_name().unwrap().display()));
        assert_eq!(pool.apply(write::call(&shared, "text")).unwrap(), Ok(()));
        assert_eq!(pool.apply(remove::call(&shared)).unwrap(), Ok(()));
    }
    // One that was named is meant: it can be opened, and takes numbers.
    let named = Path::new("/proc/self/oom_score_adj");
    assert_eq!(inside(Sandbox::strict().write(named)).apply(append::call(named)).unwrap(), Err(Some(libc::EINVAL)));
}

fn no_file_runs_with_the_rights_of_its_owner() {
    let dir = directory();
    let file = dir.path().join("file");
    let pool = inside(Sandbox::strict().write(dir.path()).attributes(true));
    assert_eq!(pool.apply(write::call(&file, "")).unwrap(), Ok(()));
    for mode in [0o4755, 0o2755, 0o6755] {
        assert_eq!(pool.apply(set_mode_of_open::call(&file, mode)).unwrap(), NOT_PERMITTED);
        for (how, outcome) in pool.apply(make_with_mode::call(dir.path(), mode)).unwrap() {
            let refused = if how == "openat2" { Err(Some(libc::ENOSYS)) } else { NOT_PERMITTED };
            assert_eq!(outcome, refused, "{how} with mode {mode:o}");
        }
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // The same without those rights.
    for (how, outcome) in pool.apply(make_with_mode::call(dir.path(), 0o755)).unwrap() {
        let expected = if how == "openat2" { Err(Some(libc::ENOSYS)) } else { Ok(()) };
        assert_eq!(outcome, expected, "{how}");
    }
}

fn a_relative_path_is_of_the_directory_of_the_parent() {
    let pool = builder().processes(1).current_dir("/").sandbox(Sandbox::strict().read("support")).build().unwrap();
    let here = std::env::current_dir().unwrap();
    assert!(pool.apply(read::call(&here.join("support/mod.rs"))).unwrap().is_ok());
    assert_eq!(pool.apply(read::call(&here.join("Cargo.toml"))).unwrap().map(drop), DENIED);
}

struct Looked(Outcome, Outcome);

#[task(initializer)]
fn look(inside: &Path, outside: &Path) -> Looked {
    Looked(outcome(fs::read(inside).map(drop)), outcome(fs::read(outside).map(drop)))
}

#[task]
fn looked(#[state] looked: &Looked) -> (Outcome, Outcome) {
    (looked.0, looked.1)
}

fn the_initializer_runs_inside() {
    let dir = directory();
    let (given, other) = (dir.path().join("given"), dir.path().join("other"));
    fs::write(&given, "").unwrap();
    fs::write(&other, "").unwrap();
    let sandbox = Sandbox::strict().read(&given);
    let pool = builder().processes(1).sandbox(sandbox).initializer(look::call(&given, &other)).build().unwrap();
    assert_eq!(pool.apply(looked::call()).unwrap(), (Ok(()), DENIED));
}

fn paths_that_lead_nowhere_are_named() {
    let dir = directory();
    let nowhere = dir.path().join("no such file");
    for sandbox in [Sandbox::strict().read(&nowhere), Sandbox::strict().write(&nowhere).best_effort()] {
        let error = builder().processes(1).sandbox(sandbox).build().unwrap_err().to_string();
        assert!(error.contains("cannot let a sandbox ") && error.contains(nowhere.to_str().unwrap()), "{error}");
    }

    // One that goes later: the workers that are replaced then cannot start, and say which it was.
    fs::write(&nowhere, "").unwrap();
    let pool = builder().processes(1).max_tasks_per_child(1).sandbox(Sandbox::strict().read(&nowhere)).build().unwrap();
    fs::remove_file(&nowhere).unwrap();
    pool.apply(read::call(&nowhere)).unwrap().unwrap_err();
    let error = pool.apply(read::call(&nowhere)).unwrap_err().to_string();
    assert!(error.contains("refuses to work: cannot give its sandbox") && error.contains("no such file"), "{error}");
}

fn nothing_is_denied_by_none() {
    let dir = directory();
    let file = dir.path().join("file");
    let pool = inside(Sandbox::none());
    assert_eq!(pool.apply(write::call(&file, "text")).unwrap(), Ok(()));
    assert_eq!(pool.apply(set_mode::call(&file, 0o600)).unwrap(), Ok(()));
    // The first path that is given denies the others.
    let pool = inside(Sandbox::none().read(&file));
    assert_eq!(pool.apply(read::call(&file)).unwrap(), Ok("text".into()));
    assert_eq!(pool.apply(read::call(Path::new("/etc/passwd"))).unwrap().map(drop), DENIED);
}
