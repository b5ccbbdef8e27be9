//! A dead worker and its lost call: the facts ([`loss`]), the report for users ([`report`]), and the file from which the
//! call can be run again ([`mod@file`], written by [`keep`]).

#[cfg_attr(not(feature = "dossiers"), path = "backtrace/absent.rs")]
mod backtrace;
pub(crate) mod file;
pub(crate) mod keep;
mod loss;
mod report;

pub use loss::Ran;
pub(crate) use loss::{Loss, Stage};
pub(crate) use report::CalledTask;
pub use report::Dossier;
