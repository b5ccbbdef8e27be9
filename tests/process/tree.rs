//! Processes start processes: each has its place in the tree, and their number of levels has an end.

use pool_runtime::{Process, current_process, parent_process, task};

/// A process, its parent, and what it has started.
type Tree = (String, u32, u32, Vec<Box<Twig>>);

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Twig(Tree);

#[task]
fn grow(levels: u32, width: u32) -> Tree {
    let start = |_| Process::new(grow::call(levels - 1, width)).start().expect("it starts");
    let branches: Vec<_> = if levels == 0 { vec![] } else { (0..width).map(start).collect() };
    let below = branches.iter().map(|branch| Box::new(Twig(branch.join().expect("it returns")))).collect();
    let parent = parent_process().expect("it has one").pid();
    assert_eq!(parent, std::os::unix::process::parent_id());
    (current_process().name().to_owned(), std::process::id(), parent, below)
}

fn check(tree: &Tree, name: &str, parent: u32, levels: u32, width: u32) -> usize {
    assert_eq!((tree.0.as_str(), tree.2), (name, parent));
    assert_eq!(tree.3.len() as u32, if levels == 0 { 0 } else { width });
    let below = tree.3.iter().zip(1..);
    1 + below.map(|(twig, n)| check(&twig.0, &format!("{name}:{n}"), tree.1, levels - 1, width)).sum::<usize>()
}

#[test]
fn a_tree_of_processes() {
    let process = Process::new(grow::call(3, 2)).start().expect("it starts");
    let tree = process.join().expect("it returns");
    assert_eq!(tree.1, process.pid());
    assert_eq!(check(&tree, process.name(), std::process::id(), 3, 2), 15);
}

/// Goes down as far as it is let, and returns how far that was and why not further.
#[task]
fn dig() -> (u32, String) {
    match Process::new(dig::call()).name("digger").start() {
        Ok(below) => {
            let (depth, why) = below.join().expect("it returns");
            (depth + 1, why)
        }
        Err(error) => (0, error.to_string()),
    }
}

#[test]
fn a_tree_without_end_is_refused() {
    let process = Process::new(dig::call()).name("digger").start().expect("it starts");
    let (depth, why) = process.join().expect("it returns");
    assert!(why.contains("nested"), "{why}");
    assert!((4..100).contains(&depth), "{depth} levels");
}
