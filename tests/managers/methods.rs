//! What a proxy's methods do: arguments, results, errors and panics.

use pool_runtime::{Dict, List, Manager, Proxy, Queue, Ran, Shared, current_process, managed};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub text: String,
    pub numbers: Vec<f64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct TooLong(pub usize);

pub struct Notebook {
    entries: Vec<Entry>,
    longest: usize,
}

#[managed]
impl Notebook {
    /// Has room for entries of that length.
    pub fn new(longest: usize) -> Self {
        Self { entries: Vec::new(), longest }
    }

    pub fn with_title(title: &str, longest: usize) -> Result<Self, TooLong> {
        match title.len() <= longest {
            true => Ok(Notebook { entries: vec![Entry { text: title.into(), numbers: Vec::new() }], longest }),
            false => Err(TooLong(title.len())),
        }
    }

    pub fn from_file(file: &Path) -> Result<Self, anyhow::Error> {
        Ok(Self { entries: Vec::new(), longest: std::fs::read_to_string(file)?.trim().parse()? })
    }

    pub fn from_text(text: &str) -> Result<Self, Box<dyn std::error::Error>> {
        Ok(Self { entries: Vec::new(), longest: text.parse()? })
    }

    pub fn from_bytes(bytes: &[u8]) -> anyhow::Result<Self> {
        Self::from_utf8(std::str::from_utf8(bytes)?).map_err(Into::into)
    }

    pub fn from_utf8(text: &str) -> std::io::Result<Self> {
        let longest = text.parse().map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))?;
        Ok(Notebook { entries: Vec::new(), longest })
    }

    pub fn from_queue(lengths: Queue<usize>) -> pool_runtime::Result<Notebook> {
        Ok(Self::new(lengths.try_get()?.unwrap_or(0)))
    }

    pub fn save(&self, file: &Path) -> std::io::Result<()> {
        std::fs::write(file, self.longest.to_string())
    }

    pub fn panicking() -> Self {
        panic!("no notebook today")
    }

    pub fn write(&mut self, entry: &Entry) -> Result<usize, TooLong> {
        if entry.text.len() > self.longest {
            return Err(TooLong(entry.text.len()));
        }
        self.entries.push(entry.clone());
        Ok(self.entries.len())
    }

    pub fn read(&self, index: usize) -> Option<Entry> {
        self.entries.get(index).cloned()
    }

    pub fn sum(&self, numbers: &[f64], words: &str, bytes: &[u8], path: &Path, tuple: (u8, char)) -> String {
        let sum: f64 = numbers.iter().sum();
        format!("{sum} {words} {bytes:?} {} {tuple:?}", path.display())
    }

    pub fn patterns(&self, (a, b): (u32, u32), mut r#type: String, _: u8) -> String {
        r#type.push_str(&format!("{}", a + b));
        r#type
    }

    pub fn r#match(&self) -> HashMap<String, u32> {
        HashMap::from([("one".into(), 1)])
    }

    pub fn tear(&mut self, at: usize) -> Entry {
        self.entries.insert(0, Entry { text: "half done".into(), numbers: Vec::new() });
        self.entries.remove(at + 1)
    }

    pub fn large(&self, length: usize) -> Vec<u8> {
        vec![7; length]
    }

    pub fn queue(&self) -> Queue<u8> {
        Queue::unbounded().unwrap()
    }

    pub(crate) fn unit(&self) {}

    fn private(&self) -> usize {
        Self::not_for_clients() + self.hidden()
    }

    #[pool_runtime::managed(skip)]
    pub fn hidden(&self) -> usize {
        self.entries.len()
    }

    #[managed(skip)]
    pub fn consume(self) -> impl Iterator<Item = Entry> {
        self.entries.into_iter()
    }

    pub fn not_for_clients() -> usize {
        1
    }
}

fn entry(text: &str) -> Entry {
    Entry { text: text.into(), numbers: vec![0.5, f64::MAX] }
}

#[test]
fn arguments_and_results_arrive() {
    let manager = Manager::start().unwrap();
    let book = NotebookProxy::new(&manager, 10).unwrap();
    assert_eq!(book.write(&entry("one")).unwrap(), Ok(1));
    assert_eq!(book.write(&entry("two")).unwrap(), Ok(2));
    assert_eq!(book.read(1).unwrap(), Some(entry("two")));
    assert_eq!(book.read(2).unwrap(), None);
    let text = book.sum(&[0.25, 1.0], "word", b"ab", Path::new("/a/b"), (1, 'é')).unwrap();
    assert_eq!(text, "1.25 word [97, 98] /a/b (1, 'é')");
    assert_eq!(book.patterns((1, 2), "n".into(), 0).unwrap(), "n3");
    assert_eq!(book.r#match().unwrap()["one"], 1);
    book.unit().unwrap();
    assert_eq!(book.private().unwrap(), 3);
    // What it was made of is used as it was.
    assert_eq!(Notebook::new(3).consume().count(), 0);
}

#[test]
fn large_values_arrive() {
    let manager = Manager::start().unwrap();
    let book = NotebookProxy::new(&manager, 10).unwrap();
    let length = 5 << 20;
    assert_eq!(book.large(length).unwrap(), vec![7; length]);
    let numbers = vec![1.0; 1 << 18];
    assert_eq!(book.sum(&numbers, "", b"", Path::new(""), (0, 'x')).unwrap(), "262144  []  (0, 'x')");
}

#[test]
fn a_method_that_returns_a_result_returns_it_inside() {
    let manager = Manager::start().unwrap();
    let book = NotebookProxy::new(&manager, 3).unwrap();
    assert_eq!(book.write(&entry("long")).unwrap(), Err(TooLong(4)));
}

#[test]
fn a_constructor_can_fail() {
    let manager = Manager::start().unwrap();
    let book = NotebookProxy::with_title(&manager, "title", 5).unwrap().unwrap();
    assert_eq!(book.read(0).unwrap().unwrap().text, "title");
    assert_eq!(NotebookProxy::with_title(&manager, "title", 4).unwrap().unwrap_err(), TooLong(5));
    let error = NotebookProxy::panicking(&manager).unwrap_err();
    assert_eq!(error.panic().unwrap().message(), "no notebook today");
    assert!(error.to_string().starts_with("method `managers::methods::Notebook::panicking` panicked at "), "{error}");
}

#[test]
fn errors_of_any_type_arrive_from_constructors_and_methods() {
    let manager = Manager::start().unwrap();
    let error = NotebookProxy::from_file(&manager, Path::new("/no/such/file")).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "No such file or directory (os error 2)");
    let error = NotebookProxy::from_text(&manager, "ten").unwrap().unwrap_err();
    assert_eq!(error.to_string(), "invalid digit found in string");
    let book = NotebookProxy::from_text(&manager, "10").unwrap().unwrap();
    assert_eq!(book.write(&entry("short")).unwrap(), Ok(1));
    assert_eq!(book.save(Path::new("/no/such/file")).unwrap().unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_constructor_returns_an_alias_of_a_result() {
    let manager = Manager::start().unwrap();
    let error: anyhow::Error = NotebookProxy::from_bytes(&manager, b"ten").unwrap().unwrap_err();
    assert_eq!(error.to_string(), "invalid digit found in string");
    let error: std::io::Error = NotebookProxy::from_utf8(&manager, "ten").unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    let lengths = Queue::unbounded().unwrap();
    let error: pool_runtime::Error = NotebookProxy::from_queue(&manager, lengths.clone()).unwrap().unwrap_err();
    assert!(error.is_would_block(), "{error}");
    lengths.put(&5).unwrap();
    for book in [
        NotebookProxy::from_queue(&manager, lengths).unwrap().unwrap(),
        NotebookProxy::from_utf8(&manager, "5").unwrap().unwrap(),
        NotebookProxy::from_bytes(&manager, b"5").unwrap().unwrap(),
    ] {
        assert_eq!(book.write(&entry("too long")).unwrap(), Err(TooLong(8)));
        assert_eq!(book.write(&entry("short")).unwrap(), Ok(1));
    }
}

#[test]
fn a_panic_is_an_error_of_that_call_alone() {
    let manager = Manager::start().unwrap();
    let book = NotebookProxy::new(&manager, 10).unwrap();
    let error = book.tear(3).unwrap_err();
    let panic = error.panic().expect("a panic");
    assert!(panic.message().contains("(is 4)") && panic.file().unwrap().ends_with("methods.rs"), "{error}");
    assert!(panic.line().is_some());
    assert_eq!((error.ran(), error.task_name()), (Ran::Yes, Some("managers::methods::Notebook::tear")));
    // It goes on as the method has left it.
    assert_eq!(book.read(0).unwrap().unwrap().text, "half done");
    assert_eq!(book.write(&entry("more")).unwrap(), Ok(2));
}

#[test]
fn proxies_of_one_object_are_equal() {
    let manager = Manager::start().unwrap();
    let [book, other] = [(); 2].map(|()| NotebookProxy::new(&manager, 10).unwrap());
    assert_eq!(book, book.clone());
    assert_ne!(book, other);
    let shown = format!("{book:?}");
    assert!(shown.starts_with("NotebookProxy(object 1 of the manager at "), "{shown}");
    fn is_proxy(_: &(impl Proxy + Clone + Send + Sync)) {}
    is_proxy(&book);
}

#[test]
fn handles_travel_both_ways_and_are_kept_by_containers() {
    let manager = Manager::start().unwrap();
    let queue = NotebookProxy::new(&manager, 10).unwrap().queue().unwrap();
    queue.put(&3).unwrap();
    assert_eq!(queue.clone().get().unwrap(), Some(3));
    let slices = List::new(&manager).unwrap();
    slices.extend((0..20).map(|n| Shared::new(&[n, 2 * n]).unwrap())).unwrap();
    assert_eq!(slices.get(7).unwrap().as_deref(), Some(&[7, 14][..]));
    assert_eq!(slices.to_vec().unwrap().iter().map(|slice| slice[0]).sum::<u32>(), 190);
    let queues = Dict::new(&manager).unwrap();
    queues.insert("one", &queue).unwrap();
    queue.put(&4).unwrap();
    assert_eq!(queues.get("one").unwrap().unwrap().get().unwrap(), Some(4));
    let by_address = Manager::connect(manager.address(), current_process().authkey().unwrap()).unwrap();
    manager.publish("slices", &slices).unwrap();
    let slices = List::open(&by_address, "slices").unwrap();
    // Elsewhere they would mean nothing.
    let error = slices.push(&Shared::new(&[1_u32, 2]).unwrap()).unwrap_err();
    assert!(error.is_encode() && error.ran() == Ran::No, "{error}");
    let error = slices.get(0).unwrap_err();
    assert!(error.is_encode() && error.ran() == Ran::Yes, "{error}");
    assert_eq!(slices.len().unwrap(), 20);
}

pub struct Lengths;

#[managed]
impl Lengths {
    pub fn new(_seed: Vec<u64>) -> Self {
        Self
    }

    pub fn of(&self, bytes: &[u8], text: &str, numbers: Vec<u64>) -> [usize; 3] {
        [bytes.len(), text.len(), numbers.len()]
    }
}

#[test]
fn large_arguments_arrive_also_from_where_there_are_pools() {
    let pool = pool_runtime::Pool::new(1).unwrap();
    let manager = Manager::start().unwrap();
    let large = vec![7_u64; 1 << 16];
    let lengths = LengthsProxy::new(&manager, large.clone()).unwrap();
    let (bytes, text) = (vec![1; 1 << 19], "a".repeat(1 << 20));
    assert_eq!(lengths.of(&bytes, &text, large).unwrap(), [1 << 19, 1 << 20, 1 << 16]);
    drop(pool);
}
