//! The targets of what the library logs, which users filter by. The guide's page "What is logged" has each event. It
//! imports nothing of the crate.

/// A pool as a whole: built, ended, failed, dropped with work.
pub(crate) const POOL: &str = "pool_runtime::pool";
/// The workers of pools: started, lost, replaced.
pub(crate) const WORKER: &str = "pool_runtime::worker";
/// Calls: retried, given up, ended for a limit, failed with nobody to read it; callbacks.
pub(crate) const JOB: &str = "pool_runtime::job";
/// A `Process`.
pub(crate) const PROCESS: &str = "pool_runtime::process";
/// Files of lost calls.
pub(crate) const DOSSIER: &str = "pool_runtime::dossier";
/// Managers and their servers.
pub(crate) const MANAGER: &str = "pool_runtime::manager";
/// Connections between programs.
pub(crate) const CONNECTION: &str = "pool_runtime::connection";
/// What the kernel cannot enforce.
pub(crate) const SANDBOX: &str = "pool_runtime::sandbox";
