//! The `<arch>.*` keys of a GGUF by their short names.

use crate::tensor::{MetaArray, MetaValue, Metadata};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::{Number, Value};

/// Element types of arrays.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;

/// The keys of a GGUF.
#[derive(Clone, Copy, Debug)]
pub struct ArchKeys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl<'a> ArchKeys<'a> {
    /// The keys of this metadata.
    pub fn new(metadata: &'a Metadata) -> ArchKeys<'a> {
        ArchKeys { metadata, architecture: metadata.text("general.architecture").unwrap_or("") }
    }

    /// `general.architecture`.
    pub fn architecture(&self) -> &'a str {
        self.architecture
    }

    /// The value of `<arch>.key`.
    pub fn get(&self, key: &str) -> Option<&'a MetaValue> {
        self.metadata.get(&format!("{}.{key}", self.architecture))
    }

    /// The value of a whole key.
    pub fn whole(&self, key: &str) -> Option<&'a MetaValue> {
        self.metadata.get(key)
    }

    /// A count.
    pub fn uint(&self, key: &str) -> Option<u64> {
        uint(self.get(key)?)
    }

    /// A number.
    pub fn real(&self, key: &str) -> Option<f32> {
        match *self.get(key)? {
            MetaValue::F32(x) => Some(x),
            MetaValue::F64(x) => Some(x as f32),
            _ => None,
        }
    }

    /// A flag.
    pub fn flag(&self, key: &str) -> Option<bool> {
        match *self.get(key)? {
            MetaValue::Bool(on) => Some(on),
            _ => None,
        }
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        match self.get(key)? {
            MetaValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// An array of counts or flags.
    pub fn counts(&self, key: &str) -> Option<Vec<u64>> {
        match self.get(key)? {
            MetaValue::Array(array) => counts(array),
            _ => None,
        }
    }

    /// Blocks without those of a predictor.
    pub fn layers(&self) -> Option<u64> {
        Some(self.uint("block_count")?.saturating_sub(self.uint("nextn_predict_layers").unwrap_or(0)))
    }

    /// Values of a head.
    pub fn head_dim(&self) -> Option<u64> {
        let share = || self.uint("embedding_length")?.checked_div(self.uint("attention.head_count")?);
        self.uint("attention.key_length").or_else(share)
    }
}

/// A count.
pub(super) fn uint(value: &MetaValue) -> Option<u64> {
    match *value {
        MetaValue::U8(n) => Some(n.into()),
        MetaValue::U16(n) => Some(n.into()),
        MetaValue::U32(n) => Some(n.into()),
        MetaValue::U64(n) => Some(n),
        MetaValue::I32(n) => u64::try_from(n).ok(),
        MetaValue::I64(n) => u64::try_from(n).ok(),
        _ => None,
    }
}

/// The counts or flags of an array.
pub fn counts(array: &MetaArray) -> Option<Vec<u64>> {
    match array.element {
        U32 | I32 => {
            let one = |raw: &[u8; 4]| u64::try_from(i32::from_le_bytes(*raw)).ok();
            array.raw.as_chunks().0.iter().map(one).collect()
        }
        BOOL => Some(array.raw.iter().map(|b| u64::from(*b)).collect()),
        _ => None,
    }
}

/// The numbers of an array of f32.
pub fn reals(array: &MetaArray) -> Option<Vec<f32>> {
    let numbers = || array.raw.as_chunks().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect();
    (array.element == F32).then(numbers)
}

/// The texts of an array.
pub fn texts(array: &MetaArray) -> Option<Vec<&str>> {
    if array.element != TEXT {
        return None;
    }
    let (mut rest, mut found) = (array.raw.as_slice(), Vec::new());
    while let Some((length, tail)) = rest.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (text, tail) = tail.split_at_checked(length)?;
        found.push(core::str::from_utf8(text).ok()?);
        rest = tail;
    }
    rest.is_empty().then_some(found)
}

/// The shortest decimal number that is this f32.
pub fn decimal(x: f32) -> Option<Value> {
    let text: String = format!("{x}");
    Number::from_f64(text.parse().ok()?).map(Value::Number)
}

/// Whether two values mean the same: integers of any width are equal by value.
pub fn same(a: &MetaValue, b: &MetaValue) -> bool {
    match (uint(a), uint(b)) {
        (Some(a), Some(b)) => a == b,
        _ => match (a, b) {
            (MetaValue::F32(a), MetaValue::F32(b)) => a.to_bits() == b.to_bits(),
            (MetaValue::Array(x), MetaValue::Array(y)) => {
                x == y || counts(x).is_some_and(|counts_x| Some(counts_x) == counts(y))
            }
            _ => a == b,
        },
    }
}
