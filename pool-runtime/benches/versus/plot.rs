//! stub
use crate::{Result, Setting};
pub fn draw(_: &Setting, _: &std::path::Path) -> Result<()> {
    Ok(())
}
