//! The README stays short, shows the program whose copy in `pool-runtime` is a doc-test, and no document links to a file
//! or a heading that is not there.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A path from the root of the workspace.
fn root(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

#[test]
fn readme_has_fewer_than_1000_words() {
    let words = read("README.md").split_whitespace().count();
    assert!(words < 1000, "README.md has {words} words");
}

#[test]
fn both_readmes_show_one_program() {
    let program = |path| {
        let readme = read(path);
        let (_, rest) = readme.split_once("```rust\n").expect("a program");
        rest.split_once("```").expect("the end of the program").0.to_owned()
    };
    assert_eq!(program("README.md"), program("pool-runtime/README.md"));
}

/// The code of all tests, and of the crate, where its unit tests are.
fn tests_source() -> String {
    let mut source = String::new();
    let mut folders = vec![root("tests"), root("pool-runtime/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.extension() {
                None if entry.is_dir() => folders.push(entry),
                Some(extension) if extension == "rs" => source += &read(entry),
                _ => {}
            }
        }
    }
    source
}

#[test]
fn each_promise_is_held_by_a_test() {
    let (page, source) = (read("pool-runtime/guide/trust.md"), tests_source());
    let (_, promises) = page.split_once("## What is promised").expect("a chapter");
    let (promises, _) = promises.split_once("## What is not promised").expect("another chapter");
    let rows = promises.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise "));
    let mut names = 0;
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit_once(" | ").expect("two columns").1;
        let tests: Vec<&str> = tests.split(", ").map(|test| test.trim_matches('`')).collect();
        for test in &tests {
            let name = test.rsplit("::").next().expect("a name");
            let is_there = [format!("fn {name}("), format!("mod {name};")].iter().any(|item| source.contains(item));
            assert!(is_there, "there is no test `{test}`, which is to hold: {row}");
        }
        names += tests.len();
    }
    assert!(names > 40, "only {names} tests were found");
}

/// Whether a document has the heading to which a link within it leads.
fn has_heading(text: &str, link: &str) -> bool {
    let kept = |heading: &str| {
        heading.to_lowercase().replace(' ', "-").replace(|c: char| c.is_ascii_punctuation() && c != '-', "")
    };
    text.lines().filter(|line| line.starts_with('#')).any(|line| kept(line.trim_start_matches(['#', ' '])) == link)
}

#[test]
fn links_lead_to_files() {
    let guide = fs::read_dir(root("pool-runtime/guide")).unwrap().map(|page| page.unwrap().path());
    let others = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "pool-runtime/README.md",
        "pool-macros/README.md",
    ];
    let mut links = 0;
    for document in guide.chain(others.map(root)) {
        let text = read(&document);
        let inline = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        let definitions = text.lines().filter(|line| line.starts_with('[')).filter_map(|line| line.split_once("]: "));
        for target in inline.chain(definitions.map(|(_, target)| target)) {
            // What names an item of the crate, `cargo doc` checks.
            if target.starts_with("https://") || target.starts_with("crate::") {
                continue;
            }
            if let Some(link) = target.strip_prefix('#') {
                assert!(has_heading(&text, link), "{} links to #{link}, which is no heading of it", document.display());
                links += 1;
                continue;
            }
            let file = document.parent().unwrap().join(target);
            assert!(file.exists(), "{} links to {target}, which is not there", document.display());
            links += 1;
        }
    }
    assert!(links > 50, "only {links} links were found");
}
