//! Messages and proofs are those of CPython's own `multiprocessing.connection`: each Python that is found is both
//! sides.

use crate::peer::{bound, tcp};
use crate::support::{directory, returns};
use pool_runtime::{
    Error,
    connection::{Address, AuthKey, Client, Connection, Listener},
};
use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

const KEY: &str = "known to both";

/// A Python, and whether it can do more than HMAC-MD5.
struct Python {
    program: PathBuf,
    is_modern: bool,
}

fn asked(program: PathBuf) -> Option<Python> {
    let version = "import sys, multiprocessing.connection; print(sys.version_info >= (3, 12))";
    let output = Command::new(&program).args(["-c", version]).output().ok()?;
    let is_modern = output.status.success().then_some(output.stdout)? == b"True\n";
    Some(Python { program, is_modern })
}

/// The Pythons of the path, and those that pyenv has.
fn pythons() -> Vec<Python> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let kept = root.and_then(|root| std::fs::read_dir(root.join("versions")).ok());
    let kept = kept.into_iter().flatten().flatten().map(|version| version.path().join("bin/python3"));
    let found: Vec<_> = std::iter::once("python3".into()).chain(kept).filter_map(asked).collect();
    for (what, is_modern) in [("up to 3.11", false), ("from 3.12 on", true)] {
        if !found.iter().any(|python| python.is_modern == is_modern) {
            eprintln!("not tested with CPython {what}: there is no `python3` of such a version");
        }
    }
    found
}

/// Sends back what it receives, until the other side closes the connection.
const ECHO: &str = "
def echo(connection):
    try:
        while True:
            connection.send_bytes(connection.recv_bytes())
    except EOFError:
        print('closed', flush=True)
";

const SERVE: &str = "
import sys, multiprocessing, multiprocessing.connection as c
address = ('127.0.0.1', 0) if sys.argv[1] == 'tcp' else sys.argv[1]
with c.Listener(address, authkey=sys.argv[2].encode()) as listener:
    print(listener.address[1] if sys.argv[1] == 'tcp' else 'here', flush=True)
    try:
        echo(listener.accept())
    except (multiprocessing.AuthenticationError, EOFError, OSError) as error:
        print(type(error).__name__, flush=True)
";

const JOIN: &str = "
import sys, multiprocessing, multiprocessing.connection as c
address = sys.argv[1] if sys.argv[1].startswith('/') else ('127.0.0.1', int(sys.argv[1].rpartition(':')[2]))
try:
    echo(c.Client(address, authkey=sys.argv[2].encode()))
except (multiprocessing.AuthenticationError, EOFError, OSError, AssertionError) as error:
    print(type(error).__name__, flush=True)
";

/// A Python that runs, and the lines that it prints.
struct Script(Child, std::io::Lines<BufReader<std::process::ChildStdout>>);

impl Script {
    fn start(python: &Python, script: &str, args: [&str; 2]) -> Self {
        let script = format!("{ECHO}{script}");
        let mut command = Command::new(&python.program);
        let mut child = command.arg("-c").arg(script).args(args).stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self(child, lines)
    }

    fn line(&mut self) -> String {
        self.1.next().expect("a line").expect("text")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn key(text: &str) -> AuthKey {
    AuthKey::new(text)
}

/// Messages of all lengths come back as they were.
fn check_echo(connection: &Connection) {
    for length in [0, 1, 255, 16384, 16385, 1 << 20] {
        let message: Vec<u8> = (0..length).map(|at: u32| (at * 7) as u8).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| connection.send_bytes(&message).expect("it reads"));
            assert!(connection.recv_bytes().expect("it sends").as_ref() == Some(&message), "{length}");
        });
    }
}

/// Connects to a Python that listens; it is given the text of the key that Python has.
fn to_python(python: &Python, unix: bool, keys: [&str; 2], allow_md5: bool) -> (Result<Connection, Error>, Script) {
    let directory = directory();
    let path = directory.path().join("socket").display().to_string();
    let mut script = Script::start(python, SERVE, [if unix { &path } else { "tcp" }, keys[1]]);
    let said = script.line();
    let address: Address =
        if unix { path.as_str().into() } else { ("127.0.0.1", said.parse().expect("a port")).into() };
    let client = Client::builder().authkey(key(keys[0])).allow_md5(allow_md5);
    (returns("a connection to Python", move || client.connect(address)), script)
}

/// Has a Python connect to here.
fn from_python(python: &Python, unix: bool, keys: [&str; 2], allow_md5: bool) -> (Result<Connection, Error>, Script) {
    let directory = directory();
    let builder = Listener::builder().authkey(key(keys[0])).allow_md5(allow_md5);
    let (listener, address) = if unix {
        let path = directory.path().join("socket");
        (builder.bind(&path).expect("it listens"), path.display().to_string())
    } else {
        let listener = bound(builder);
        let address = tcp(&listener).to_string();
        (listener, address)
    };
    let script = Script::start(python, JOIN, [&address, keys[1]]);
    (returns("a connection from Python", move || listener.accept()), script)
}

#[test]
fn both_ways_over_both_kinds_of_address() {
    for python in pythons() {
        for unix in [false, true] {
            for connect in [to_python, from_python] {
                let (connection, mut script) = connect(&python, unix, [KEY; 2], !python.is_modern);
                let connection = connection.unwrap_or_else(|error| panic!("{}: {error}", python.program.display()));
                check_echo(&connection);
                drop(connection);
                assert_eq!(script.line(), "closed");
            }
        }
    }
}

#[test]
fn an_old_python_is_refused_unless_md5_is_allowed() {
    for python in pythons().into_iter().filter(|python| !python.is_modern) {
        for connect in [to_python, from_python] {
            let (refused, mut script) = connect(&python, false, [KEY; 2], false);
            let text = refused.unwrap_err().to_string();
            assert!(text.contains("HMAC-MD5") && text.contains("`.allow_md5(true)`"), "{text}");
            assert!(["AuthenticationError", "EOFError", "ConnectionResetError"].contains(&&*script.line()));
        }
    }
}

#[test]
fn another_key_is_refused() {
    for python in pythons() {
        for connect in [to_python, from_python] {
            let (refused, mut script) = connect(&python, false, [KEY, "another"], true);
            let error = refused.unwrap_err();
            assert!(error.is_authentication() && error.to_string().contains("key"), "{error}");
            assert_eq!(script.line(), "AuthenticationError");
        }
    }
}
