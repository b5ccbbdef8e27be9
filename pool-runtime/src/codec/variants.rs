//! Which variant of an enum is meant: by the hash of its name, and by its index, which is only a hint.
//!
//! `#[serde(skip)]` on a variant shifts the index on one side, and `alias` on the other. Bytes that are not trusted may hint
//! wrongly in each of very many elements, which must not cost more than right hints: so nothing is searched for each of them
//! by all names of a large enum.

use crate::codec::{Name, Names};
use crate::hash::name_hash;
use crate::locks::lock;
use std::sync::Mutex;

/// The variant whose name has this hash, which is expected at this index.
#[inline]
pub(super) fn variant(hint: usize, hash: u32, variants: Names) -> Option<&'static Name> {
    let is_named = |variant: &&&str| name_hash(variant) == hash;
    variants.get(hint).filter(is_named).or_else(|| match variants.len() <= MOST_SEARCHED {
        true => variants.iter().find(is_named),
        false => by_hash(hash, variants),
    })
}

/// Of an enum with more variants, a list by hash is kept.
const MOST_SEARCHED: usize = 64;

/// The names of the variants of an enum, and sorted, the hash of each of them with its index.
struct VariantsByHash {
    names: Names,
    hashes: Vec<(u32, usize)>,
}

/// Each enum for which this is asked is sorted once.
#[cold]
fn by_hash(hash: u32, variants: Names) -> Option<&'static Name> {
    static KNOWN: Mutex<Vec<VariantsByHash>> = Mutex::new(Vec::new());
    let mut known = lock(&KNOWN);
    let at = known.iter().position(|known| std::ptr::eq(known.names, variants)).unwrap_or_else(|| {
        let mut hashes: Vec<_> = variants.iter().zip(0..).map(|(name, index)| (name_hash(name), index)).collect();
        hashes.sort_unstable();
        known.push(VariantsByHash { names: variants, hashes });
        known.len() - 1
    });
    let hashes = &known[at].hashes;
    let (found, index) = hashes.get(hashes.partition_point(|(other, _)| *other < hash))?;
    variants.get(*index).filter(|_| *found == hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Reader;
    use serde::de::{self, Deserialize, Visitor};
    use std::sync::LazyLock;
    use std::time::{Duration, Instant};

    /// A number as the encoding has it.
    fn length(mut left: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while left >= 0x80 {
            bytes.push(left as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
        bytes
    }

    /// A variant with a wrong index is looked for once, however many there are.
    #[test]
    fn wrong_hints_of_variants_cost_no_more_than_right_ones() {
        struct Many(usize);

        impl<'de> Deserialize<'de> for Many {
            fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Variants;
                impl<'de> Visitor<'de> for Variants {
                    type Value = Many;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a variant")
                    }
                    fn visit_enum<A: de::EnumAccess<'de>>(self, data: A) -> Result<Many, A::Error> {
                        let (name, _) = data.variant::<String>()?;
                        Ok(Many(name[1..].parse().map_err(de::Error::custom)?))
                    }
                }
                static NAMES: LazyLock<Names> =
                    LazyLock::new(|| (0..1000).map(|n| &*format!("V{n}").leak()).collect::<Vec<_>>().leak());
                deserializer.deserialize_enum("Many", *NAMES, Variants)
            }
        }

        let element = |hint: usize, variant: usize| {
            let mut bytes = length(hint);
            bytes.extend(name_hash(&format!("V{variant}")).to_le_bytes());
            bytes
        };
        let count = 300_000;
        let elements = (0..count).flat_map(|n| element(5000, n % 1000));
        let bytes: Vec<u8> = length(count).into_iter().chain(elements).collect();
        let began = Instant::now();
        let values = Reader::new(&bytes).value::<Vec<Many>>().unwrap();
        assert!(values.iter().enumerate().all(|(n, Many(variant))| n % 1000 == *variant));
        // Where each name was hashed for each of them, these were 300 million hashes: more than half a minute.
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        let none = [length(1), length(7), name_hash("W").to_le_bytes().to_vec()].concat();
        assert!(Reader::new(&none).value::<Vec<Many>>().is_err());
    }
}
