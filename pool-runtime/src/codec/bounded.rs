//! How many bytes values of a type take at most, at compile time: what a result of that type cannot exceed.
//!
//! Only types of the standard library whose encoding has a fixed length, or a longest one. For all others there is no
//! bound: serde does not say what a type of the user's writes.

use crate::codec::Probe;
use crate::memory::ALIGN;
use std::num::NonZero;
use std::time::Duration;

/// A type whose values take at most so many bytes.
pub trait Bounded {
    /// The bytes of the longest encoding.
    const MOST: u64;
}

impl<T: Bounded> Probe<T> {
    /// The most bytes of a value. For a type without a bound, that of [`Unbounded`] is found.
    pub const RESULT_BOUND: u64 = T::MOST;
}

/// Any type: its values may be of any length.
pub trait Unbounded {
    /// No bound.
    const RESULT_BOUND: u64 = u64::MAX;
}

impl<T: ?Sized> Unbounded for Probe<T> {}

macro_rules! of_its_size {
    ($($type:ty),* $(,)?) => {$(
        impl Bounded for $type {
            const MOST: u64 = size_of::<$type>() as u64;
        }
    )*};
}

of_its_size! { (), bool, char, u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64 }

macro_rules! integers {
    ($($type:ty),* $(,)?) => {$(
        impl Bounded for NonZero<$type> {
            const MOST: u64 = <$type>::MOST;
        }
    )*};
}

integers! { u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize }

impl Bounded for usize {
    const MOST: u64 = 8;
}

impl Bounded for isize {
    const MOST: u64 = 8;
}

/// Seconds, and nanoseconds.
impl Bounded for Duration {
    const MOST: u64 = 1 + 8 + 4;
}

impl<T: Bounded> Bounded for Option<T> {
    const MOST: u64 = 1 + T::MOST;
}

/// The index of the variant, and the hash of its name.
impl<T: Bounded, E: Bounded> Bounded for Result<T, E> {
    const MOST: u64 = 1 + 4 + larger(T::MOST, E::MOST);
}

impl<T: Bounded> Bounded for Box<T> {
    const MOST: u64 = T::MOST;
}

/// Element by element; or in bulk: the length, what aligns the elements, and their memory.
impl<T: Bounded, const N: usize> Bounded for [T; N] {
    const MOST: u64 =
        size_of::<u64>() as u64 + ALIGN as u64 + (N as u64).saturating_mul(larger(T::MOST, size_of::<T>() as u64));
}

macro_rules! tuples {
    ($($name:ident)*) => {
        impl<$($name: Bounded),*> Bounded for ($($name,)*) {
            const MOST: u64 = 0 $(+ $name::MOST)*;
        }
    };
}

tuples! { A }
tuples! { A B }
tuples! { A B C }
tuples! { A B C D }
tuples! { A B C D E }
tuples! { A B C D E F }
tuples! { A B C D E F G }
tuples! { A B C D E F G H }

const fn larger(one: u64, other: u64) -> u64 {
    if one > other { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{ByValue as _, Writer};

    #[test]
    fn no_value_takes_more_than_its_type_says() {
        macro_rules! check {
            ($($value:expr => $type:ty),* $(,)?) => {$(
                let mut writer = Writer::new();
                let value: $type = $value;
                (&&&&&Probe::<$type>::new()).encode(&value, &mut writer).unwrap();
                let length = writer.into_bytes().len() as u64;
                let most = Probe::<$type>::RESULT_BOUND;
                assert!(length <= most, "{}: {length} bytes, and at most {most}", std::any::type_name::<$type>());
                assert!(most <= length + 32, "{}: {length} bytes, and at most {most}", std::any::type_name::<$type>());
            )*};
        }
        check! {
            () => (), true => bool, 'x' => char, 1 => u8, 1 => u128, 1 => isize, NonZero::<u32>::MIN => NonZero<u32>,
            Duration::MAX => Duration, Some(1) => Option<u64>, Some(Some(())) => Option<Option<()>>,
            Ok(1) => Result<u64, ()>, Err(2) => Result<u8, u32>, [7; 33] => [u32; 33], [true; 32] => [bool; 32],
            (1, [1.5; 4], Some('x')) => (u8, [f64; 4], Option<char>), Box::new(5) => Box<i64>,
        }
    }

    #[test]
    fn what_may_be_of_any_length_has_no_bound() {
        struct Mine;
        let bounds = [
            Probe::<String>::RESULT_BOUND,
            Probe::<Vec<u8>>::RESULT_BOUND,
            Probe::<(u8, String)>::RESULT_BOUND,
            Probe::<Option<Vec<()>>>::RESULT_BOUND,
            Probe::<Mine>::RESULT_BOUND,
            Probe::<str>::RESULT_BOUND,
        ];
        assert_eq!(bounds, [u64::MAX; 6]);
    }
}
