//! The floors of pool-runtime: a file imports only from below, so that each can be understood without what is above it.
//!
//! [`FLOORS`] is the table; the drawing in ARCHITECTURE.md is compared with it. Every import counts, wherever it stands
//! in a file: `use`, and paths that begin with `crate` or `super`. Tests inside of the crate may look up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};
use syn::visit::Visit;

/// From the ground up: what a floor is for, and its rooms. A room is a file or a folder of `src`, without `.rs`. It
/// imports from the floors below, and on its own floor from the rooms that stand before it. The longest name counts:
/// `pool/dispatcher` is no part of `pool`.
const FLOORS: &[(&str, &[&str])] = &[
    ("ground", &["locks", "hash", "foreign", "secret", "targets", "os"]),
    ("memory", &["memory"]),
    ("bytes", &["codec", "transport"]),
    ("messages", &["panic", "logging", "policy", "dossier", "protocol"]),
    (
        "vocabulary",
        &[
            "run",
            "task/info",
            "registry",
            "report",
            "error",
            "task",
            "options",
            "sandbox",
            "authkey",
            "identity",
            "program",
        ],
    ),
    ("workers", &["worker", "peer"]),
    ("results", &["job", "connection", "objects"]),
    ("pools", &["pool/dispatcher", "pool"]),
    ("surface", &["process", "wait", "manager", "replay", "entry", "guide", "lib"]),
];

/// Files and folders that are only compiled for tests, which may import anything.
const FOR_TESTS: &[&str] = &["tests", "fuzz", "simulation", "conformance"];

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The tests' package, or the workspace.
    [here.to_path_buf(), here.join("..")].into_iter().find(|dir| dir.join("pool-runtime/src").exists()).unwrap()
}

/// One source file, and its modules' names from the crate's root.
struct File {
    module: Vec<String>,
    /// What it has by other files: name, and the path that it stands for.
    exports: Vec<(String, Vec<String>)>,
    imports: Vec<Vec<String>>,
}

/// Collects what a file imports, outside of its tests.
struct Imports<'f> {
    file: &'f mut File,
    /// Modules that are written inside of the file, down to here.
    inner: Vec<String>,
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string();
        attribute.path().is_ident("cfg") && condition.contains("test") && !condition.contains("not (")
            || attribute.path().is_ident("cfg") && condition.starts_with("all (test")
    })
}

impl Imports<'_> {
    fn here(&self) -> Vec<String> {
        self.file.module.iter().chain(&self.inner).cloned().collect()
    }

    /// The path from the crate's root, if this one begins in a way that says so.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let mut from = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "super" | "self" => self.here(),
            _ => return None,
        };
        let mut rest = path;
        while let Some((first, later)) = rest.split_first() {
            match first.as_str() {
                "super" => drop(from.pop()),
                "crate" | "self" => {}
                _ => break,
            }
            rest = later;
        }
        from.extend(rest.iter().cloned());
        Some(from)
    }

    fn leaves(tree: &syn::UseTree, before: &[String], found: &mut Vec<(Vec<String>, String)>) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            syn::UseTree::Path(path) => Self::leaves(&path.tree, &with(&path.ident), found),
            syn::UseTree::Name(name) if name.ident == "self" => {
                found.push((before.to_vec(), before.last().cloned().unwrap_or_default()));
            }
            syn::UseTree::Name(name) => found.push((with(&name.ident), name.ident.to_string())),
            syn::UseTree::Rename(rename) => found.push((with(&rename.ident), rename.rename.to_string())),
            syn::UseTree::Glob(_) => found.push((before.to_vec(), "*".into())),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| Self::leaves(tree, before, found)),
        }
    }
}

impl<'ast> Visit<'ast> for Imports<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes: &[syn::Attribute] = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    // Who may see an item is no import.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.inner.push(module.ident.to_string());
        syn::visit::visit_item_mod(self, module);
        self.inner.pop();
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            syn::visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut leaves = Vec::new();
        Self::leaves(&item.tree, &[], &mut leaves);
        for (path, name) in leaves {
            // A path that begins with a module of this file's own.
            let own = || self.here().into_iter().chain(path.iter().cloned()).collect();
            let whole = self.absolute(&path).unwrap_or_else(own);
            match item.vis {
                // What is handed on belongs to whoever asks for it.
                syn::Visibility::Public(_) | syn::Visibility::Restricted(_) => self.file.exports.push((name, whole)),
                // The modules below have a private import by this name, too.
                syn::Visibility::Inherited => {
                    self.file.exports.push((name, whole.clone()));
                    self.file.imports.push(whole);
                }
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1
            && let Some(whole) = self.absolute(&segments)
        {
            self.file.imports.push(whole);
        }
        syn::visit::visit_path(self, path);
    }
}

/// The source files below a folder that are not for tests alone, with their names: `pool/map`, `pool/mod`.
fn sources(src: &Path) -> BTreeMap<String, PathBuf> {
    fn gather(dir: &Path, before: &str, found: &mut BTreeMap<String, PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let whole = if before.is_empty() { name.to_owned() } else { format!("{before}/{name}") };
            if FOR_TESTS.contains(&name) {
                continue;
            } else if path.is_dir() {
                gather(&path, &whole, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.insert(whole, path);
            }
        }
    }
    let mut found = BTreeMap::new();
    gather(src, "", &mut found);
    found
}

/// All files of pool-runtime, and what they import.
fn files() -> BTreeMap<String, File> {
    let read = |(name, path): (String, PathBuf)| {
        let module = name.strip_suffix("/mod").unwrap_or(&name).split('/').map(str::to_owned);
        let module = if name == "lib" { Vec::new() } else { module.collect() };
        let mut file = File { module, exports: Vec::new(), imports: Vec::new() };
        let parsed = syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap();
        Imports { file: &mut file, inner: Vec::new() }.visit_file(&parsed);
        (name, file)
    };
    sources(&root().join("pool-runtime/src")).into_iter().map(read).collect()
}

/// The file in which the thing of this path is defined, or, for a module, the module's.
fn defined_in<'f>(files: &'f BTreeMap<String, File>, path: &[String], depth: u32) -> Option<&'f str> {
    let (mut best, mut rest) = (("lib", &files["lib"]), path);
    for length in 1..=path.len() {
        let name = path[..length].join("/");
        let found = files.get_key_value(&name).or_else(|| files.get_key_value(&format!("{name}/mod")));
        if let Some((name, file)) = found {
            (best, rest) = ((name.as_str(), file), &path[length..]);
        }
    }
    let (name, file) = best;
    let (Some(wanted), true) = (rest.first(), depth < 8) else { return Some(name) };
    let exported = file.exports.iter().find(|(exported, _)| exported == wanted);
    match exported {
        Some((_, whole)) => {
            let whole: Vec<String> = whole.iter().chain(&rest[1..]).cloned().collect();
            if whole == path { Some(name) } else { defined_in(files, &whole, depth + 1) }
        }
        None => Some(name),
    }
}

/// Which files each file imports.
fn imports(files: &BTreeMap<String, File>) -> BTreeMap<&str, BTreeSet<&str>> {
    let of = |name: &str, file: &File| {
        let found = file.imports.iter().filter_map(|path| defined_in(files, path, 0));
        found.filter(|other| *other != name).map(|other| files.get_key_value(other).unwrap().0.as_str()).collect()
    };
    files.iter().map(|(name, file)| (name.as_str(), of(name, file))).collect()
}

/// Descriptors, signals and system calls have names above it that every system can give a meaning.
#[test]
fn only_os_knows_the_system() {
    let src = root().join("pool-runtime/src");
    let mut wrong = Vec::new();
    for file in files().keys().filter(|file| !file.starts_with("os/")) {
        let text = fs::read_to_string(src.join(format!("{file}.rs"))).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for line in code.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
            if ["libc::", "rustix::", "std::os::", "target_os"].iter().any(|name| line.contains(name)) {
                wrong.push(format!("{file}.rs: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "outside of os/:\n{}", wrong.join("\n"));
}

/// The floor and the place there of a file.
fn place(file: &str) -> Option<(usize, usize)> {
    let within = |room: &str| file == room || file.strip_prefix(room).is_some_and(|rest| rest.starts_with('/'));
    let rooms = FLOORS.iter().enumerate().flat_map(|(floor, (_, rooms))| {
        rooms.iter().enumerate().map(move |(place, room)| (room.len(), floor, place, *room))
    });
    rooms.filter(|(.., room)| within(room)).max().map(|(_, floor, place, _)| (floor, place))
}

#[test]
fn every_file_has_a_floor() {
    let files = files();
    let homeless: Vec<_> = files.keys().filter(|file| place(file).is_none()).collect();
    assert!(homeless.is_empty(), "on no floor: {homeless:?}");
    for room in FLOORS.iter().flat_map(|(_, rooms)| rooms.iter()) {
        let exists = files.keys().any(|file| file == room || file.starts_with(&format!("{room}/")));
        assert!(exists, "`{room}` is no file and no folder");
    }
}

#[test]
fn nothing_is_imported_from_above() {
    let files = files();
    let mut wrong = Vec::new();
    for (file, others) in imports(&files) {
        for other in others {
            if place(other) > place(file) {
                wrong.push(format!("{file}.rs imports {other}.rs, which is above it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} imports lead up:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    /// The way on which `file` is found again, if there is one.
    fn circle<'f>(
        file: &'f str,
        imports: &BTreeMap<&'f str, BTreeSet<&'f str>>,
        way: &mut Vec<&'f str>,
        done: &mut BTreeSet<&'f str>,
    ) -> Option<String> {
        if let Some(at) = way.iter().position(|before| *before == file) {
            return Some(way[at..].iter().chain([&file]).copied().collect::<Vec<_>>().join(" → "));
        }
        if !done.insert(file) {
            return None;
        }
        way.push(file);
        let found = imports[file].iter().find_map(|other| circle(other, imports, way, done));
        way.pop();
        found
    }
    let files = files();
    let imports = imports(&files);
    let mut done = BTreeSet::new();
    let circles: Vec<_> =
        imports.keys().filter_map(|file| circle(file, &imports, &mut Vec::new(), &mut done)).collect();
    assert!(circles.is_empty(), "files import each other:\n{}", circles.join("\n"));
}

/// Names of types that the crate defines for itself: not those of `os`, of which there is one for each system.
#[derive(Default)]
struct Types(Vec<String>);

impl<'ast> Visit<'ast> for Types {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let (attributes, name) = match item {
            syn::Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Union(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Type(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Mod(item) => (&item.attrs, None),
            syn::Item::Fn(item) => (&item.attrs, None),
            _ => return syn::visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            self.0.extend(name.map(ToString::to_string));
            syn::visit::visit_item(self, item);
        }
    }
}

#[test]
fn no_type_name_means_two_things() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for crate_name in ["pool-runtime", "pool-macros"] {
        for (file, path) in sources(&root().join(crate_name).join("src")) {
            if file.starts_with("os/unsupported") {
                // What it stands in for has the same names.
                continue;
            }
            let mut types = Types::default();
            types.visit_file(&syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap());
            for name in types.0 {
                places.entry(name).or_default().push(format!("{crate_name}/src/{file}.rs"));
            }
        }
    }
    let twice: Vec<_> = places.iter().filter(|(_, places)| places.len() > 1).collect();
    assert!(places.len() > 300, "only {} types were found", places.len());
    assert!(twice.is_empty(), "defined more than once: {twice:#?}");
}

/// What ARCHITECTURE.md shows between the marks.
const DRAWING: [&str; 2] = ["<!-- floors: compared with tests/floors.rs -->\n```text\n", "```"];

#[test]
fn the_drawing_shows_these_floors() {
    let mut drawing = String::new();
    for (number, (name, rooms)) in FLOORS.iter().enumerate().rev() {
        drawing.push_str(&format!("{number}  {name:<10}  {}\n", rooms.join("  ")));
    }
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let shown = architecture.split_once(DRAWING[0]).and_then(|(_, rest)| rest.split_once(DRAWING[1]));
    let (shown, _) = shown.expect("the drawing of the floors");
    assert_eq!(shown, drawing, "ARCHITECTURE.md is to show:\n{drawing}");
}
