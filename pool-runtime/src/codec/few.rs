//! Which types are encoded [inline](Few): those that are numbers.

use crate::codec::probe::{Probe, Scalar};
use crate::memory::Few;

/// Rank 1.
pub mod few_rank1 {
    use super::*;

    /// Types that are encoded inline.
    pub trait IsFew<T> {
        /// The encoding of the value.
        fn few(&self, value: &T) -> Option<Few>;
    }

    impl<T: Scalar> IsFew<T> for &Probe<T> {
        #[inline]
        fn few(&self, value: &T) -> Option<Few> {
            Some(Few::new(value.bits(), T::LENGTH))
        }
    }
}

/// Rank 0.
pub mod few_rank0 {
    use super::*;

    /// All other types.
    pub trait IsNotFew<T: ?Sized> {
        /// None: it needs a buffer.
        #[inline]
        fn few(&self, _: &T) -> Option<Few> {
            None
        }
    }

    impl<T: ?Sized> IsNotFew<T> for Probe<T> {}
}

#[cfg(test)]
mod tests {
    use super::{few_rank0::IsNotFew as _, few_rank1::IsFew as _, *};

    #[test]
    fn numbers_are_encoded_as_serde_encodes_them() {
        macro_rules! check {
            ($($value:expr => $type:ty),* $(,)?) => {$(
                let value: $type = $value;
                let mut writer = crate::codec::Writer::new();
                writer.value(&value).unwrap();
                let few = (&&Probe::<$type>::new()).few(&value);
                match few {
                    Some(few) => assert_eq!(*few, *writer.into_bytes()),
                    None => assert!(size_of::<$type>() > Few::MOST),
                }
            )*};
        }
        check! {
            0 => u8, 255 => u8, -1 => i8, 0x1234 => u16, -2 => i16, 0x1234_5678 => u32, i32::MIN => i32, u64::MAX => u64,
            -3 => i64, 7 => usize, -7 => isize, 1.5 => f32, -0.1 => f64, true => bool, false => bool, 'é' => char,
            u128::MAX => u128, -1 => i128, () => (),
        }
    }

    #[test]
    fn what_is_too_much_is_not_few() {
        let few = |length: usize| Few::copy(&(1..=length as u8).collect::<Vec<_>>());
        for (first, second) in (0..=15).flat_map(|first| (0..=15).map(move |second| (first, second))) {
            let both = few(first).unwrap().and(few(second));
            let expected: Vec<u8> = (1..=first as u8).chain(1..=second as u8).collect();
            assert_eq!(both.as_deref(), (expected.len() <= Few::MOST).then_some(&*expected));
        }
        assert!(few(16).is_none());
        assert!(Probe::<str>::new().few("text").is_none());
        assert!(Probe::<[u64]>::new().few(&[1]).is_none());
        assert!(Probe::<Vec<u8>>::new().few(&vec![1]).is_none());
    }
}
