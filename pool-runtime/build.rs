//! Does nothing: Cargo wants a build script in a package that has a `links` key.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
