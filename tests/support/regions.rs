//! Who has a shared slice.

/// How many shared slices a process has mapped, and how many it has open. None if there is no such process.
pub fn held(pid: u32) -> Option<(usize, usize)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mapped = maps.lines().filter(|line| line.contains("memfd:pool-shared")).count();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let is_shared = |link: &std::path::PathBuf| link.to_string_lossy().starts_with("/memfd:pool-shared");
    Some((mapped, links.filter(is_shared).count()))
}

/// The same of this process.
pub fn held_here() -> (usize, usize) {
    held(std::process::id()).expect("this process")
}

/// The device and the inode of the first shared slice that a process has mapped.
pub fn inode(pid: u32) -> Option<(String, String)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let line = maps.lines().find(|line| line.contains("memfd:pool-shared"))?;
    let mut fields = line.split_whitespace().skip(3);
    Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
}
