//! Which types are encoded [inline](ShortBytes): those that are numbers.

use crate::codec::probe::{Probe, Scalar};
use crate::memory::ShortBytes;

/// Rank 1.
pub mod short_rank1 {
    use super::*;

    /// Types that are encoded inline.
    pub trait IsShort<T> {
        /// The encoding of the value.
        fn short(&self, value: &T) -> Option<ShortBytes>;
    }

    impl<T: Scalar> IsShort<T> for &Probe<T> {
        #[inline]
        fn short(&self, value: &T) -> Option<ShortBytes> {
            Some(ShortBytes::new(value.bits(), T::LENGTH))
        }
    }
}

/// Rank 0.
pub mod short_rank0 {
    use super::*;

    /// All other types.
    pub trait IsNotShort<T: ?Sized> {
        /// None: it needs a buffer.
        #[inline]
        fn short(&self, _: &T) -> Option<ShortBytes> {
            None
        }
    }

    impl<T: ?Sized> IsNotShort<T> for Probe<T> {}
}

#[cfg(test)]
mod tests {
    use super::{short_rank0::IsNotShort as _, short_rank1::IsShort as _, *};

    #[test]
    fn numbers_are_encoded_as_serde_encodes_them() {
        macro_rules! check {
            ($($value:expr => $type:ty),* $(,)?) => {$(
                let value: $type = $value;
                let mut writer = crate::codec::Writer::new();
                writer.value(&value).unwrap();
                let short = (&&Probe::<$type>::new()).short(&value);
                match short {
                    Some(short) => assert_eq!(*short, *writer.into_bytes()),
                    None => assert!(size_of::<$type>() > ShortBytes::MOST),
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
    fn what_is_too_long_is_not_short() {
        let short = |length: usize| ShortBytes::copy(&(1..=length as u8).collect::<Vec<_>>());
        for (first, second) in (0..=15).flat_map(|first| (0..=15).map(move |second| (first, second))) {
            let both = short(first).unwrap().and(short(second));
            let expected: Vec<u8> = (1..=first as u8).chain(1..=second as u8).collect();
            assert_eq!(both.as_deref(), (expected.len() <= ShortBytes::MOST).then_some(&*expected));
        }
        assert!(short(16).is_none());
        assert!(Probe::<str>::new().short("text").is_none());
        assert!(Probe::<[u64]>::new().short(&[1]).is_none());
        assert!(Probe::<Vec<u8>>::new().short(&vec![1]).is_none());
    }
}
