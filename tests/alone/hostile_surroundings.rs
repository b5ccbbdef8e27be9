//! In surroundings that deny something, a program has its right values, or an error that names the cause; it never hangs,
//! and no limit is off without a word.
//!
//! What goes wrong in a row that is [known](KNOWN) to is only told, unless `POOL_SURROUNDINGS_STRICT` is set.
//!
//! Each row of the tables is one run of `programs/surroundings.rs`. `POOL_SURROUNDINGS_SECONDS` repeats them for so long,
//! `POOL_SURROUNDINGS_SLOW` adds what takes long, `POOL_SURROUNDINGS_ROW` chooses those whose name contains it.

#[path = "../support/mod.rs"]
mod support;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use support::{PATIENCE, Running, VARIABLE, copy_program, directory, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_surroundings");

/// How one program is started, and what may come of it.
struct Row {
    name: String,
    command: Box<dyn Fn(&Place) -> Command + Send + Sync>,
    /// What is done with the program once it runs.
    then: fn(&Running),
    /// An error has to contain one of these words; without any, all must go well.
    may_say: &'static [&'static str],
    /// How long it may take.
    patience: Duration,
    /// Why this cannot be set up here.
    skipped: Option<String>,
}

impl Row {
    fn new(name: impl Into<String>, command: impl Fn(&Place) -> Command + Send + Sync + 'static) -> Self {
        let (name, command) = (name.into(), Box::new(command));
        Self { name, command, then: |_| {}, may_say: &[], patience: PATIENCE / 2, skipped: None }
    }

    /// A program is started by another one: `{}` is its path.
    fn by(name: impl Into<String>, words: &'static [&'static str]) -> Self {
        let mut row = Self::new(name, move |place| {
            let mut command = Command::new(words[0]);
            command.args(
                words[1..].iter().map(|word| if *word == "{}" { place.program.as_os_str() } else { word.as_ref() }),
            );
            command
        });
        row.skipped = (!works(words)).then(|| format!("`{}` does not work here", words.join(" ")));
        row
    }

    fn may_say(self, may_say: &'static [&'static str]) -> Self {
        Self { may_say, ..self }
    }

    fn only_if(self, holds: bool, why_not: &str) -> Self {
        let skipped = self.skipped.or_else(|| (!holds).then(|| why_not.to_owned()));
        Self { skipped, ..self }
    }
}

/// Whether a program can be started like this.
fn works(words: &[&str]) -> bool {
    let words: Vec<_> = words.iter().map(|word| if *word == "{}" { "true" } else { word }).collect();
    Command::new(words[0]).args(&words[1..]).output().is_ok_and(|output| output.status.success())
}

/// Where a program is that every user may start.
struct Place {
    _directory: tempfile::TempDir,
    program: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = directory();
        let program = directory.path().join("surroundings");
        copy_program(PROGRAM, &program);
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("a directory of ours");
        Self { _directory: directory, program }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The beginnings of names of rows in which something is known to go wrong.
const KNOWN: &[&str] = &[];

const ROOT: &str = "only root can set this up";
const NOBODY: u32 = 65534;

// ---- how a row is judged ----

/// Runs a row over a transport. Returns what is wrong.
fn run(row: &Row, place: &Place, transport: &str) -> Result<(), String> {
    let mut command = (row.command)(place);
    command.env(VARIABLE, transport).env("RUST_BACKTRACE", "0").current_dir("/");
    let running = Running::start(&mut command);
    (row.then)(&running);
    let ended = running.ends_within(row.patience).map_err(|still| format!("it hangs: {still}"))?;
    let mut complaints = Vec::new();
    for line in ended.stdout.lines() {
        let Some((_, outcome)) = line.split_once(": ") else {
            complaints.push(line);
            continue;
        };
        let error = outcome.strip_prefix("error: ");
        let is_named = |text: &str| row.may_say.iter().any(|word| text.contains(word));
        // A worker that does not get as far as its parent has nothing else to say it with.
        let is_allowed =
            |error: &str| is_named(error) || error.contains("its standard error says why") && is_named(&ended.stderr);
        if outcome != "ok" && !error.is_some_and(is_allowed) {
            complaints.push(line);
        }
    }
    // The beginning is enough: each worker may say the same.
    let said = format!("{}\nstandard error: {:.800}", ended.stdout, ended.stderr);
    if !complaints.is_empty() {
        return Err(format!("{}\nin all: {said}", complaints.join("\n")));
    }
    // What kept it from running at all has to be named as well.
    let refused = row.may_say.iter().any(|word| ended.stderr.contains(word));
    if !ended.status.success() && !refused {
        return Err(format!("{}\n{said}", ended.status));
    }
    if !ended.stdout.ends_with("end: ok\n") && !ended.stdout.ends_with("in the fork: ok\n") && !refused {
        return Err(format!("it does not come to its end:\n{said}"));
    }
    Ok(())
}

/// Runs all rows, some at a time, and fails with all that is wrong.
fn judge(rows: Vec<Row>) {
    let chosen = std::env::var("POOL_SURROUNDINGS_ROW").unwrap_or_default();
    let seconds: f64 = std::env::var("POOL_SURROUNDINGS_SECONDS").map_or(0.0, |text| text.parse().expect("a number"));
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let strict = std::env::var_os("POOL_SURROUNDINGS_STRICT").is_some();
    let place = &Place::new();
    let mut runs = Vec::new();
    for row in rows.iter().filter(|row| row.name.contains(&chosen)) {
        match &row.skipped {
            Some(why) => eprintln!("skipped: {}: {why}", row.name),
            None => runs.extend(["rings", "channels"].map(|transport| (row, transport))),
        }
    }
    let mut times = 0;
    loop {
        let (left, wrong) = (Mutex::new(runs.iter()), Mutex::new(Vec::new()));
        let next = || left.lock().expect("no panic").next();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some((row, transport)) = next() {
                        if let Err(what) = run(row, place, transport) {
                            let what = format!("== {}, over {transport}:\n{what}", row.name);
                            if !strict && KNOWN.iter().any(|known| row.name.starts_with(known)) {
                                eprintln!("known: {}", what.lines().take(2).collect::<Vec<_>>().join("\n"));
                                continue;
                            }
                            wrong.lock().expect("no panic").push(what);
                        }
                    }
                });
            }
        });
        times += 1;
        let wrong = wrong.into_inner().expect("no panic");
        assert!(wrong.is_empty(), "{} of {} runs (round {times}):\n{}", wrong.len(), runs.len(), wrong.join("\n"));
        if Instant::now() >= until {
            println!("{} rows, {times} times", runs.len());
            return;
        }
    }
}

// ---- system calls that a container's filter denies ----

fn without(call: i64, errno: i32) -> impl Fn(&Place) -> Command {
    move |place| {
        let action = SeccompAction::Errno(errno as u32);
        let architecture = std::env::consts::ARCH.try_into().expect("a known architecture");
        let filter = SeccompFilter::new([(call, vec![])].into(), SeccompAction::Allow, action, architecture);
        let filter: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter");
        let mut command = Command::new(&place.program);
        // SAFETY: the filter was made before the fork, and to apply it are two system calls.
        unsafe { command.pre_exec(move || apply_filter(&filter).map_err(|_| std::io::ErrorKind::Other.into())) };
        command
    }
}

#[test]
fn denied_system_calls() {
    // An error names the call.
    let calls: [(&str, i64, &'static [&'static str]); 14] = [
        ("pidfd_open", libc::SYS_pidfd_open, &["pidfd_open"]),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal, &["pidfd_send_signal"]),
        ("memfd_create", libc::SYS_memfd_create, &["memfd_create"]),
        ("membarrier", libc::SYS_membarrier, &[]),
        ("waitid", libc::SYS_waitid, &["waitid"]),
        ("prlimit64", libc::SYS_prlimit64, &["prlimit"]),
        ("socketpair", libc::SYS_socketpair, &["socketpair"]),
        ("close_range", libc::SYS_close_range, &["close_range"]),
        ("eventfd2", libc::SYS_eventfd2, &["eventfd"]),
        ("clone3", libc::SYS_clone3, &["clone3"]),
        ("madvise", libc::SYS_madvise, &["madvise"]),
        ("getrandom", libc::SYS_getrandom, &["getrandom"]),
        ("sched_getaffinity", libc::SYS_sched_getaffinity, &["sched_getaffinity"]),
        ("prctl", libc::SYS_prctl, &["prctl"]),
    ];
    let mut rows = Vec::new();
    for (name, call, may_say) in calls {
        for (errno, error) in [(libc::EPERM, "EPERM"), (libc::ENOSYS, "ENOSYS")] {
            // glibc takes any other answer than this one for a failure of the process to start.
            if name == "clone3" && error == "EPERM" {
                continue;
            }
            rows.push(Row::new(format!("{name} denied with {error}"), without(call, errno)).may_say(may_say));
        }
    }
    judge(rows);
}

// ---- files that are not there ----

#[test]
fn missing_files() {
    let hidden = |name, script: &'static str| {
        Row::by(name, Box::leak(Box::new(["unshare", "--mount", "sh", "-c", script, "{}"])))
    };
    judge(vec![
        hidden("no /proc", "mount -t tmpfs none /proc && exec \"$0\"").may_say(&["/proc"]),
        hidden("no /dev", "mount -t tmpfs none /dev && exec \"$0\"").may_say(&["/dev/null"]),
        hidden("/dev/null is a file", "mount -t tmpfs none /dev && touch /dev/null && exec \"$0\"")
            .may_say(&["/dev/null"]),
        hidden("/dev/null denied", "mount -t tmpfs none /dev && mknod -m 0 /dev/null c 1 3 && exec setpriv --reuid 65534 --clear-groups \"$0\"").may_say(&["/dev/null"]),
        hidden("no /tmp", "mount -t tmpfs -o ro none /dev/shm && exec \"$0\""),
        hidden(
            "others' processes are hidden",
            "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid 65534 --clear-groups \"$0\"",
        )
        .may_say(&["/proc"]),
        Row::by("a new name space of processes, and the old /proc", &["unshare", "--pid", "--fork", "{}"])
            .may_say(&["/proc"]),
        Row::by("a new name space of processes", &["unshare", "--pid", "--fork", "--mount-proc", "{}"]),
        Row::by("a new name space of users", &["unshare", "--user", "--map-root-user", "{}"]),
    ]);
}

// ---- limits ----

#[test]
fn limits() {
    let limited = |name, limit: &'static str| Row::by(name, Box::leak(Box::new(["prlimit", limit, "{}"])));
    let other = 200_000 + std::process::id() % 1_000_000;
    let few = move |limit: u64| {
        move |place: &Place| {
            let mut command = Command::new(&place.program);
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            // SAFETY: a system call on a limit that lives as long.
            unsafe {
                command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                })
            };
            command.uid(other).gid(other);
            command
        }
    };
    let descriptors = &["Too many open files", "RLIMIT_NOFILE", "descriptors"];
    let processes = &["Resource temporarily unavailable", "RLIMIT_NPROC"];
    let size = &["File too large", "RLIMIT_FSIZE"];
    let memory = &["Cannot allocate memory", "RLIMIT_AS", "memory allocation of", "No space left", "os error 12"];
    judge(vec![
        limited("10 descriptors", "--nofile=10").may_say(descriptors),
        limited("20 descriptors", "--nofile=20").may_say(descriptors),
        limited("40 descriptors", "--nofile=40").may_say(descriptors),
        limited("64 descriptors", "--nofile=64").may_say(descriptors),
        limited("a million descriptors", "--nofile=1000000"),
        Row::new("1 process", few(1)).may_say(processes).only_if(is_root(), ROOT),
        Row::new("8 processes", few(8)).may_say(processes).only_if(is_root(), ROOT),
        Row::new("40 processes", few(40)).may_say(processes).only_if(is_root(), ROOT),
        // What the program prints must not be a file, either.
        Row::by("files of 0 bytes", &["sh", "-c", "prlimit --fsize=0 \"$0\" | cat", "{}"]).may_say(size),
        limited("files of 100 blocks", "--fsize=102400").may_say(size),
        limited("a stack of 256 KiB", "--stack=262144"),
        limited("a stack without end", "--stack=unlimited"),
        limited("addresses of 64 MiB", "--as=67108864").may_say(memory),
        limited("addresses of 400 MiB", "--as=419430400").may_say(memory),
        limited("data of 40 MiB", "--data=41943040").may_say(memory),
        limited("no locked memory", "--memlock=0"),
        limited("no pending signals", "--sigpending=0"),
        limited("no core files", "--core=0"),
        limited("no message queues", "--msgqueue=0"),
    ]);
}

// ---- other ways to start a program ----

#[test]
fn started_in_other_ways() {
    static COPIES: AtomicUsize = AtomicUsize::new(0);
    let loader = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let loader = loader.into_iter().find(|path| Path::new(path).exists());
    let by_loader = move |arguments: &'static [&'static str]| {
        move |place: &Place| {
            let mut command = Command::new(loader.expect("a loader"));
            command.arg(&place.program).args(arguments);
            command
        }
    };
    let with_rights = |mark: &'static str| {
        move |place: &Place| {
            // Each run has a file of its own.
            let copy = place.program.with_file_name(format!("with-rights-{}", COPIES.fetch_add(1, Ordering::Relaxed)));
            copy_program(PROGRAM, &copy);
            let script = format!("{mark} \"$1\"");
            let status = Command::new("sh").args(["-c", &script, "sh"]).arg(&copy).status().expect("sh");
            assert!(status.success(), "{mark}: {status}");
            let mut command = Command::new(copy);
            command.uid(NOBODY).gid(NOBODY);
            command
        }
    };
    let has_setcap = works(&["setcap", "-v", "-q", "=", "/bin/sh"]) || Path::new("/usr/sbin/setcap").exists();
    let rights = &["AT_SECURE", "set-user-ID", "setuid", "more rights"];
    judge(vec![
        Row::new("by the loader", by_loader(&[])).may_say(&["loader"]).only_if(loader.is_some(), "no loader is known"),
        Row::new("by the loader, with an argument", by_loader(&["self"]))
            .may_say(&["loader"])
            .only_if(loader.is_some(), "no loader is known"),
        Row::new("a set-user-ID program", with_rights("chmod 4755")).may_say(rights).only_if(is_root(), ROOT),
        Row::new("a set-group-ID program", with_rights("chgrp 1 \"$1\" && chmod 2755"))
            .may_say(rights)
            .only_if(is_root(), ROOT),
        Row::new("a program with capabilities", with_rights("setcap cap_net_raw+ep"))
            .may_say(rights)
            .only_if(is_root() && has_setcap, "`setcap` is not here, or only for root"),
        Row::new("a program that may not be read", with_rights("chmod 0711")).only_if(is_root(), ROOT),
        Row::by("on one processor", &["taskset", "-c", "0", "{}"]),
        Row::by("real-time", &["chrt", "--fifo", "10", "{}"]),
        Row::by("real-time, on one processor", &["taskset", "-c", "0", "chrt", "--rr", "10", "{}"]),
        Row::by("in batches", &["chrt", "--batch", "0", "{}"]),
        Row::by("without an environment", &["sh", "-c", "exec env -i \"$0\"", "{}"]),
        Row::by("without randomized addresses", &["setarch", "-R", "{}"]),
        Row::by("children are not waited for", &["env", "--ignore-signal=CHLD", "{}"]).may_say(&["SIGCHLD"]),
        Row::by("all signals ignored", &["env", "--ignore-signal", "{}"]).may_say(&["SIGCHLD"]),
        Row::by("all signals blocked", &["env", "--block-signal", "{}"]),
        Row::by("files for nobody", &["sh", "-c", "umask 777; exec \"$0\"", "{}"]),
        Row::by("the directory is gone", &["sh", "-c", "d=$(mktemp -d); cd \"$d\"; rmdir \"$d\"; exec \"$0\"", "{}"]),
        Row::by("nothing is open", &["sh", "-c", "exec \"$0\" <&-", "{}"]),
        Row::by(
            "low descriptors in use",
            &["sh", "-c", "exec \"$0\" 3</dev/null 4>/dev/null 5</ 6>&1 7>&1 9>&1", "{}"],
        ),
        preloaded(),
        known_allocator("libjemalloc.so.2"),
        known_allocator("libmimalloc.so.2"),
    ]);
}

/// An allocator of the test's own: a library that stands before the C library's.
fn preloaded() -> Row {
    let source = "
        #include <errno.h>
        #include <stddef.h>
        #include <string.h>
        extern void *__libc_memalign(size_t, size_t);
        extern void __libc_free(void *);
        extern void *__libc_realloc(void *, size_t);
        void *malloc(size_t n) { void *p = __libc_memalign(64, n + 64); if (p) memset(p, 0xa5, n); return p; }
        void free(void *p) { __libc_free(p); }
        void *calloc(size_t n, size_t m) {
            if (m && n > (size_t)-1 / m) return 0;
            void *p = malloc(n * m);
            return p ? memset(p, 0, n * m) : 0;
        }
        void *realloc(void *p, size_t n) { return __libc_realloc(p, n); }
        void *memalign(size_t a, size_t n) { return __libc_memalign(a, n); }
        void *aligned_alloc(size_t a, size_t n) { return __libc_memalign(a, n); }
        int posix_memalign(void **to, size_t a, size_t n) { return (*to = __libc_memalign(a, n)) ? 0 : ENOMEM; }
    ";
    let row = Row::new("another allocator", move |place| {
        let library = place.program.with_file_name("allocator.so");
        if !library.exists() {
            let text = library.with_extension(format!("{:?}.c", std::thread::current().id()));
            let built = text.with_extension("so");
            std::fs::write(&text, source).expect("a file");
            let status = Command::new("cc")
                .args(["-shared", "-fPIC", "-O1", "-fno-builtin", "-o"])
                .arg(&built)
                .arg(&text)
                .status();
            assert!(status.is_ok_and(|status| status.success()), "the allocator is compiled");
            std::fs::rename(built, &library).expect("a file");
        }
        let mut command = Command::new(&place.program);
        command.env("LD_PRELOAD", library);
        command
    });
    row.only_if(works(&["cc", "--version"]), "there is no C compiler")
}

fn known_allocator(name: &'static str) -> Row {
    let paths = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let library = paths.iter().map(|path| Path::new(path).join(name)).find(|path| path.exists());
    let exists = library.is_some();
    let row = Row::new(name, move |place| {
        let mut command = Command::new(&place.program);
        command.env("LD_PRELOAD", library.as_deref().expect("a library"));
        command
    });
    row.only_if(exists, "it is not installed")
}

// ---- others that look on, or take its time ----

#[test]
fn watched_and_stopped() {
    fn stop(program: &Running) {
        program.lines(1);
        let group = |signal| {
            // SAFETY: a system call on plain numbers; the group is of this test's making.
            unsafe { libc::kill(-(program.pid() as i32), signal) }
        };
        for _ in 0..3 {
            group(libc::SIGSTOP);
            let stat = || std::fs::read_to_string(format!("/proc/{}/stat", program.pid())).unwrap_or_default();
            until("it has stopped, or ended", || [") T ", ") Z "].iter().any(|state| stat().contains(state)));
            // Longer than the time limit of a call: that is the time during which nobody looks.
            std::thread::sleep(Duration::from_millis(400));
            group(libc::SIGCONT);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let plain = |place: &Place| Command::new(&place.program);
    let slow = std::env::var_os("POOL_SURROUNDINGS_SLOW").is_some();
    let valgrind = ["valgrind", "--quiet", "--error-exitcode=99", "--trace-children=yes", "{}"];
    let slowly = |row: Row| Row { patience: 6 * PATIENCE, ..row };
    judge(vec![
        Row { then: stop, ..Row::new("stopped and continued", plain) },
        Row::by("traced", &["strace", "-f", "-o", "/dev/null", "{}"]),
        // It passes no system calls on that it does not know, such as those of Landlock.
        slowly(Row::by("under valgrind", Box::leak(Box::new(valgrind))).may_say(&["Landlock"]))
            .only_if(slow, "POOL_SURROUNDINGS_SLOW is not set"),
    ]);
}

// ---- a process that forks after it has made a pool ----

#[test]
fn forked_after_the_pool() {
    let forked = |how: &'static str| {
        move |place: &Place| {
            let mut command = Command::new(&place.program);
            command.arg(how);
            command
        }
    };
    judge(vec![
        Row::new("forked", forked("forked")).may_say(&["after the fork"]),
        Row::new("as daemon() does it", forked("daemon")).may_say(&["after the fork"]),
    ]);
}
