//! The file of this program, and how it is started once more.
//!
//! ```text
//!   ./program a b                       the kernel: program, and the loader that it asks for     /proc/self/exe: program
//!   ld-linux.so --opt ./program a b     the kernel: loader; that loads the program               /proc/self/exe: loader
//! ```
//!
//! In the second case, the program sees `./program a b` as its arguments. Given to the loader as they are, `a` would be
//! the program to load.

use super::file_id;
use crate::os::remove_variable;
use rustix::fs::readlink;
use std::ffi::{CStr, OsStr, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::{fs, io};

const OWN: &str = "/proc/self/exe";

/// The file of this program, even after it was replaced or removed, where there is a `/proc`.
///
/// # Errors
///
/// The program was started through the loader, and its file is gone.
pub(crate) fn program_path() -> io::Result<PathBuf> {
    if let Some(file) = loaded_file()? {
        return Ok(file);
    }
    let own = PathBuf::from(OWN);
    if own.symlink_metadata().is_err() {
        return std::env::current_exe();
    }
    // Under valgrind, only reading the link leads to this program; the kernel runs valgrind. (If the file was replaced,
    // the link names none.)
    static IS_RUN_BY_KERNEL: OnceLock<()> = OnceLock::new();
    if IS_RUN_BY_KERNEL.get().is_some() {
        return Ok(own);
    }
    let Ok(named) = std::env::current_exe() else { return Ok(own) };
    if let (Ok(file), Ok(other)) = (file_id(&own), file_id(&named)) {
        if file != other {
            return Ok(named);
        }
        IS_RUN_BY_KERNEL.get_or_init(|| ());
    }
    Ok(own)
}

/// What to execute, and with which arguments, so that this program is started with `args`, of which the first one is its
/// name. If it was started through the loader, so is the new process, with the same options.
///
/// # Errors
///
/// It was started through the loader, and its file is gone, or it cannot be seen how.
pub(crate) fn own_command(args: Vec<OsString>) -> io::Result<(PathBuf, Vec<OsString>)> {
    let Some(file) = loaded_file()? else { return Ok((program_path()?, args)) };
    let line = fs::read("/proc/self/cmdline")?;
    let mut line: Vec<OsString> = line.split(|byte| *byte == 0).map(|arg| OsStr::from_bytes(arg).to_owned()).collect();
    // Each one ends in a zero.
    line.pop();
    let own: Vec<OsString> = std::env::args_os().collect();
    let options = options_before(&line, &own).ok_or_else(|| unclear("its command line was changed since"))?;
    let command = options.iter().cloned().chain([file.into()]).chain(args.into_iter().skip(1));
    Ok((OWN.into(), command.collect()))
}

/// The loader and its options: what stands before the program in the whole command line.
fn options_before<'l>(line: &'l [OsString], own: &[OsString]) -> Option<&'l [OsString]> {
    let (before, program_and_rest) = line.split_at_checked(line.len().checked_sub(own.len())?)?;
    // The program is known to itself by another name if the loader was told one.
    let is_named = program_and_rest.first() == own.first() || before.iter().any(|option| option == "--argv0");
    (!before.is_empty() && is_named && program_and_rest.get(1..) == own.get(1..)).then_some(before)
}

fn unclear(why: &str) -> io::Error {
    let loader = readlink(OWN, Vec::new()).unwrap_or_default();
    io::Error::other(format!(
        "this program was started through the loader {}, and cannot be started like this again, as {why}: start it \
         directly, or name its file with `Pool::builder().executable(…)`",
        loader.to_string_lossy()
    ))
}

/// The file of this program, if it was started through the loader. Otherwise, and where that cannot be seen, None.
fn loaded_file() -> io::Result<Option<PathBuf>> {
    // The kernel tells each program where its loader is. Only a static program, or the loader itself, has none.
    // SAFETY: asks for a number.
    if unsafe { libc::getauxval(libc::AT_BASE) } != 0 {
        return Ok(None);
    }
    let (Ok(started), Ok(maps)) = (readlink(OWN, Vec::new()), fs::read("/proc/self/maps")) else { return Ok(None) };
    let objects = objects();
    let Some((program, others)) = objects.split_first() else { return Ok(None) };
    let program = file_at(&maps, *program);
    // Something else that this process is not made of may have started it, such as an emulator.
    let is_loader = |address: &usize| file_at(&maps, *address) == Some(started.to_bytes());
    match program {
        Some(program) if program != started.to_bytes() && others.iter().any(is_loader) => {
            if program.ends_with(b" (deleted)") {
                return Err(unclear("its own file is gone"));
            }
            Ok(Some(OsString::from_vec(program.to_vec()).into()))
        }
        _ => Ok(None),
    }
}

/// Removes all environment variables but those to be kept, and their texts from where the kernel has put them.
pub(crate) fn forget_variables(kept: impl Fn(&OsStr) -> bool) {
    unsafe extern "C" {
        static environ: *const *mut c_char;
    }
    // The kernel's texts lie between these.
    // SAFETY: asks for numbers.
    let [from, to] = [libc::AT_RANDOM, libc::AT_EXECFN].map(|which| unsafe { libc::getauxval(which) } as usize);
    let mut texts = Vec::new();
    // SAFETY: a list of texts that ends with a null pointer, which nobody changes meanwhile: as for `remove_variable`.
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            texts.push((*at, CStr::from_ptr(*at).to_bytes().to_vec()));
            at = at.add(1);
        }
    }
    for (place, text) in texts {
        let Some(end) = text.iter().position(|byte| *byte == b'=') else { continue };
        let name = OsStr::from_bytes(&text[..end]);
        if kept(name) || name.is_empty() {
            continue;
        }
        remove_variable(name);
        if (from..to).contains(&place.addr()) {
            // SAFETY: the text was there, on the stack, and nothing refers to it any more but a pointer that somebody has
            // asked for: to a text, which is empty now.
            unsafe { place.write_bytes(0, text.len()) };
        }
    }
}

/// An address inside of each object of this process: first the program, then libraries and the loader.
fn objects() -> Vec<usize> {
    unsafe extern "C" fn note(object: *mut libc::dl_phdr_info, _: libc::size_t, objects: *mut c_void) -> c_int {
        // SAFETY: `dl_iterate_phdr` passes on the pointer that it was given, and one to an object's description.
        let (objects, object) = unsafe { (&mut *objects.cast::<Vec<usize>>(), &*object) };
        objects.push(object.dlpi_phdr.addr());
        0
    }
    let mut objects = Vec::<usize>::new();
    // SAFETY: the function gets the pointer to the vector, while nobody else uses that, and does not unwind: the vector
    // is small.
    unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut objects).cast()) };
    objects
}

/// The file that is mapped at an address, as `/proc/self/maps` says.
fn file_at(maps: &[u8], address: usize) -> Option<&[u8]> {
    maps.split(|byte| *byte == b'\n').find_map(|line| {
        let (range, rest) = line.split_at(line.iter().position(|byte| *byte == b' ')?);
        let (start, end) = std::str::from_utf8(range).ok()?.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        let file = &rest[rest.iter().position(|byte| *byte == b'/')?..];
        (number(start)?..number(end)?).contains(&address).then_some(file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn what_stands_before_the_program_is_the_loader() {
        let line = words("ld.so --library-path lib ./program a b");
        assert_eq!(options_before(&line, &words("./program a b")), Some(&line[..3]));
        let named = words("ld.so --argv0 other ./program a b");
        assert_eq!(options_before(&named, &words("other a b")), Some(&named[..3]));
        for changed in ["./program a c", "./program", "other a b", "ld.so --library-path lib ./program a b"] {
            assert_eq!(options_before(&line, &words(changed)), None, "{changed}");
        }
        assert_eq!(options_before(&line, &words("1 2 3 4 5 6 7 8")), None);
    }

    #[test]
    fn the_file_at_an_address_is_found() {
        let maps =
            b"1000-2000 r--p 00000000 fe:00 12   /lib/a b\n2000-3000 rw-p 0 00:00 0 \n3000-4000 r--p 0 fe:00 1 /c\n";
        assert_eq!(file_at(maps, 0x1fff), Some(&b"/lib/a b"[..]));
        assert_eq!(file_at(maps, 0x2000), None);
        assert_eq!(file_at(maps, 0x3000), Some(&b"/c"[..]));
        assert_eq!(file_at(maps, 0x4000), None);
    }

    #[test]
    fn this_program_was_started_directly() {
        assert_eq!(loaded_file().unwrap(), None);
        let args = words("name a");
        assert_eq!(own_command(args.clone()).unwrap(), (PathBuf::from(OWN), args));
        // The whole of what is looked at says the same.
        let maps = fs::read("/proc/self/maps").unwrap();
        assert_eq!(file_at(&maps, objects()[0]), Some(readlink(OWN, Vec::new()).unwrap().to_bytes()));
    }
}
