//! Two types of managed objects of one name are an error that names both places, raised by the first manager.

use pool_runtime::{Manager, managed, pool_main};

pool_main!();

struct First;

#[managed(name = "shared name")]
impl First {
    fn new() -> Self {
        Self
    }

    fn get(&self) -> u8 {
        1
    }
}
const FIRST: u32 = line!() - 4;

struct Second;

#[managed(name = "shared name")]
impl Second {
    fn new() -> Self {
        Self
    }

    fn get(&self) -> u8 {
        2
    }
}
const SECOND: u32 = line!() - 4;

#[test]
fn a_manager_names_both_places() {
    let text = Manager::start().unwrap_err().to_string();
    assert!(text.contains("`shared name::get`"), "{text}");
    for line in [FIRST, SECOND] {
        assert!(text.contains(&format!("two_managed_types_of_one_name.rs:{line}")), "{text}");
    }
    assert_eq!((First::new().get(), Second::new().get()), (1, 2));
}
