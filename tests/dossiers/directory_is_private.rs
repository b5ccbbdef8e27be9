//! A pool keeps dossiers only where nobody else decides what is there: in a directory of its own user, into which no other
//! may write, and in the one that was there when it was made, whatever has taken its place since.

use crate::support::{builder, directory, over_every_transport};
use pool_runtime::{Error, Pool, Result, task};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;

over_every_transport! {
    a_directory_into_which_others_may_write_is_refused,
    a_directory_of_another_user_is_refused,
    a_link_that_another_user_has_made_is_refused,
    what_takes_the_place_of_the_directory_gets_nothing,
    a_directory_that_is_opened_to_others_later_gets_nothing,
    a_directory_that_was_removed_is_made_again,
}

#[task]
fn crash() {
    std::process::abort();
}

fn keeping(dir: &Path) -> Result<Pool> {
    builder().processes(1).dossiers(dir).build()
}

#[track_caller]
fn refused(dir: &Path) -> Error {
    let error = keeping(dir).expect_err("others decide what is there");
    assert!(error.to_string().contains(&format!("cannot keep dossiers in {dir:?}")), "{error}");
    error
}

fn files_in(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

fn is_root() -> bool {
    // SAFETY: returns a number.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("not tested: only root can give files to another user");
    }
    root
}

fn a_directory_into_which_others_may_write_is_refused() {
    let dir = directory();
    // The last one as `/tmp` is.
    for mode in [0o777, 0o702, 0o720, 0o1777] {
        fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
        let error = refused(dir.path());
        assert!(
            error.to_string().contains("chmod go-w") && error.to_string().contains(&format!("{mode:o}")),
            "{error}"
        );
    }
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let error = keeping(dir.path()).unwrap().apply(crash::call()).unwrap_err();
    assert!(error.dossier().unwrap().saved().is_some(), "others may look");
}

fn a_directory_of_another_user_is_refused() {
    if !is_root() {
        return;
    }
    let dir = directory();
    chown(dir.path(), Some(65534), None).unwrap();
    let error = refused(dir.path());
    assert!(error.to_string().contains("it belongs to user 65534"), "{error}");
}

fn a_link_that_another_user_has_made_is_refused() {
    let (dir, target) = (directory(), directory());
    let link = dir.path().join("link");
    symlink(target.path(), &link).unwrap();
    let error = keeping(&link).unwrap().apply(crash::call()).unwrap_err();
    assert_eq!(
        (error.dossier().unwrap().saved().is_some(), files_in(target.path())),
        (true, 1),
        "one's own is followed"
    );
    if is_root() {
        lchown(&link, Some(65534), None).unwrap();
        let error = refused(&link);
        assert!(error.to_string().contains("a link that user 65534 has made"), "{error}");
    }
}

fn what_takes_the_place_of_the_directory_gets_nothing() {
    let (dir, elsewhere) = (directory(), directory());
    let (place, moved) = (dir.path().join("place"), dir.path().join("moved"));
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();
    let pool = keeping(&place).unwrap();
    fs::rename(&place, &moved).unwrap();
    symlink(elsewhere.path(), &place).unwrap();
    let error = pool.apply(crash::call()).unwrap_err();
    assert!(error.dossier().unwrap().saved().is_some(), "{error}");
    assert_eq!((files_in(&moved), files_in(elsewhere.path())), (1, 0));
}

fn a_directory_that_is_opened_to_others_later_gets_nothing() {
    let dir = directory();
    let pool = keeping(dir.path()).unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let error = pool.apply(crash::call()).unwrap_err();
    assert_eq!((error.dossier().unwrap().saved(), files_in(dir.path())), (None, 0), "{error}");
}

fn a_directory_that_was_removed_is_made_again() {
    let dir = directory();
    let place = dir.path().join("place");
    let pool = keeping(&place).unwrap();
    for _ in 0..2 {
        let error = pool.apply(crash::call()).unwrap_err();
        assert!(error.dossier().unwrap().saved().is_some_and(Path::exists), "{error}");
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_dir_all(&place).unwrap();
    }
}
