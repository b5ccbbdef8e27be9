//! Those with whom the pool is compared.

pub mod procspawn;
pub mod python;
pub mod raw;
pub mod system;
