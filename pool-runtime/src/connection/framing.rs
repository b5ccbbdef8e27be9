//! Where a message begins and ends, as CPython's `Connection._send_bytes` and `_recv_bytes` have it
//! (`Lib/multiprocessing/connection.py`).
//!
//! ```text
//!   up to 0x7fffffff bytes:  length (4 bytes, signed, big-endian)              message
//!   more:                    -1     (4 bytes)    length (8 bytes, big-endian)  message
//! ```

/// The longest message whose length is written in four bytes.
#[cfg(test)]
const SHORT: u64 = i32::MAX as u64;

/// What stands before a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MessageHead {
    bytes: [u8; 12],
    length: usize,
}

impl MessageHead {
    /// How many bytes are read first.
    pub(super) const FIRST: usize = 4;

    pub(super) fn new(length: u64) -> Self {
        let mut bytes = [0; 12];
        match i32::try_from(length) {
            Ok(short) => {
                bytes[..4].copy_from_slice(&short.to_be_bytes());
                Self { bytes, length: 4 }
            }
            Err(_) => {
                bytes[..4].copy_from_slice(&(-1_i32).to_be_bytes());
                bytes[4..].copy_from_slice(&length.to_be_bytes());
                Self { bytes, length: 12 }
            }
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// What the first four bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstWord {
    Length(u64),
    /// The length follows, in eight bytes.
    LengthFollows,
    /// No sender of messages writes it.
    Nonsense(i32),
}

impl From<[u8; 4]> for FirstWord {
    fn from(bytes: [u8; 4]) -> Self {
        match i32::from_be_bytes(bytes) {
            -1 => Self::LengthFollows,
            word => u64::try_from(word).map_or(Self::Nonsense(word), Self::Length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `struct.pack("!i", n)`, and `struct.pack("!i", -1) + struct.pack("!Q", n)` beyond.
    #[test]
    fn heads_are_those_of_python() {
        for (length, bytes) in [
            (0, &[0, 0, 0, 0][..]),
            (1, &[0, 0, 0, 1]),
            (16384, &[0, 0, 0x40, 0]),
            (SHORT, &[0x7f, 0xff, 0xff, 0xff]),
            (SHORT + 1, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 0]),
            (u64::MAX, &[0xff; 12]),
        ] {
            assert_eq!(MessageHead::new(length).bytes(), bytes, "{length}");
            let first = FirstWord::from(*bytes.first_chunk::<4>().unwrap());
            assert_eq!(first, if length > SHORT { FirstWord::LengthFollows } else { FirstWord::Length(length) });
        }
        assert_eq!(FirstWord::from([0xff, 0xff, 0xff, 0xfe]), FirstWord::Nonsense(-2));
        assert_eq!(FirstWord::from([0x80, 0, 0, 0]), FirstWord::Nonsense(i32::MIN));
    }
}
