//! A pool keeps dossiers only where nobody else decides what is there: in a directory of its own user, into which no other
//! may write, and in the one that was there when it was made, whatever has taken its place since.

use crate::support::{builder, directory, over_every_transport};
use pool_runtime::{Error, Pool, Result, Sandbox, task};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;

over_every_transport! {
    a_directory_into_which_others_may_write_is_refused,
    a_directory_of_another_user_is_refused,
    a_link_that_another_user_has_made_is_refused,
    a_directory_that_others_may_move_away_is_refused,
    a_directory_that_an_access_control_list_opens_is_refused,
    a_directory_into_which_confined_workers_may_write_is_refused,
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

/// Whether it is there already or not.
fn a_directory_that_others_may_move_away_is_refused() {
    let dir = directory();
    let (above, below) = (dir.path().join("above"), dir.path().join("above/between/own"));
    fs::create_dir_all(&below).unwrap();
    fs::set_permissions(&below, Permissions::from_mode(0o700)).unwrap();
    let places = [below.clone(), below.join("missing"), above.join("missing/own"), above.join("own")];
    let keeps =
        |dir: &Path| keeping(dir).unwrap().apply(crash::call()).unwrap_err().dossier().unwrap().saved().is_some();
    for mode in [0o755, 0o1777, 0o1775] {
        fs::set_permissions(&above, Permissions::from_mode(mode)).unwrap();
        assert!(places.iter().all(|place| keeps(place)), "{mode:o}");
    }
    fs::set_permissions(&above, Permissions::from_mode(0o777)).unwrap();
    for place in &places {
        let error = refused(place);
        let why =
            format!("{}, above it, is one where others may replace what is there (its mode is 777", above.display());
        assert!(error.to_string().contains(&why), "{error}");
    }
    if !is_root() {
        return;
    }
    // Of another group than one's own, and of another user.
    fs::set_permissions(&above, Permissions::from_mode(0o775)).unwrap();
    chown(&above, None, Some(65534)).unwrap();
    for place in &places {
        let error = refused(place);
        assert!(error.to_string().contains("group 65534 may replace what is there (its mode is 775"), "{error}");
    }
    fs::set_permissions(&above, Permissions::from_mode(0o755)).unwrap();
    assert!(keeps(&below));
    chown(&above, Some(65534), None).unwrap();
    for place in &places {
        let error = refused(place);
        assert!(error.to_string().contains("belongs to user 65534, who can replace what is there"), "{error}");
    }
    // Nor by way of a link.
    let link = dir.path().join("link");
    symlink(&below, &link).unwrap();
    refused(&link);
    refused(&link.join("missing"));
}

fn a_directory_that_an_access_control_list_opens_is_refused() {
    let dir = directory();
    let own = dir.path().join("own");
    fs::create_dir(&own).unwrap();
    // As `setfacl -m u:65533:rwx` writes it: a version, then tag, rights and user of each entry.
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 7, 65533), (4, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 5, u32::MAX)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, may, user) in entries {
        list.extend(tag.to_le_bytes().into_iter().chain(may.to_le_bytes()).chain(user.to_le_bytes()));
    }
    let name = "system.posix_acl_access";
    if let Err(error) = rustix::fs::setxattr(dir.path(), name, &list, rustix::fs::XattrFlags::empty()) {
        return eprintln!("not tested: no access control lists at {}: {error}", dir.path().display());
    }
    for place in [&own, &dir.path().join("missing")] {
        let error = refused(place);
        assert!(error.to_string().contains("by an access control list"), "{error}");
    }
    let error = refused(dir.path());
    assert!(error.to_string().contains("others may write there"), "{error}");
}

/// What such a worker writes there would run as somebody else's dossier does not: without a sandbox.
fn a_directory_into_which_confined_workers_may_write_is_refused() {
    let (given, own, elsewhere) = (directory(), directory(), directory());
    let inside = given.path().join("own");
    fs::create_dir(&inside).unwrap();
    symlink(&inside, own.path().join("into")).unwrap();
    symlink(own.path(), given.path().join("out")).unwrap();
    let sandbox = Sandbox::strict().read("/").write(given.path());
    let keeping = |dir: &Path, sandbox: &Sandbox| builder().processes(1).dossiers(dir).sandbox(sandbox.clone()).build();
    let within = [given.path().to_owned(), inside.join("missing/deep"), own.path().join("into/x")];
    for dir in within.iter().chain([&inside, &given.path().join("out/below"), &own.path().join("into")]) {
        let error = keeping(dir, &sandbox).expect_err("workers decide what is there").to_string();
        assert!(error.contains("lets workers write to") && error.contains(&format!("{dir:?}")), "{error}");
    }
    assert!(keeping(own.path(), &Sandbox::strict().write("/")).is_err());
    let error = keeping(elsewhere.path(), &sandbox).unwrap().apply(crash::call()).unwrap_err();
    assert!(error.dossier().unwrap().saved().is_some(), "{error}");
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
