//! Those with whom the pool is compared.

mod memory;
pub mod procspawn;
pub mod python;
pub mod raw;
pub mod system;
