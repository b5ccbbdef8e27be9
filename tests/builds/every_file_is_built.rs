//! Every file of tests is part of a program: Cargo finds none here by itself, and nobody would miss one that is left out.

use std::{fs, path::Path};

/// The files and directories in a directory.
fn entries(directory: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_file_is_named_where_it_belongs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let named = |path: &Path| manifest.contains(&format!("path = \"{}\"\n", path.display()));
    let mut files = 0;
    for directory in entries(root).into_iter().filter(|path| path.is_dir()) {
        let main = directory.join("main.rs");
        let Ok(modules) = fs::read_to_string(&main) else { continue };
        assert!(named(main.strip_prefix(root).unwrap()), "{}", main.display());
        for file in entries(&directory).into_iter().filter(|file| *file != main) {
            let module = file.file_stem().unwrap().to_str().unwrap();
            let line = |line: &str| line.trim_start_matches("pub ") == format!("mod {module};");
            assert!(modules.lines().any(line), "{}", file.display());
            files += 1;
        }
    }
    for file in entries(&root.join("alone")) {
        assert!(named(file.strip_prefix(root).unwrap()), "{}", file.display());
        files += 1;
    }
    assert!(files > 100, "{files}");
}
