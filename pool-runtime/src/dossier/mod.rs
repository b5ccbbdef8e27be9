//! What is known of a worker that died, and of the call that it took along: the facts ([`loss`]), the report that users
//! read ([`report`]), and the file that has all of it and can be run again ([`mod@file`], written by [`keep`]).

mod backtrace;
pub(crate) mod file;
pub(crate) mod keep;
mod loss;
mod report;

pub use loss::Ran;
pub(crate) use loss::{Loss, Stage};
pub(crate) use report::CalledTask;
pub use report::Dossier;
