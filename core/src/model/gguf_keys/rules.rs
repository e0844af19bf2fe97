//! Rules that write keys, and where they write to.

use super::super::config::hyperparameters::Hyperparameters;
use super::TensorFacts;
use super::ordered::{self, GgufKeys};
use crate::error::{Code, Error, Result};
use crate::tensor::MetaValue;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What writes one key or a few of them.
#[derive(Clone, Copy, Debug)]
pub enum KeyRule {
    /// A count (u32), from the first of these keys of the configuration that is present, if it is not null.
    Count(&'static str, &'static [&'static str]),
    /// A number (f32), likewise.
    Real(&'static str, &'static [&'static str]),
    /// A flag, likewise.
    Flag(&'static str, &'static [&'static str]),
    /// The same count for every model.
    FixedCount(&'static str, u32),
    /// The same number for every model.
    FixedReal(&'static str, f32),
    /// The same flag for every model.
    FixedFlag(&'static str, bool),
    /// The same text for every model.
    FixedText(&'static str, &'static str),
    /// `block_count`.
    Blocks,
    /// `general.file_type`.
    FileType,
    /// `pooling_type`, where the model has one.
    Pooling,
    /// Anything else.
    Computed(fn(&mut KeyWriter) -> Result<()>),
}

impl KeyRule {
    pub(super) fn write(&self, to: &mut KeyWriter) -> Result<()> {
        match *self {
            KeyRule::Count(key, from) => {
                if let Some(n) = to.hyper.count(from)? {
                    to.count(key, n);
                }
            }
            KeyRule::Real(key, from) => {
                if let Some(x) = to.hyper.real(from)? {
                    to.real(key, x);
                }
            }
            KeyRule::Flag(key, from) => {
                if let Some(flag) = to.hyper.flag(from)? {
                    to.flag(key, flag);
                }
            }
            KeyRule::FixedCount(key, n) => to.count(key, n),
            KeyRule::FixedReal(key, x) => to.set(key, MetaValue::F32(x)),
            KeyRule::FixedFlag(key, flag) => to.flag(key, flag),
            KeyRule::FixedText(key, text) => to.text(key, text),
            KeyRule::Blocks => {
                let blocks = to.blocks()?;
                to.count("block_count", blocks);
            }
            KeyRule::FileType => to.keys.set("general.file_type", MetaValue::U32(to.facts.file_type)),
            KeyRule::Pooling => {
                if let Some(kind) = to.facts.pooling {
                    to.count("pooling_type", kind);
                }
            }
            KeyRule::Computed(compute) => compute(to)?,
        }
        Ok(())
    }
}

/// The keys so far, and what they are computed from.
#[derive(Debug)]
pub struct KeyWriter {
    prefix: String,
    keys: GgufKeys,
    /// The hyperparameters; rules before [`BASE`](super::BASE) may change them.
    pub hyper: Hyperparameters,
    /// What is known of the tensors.
    pub facts: TensorFacts,
}

impl KeyWriter {
    pub(super) fn new(prefix: &str, hyper: Hyperparameters, facts: TensorFacts) -> KeyWriter {
        KeyWriter { prefix: prefix.into(), keys: GgufKeys::default(), hyper, facts }
    }

    pub(super) fn into_keys(self) -> Vec<(String, MetaValue)> {
        self.keys.into_vec()
    }

    /// Writes `<arch>.key`.
    pub fn set(&mut self, key: &str, value: MetaValue) {
        self.keys.set(format!("{}.{key}", self.prefix), value);
    }

    /// Writes a count.
    pub fn count(&mut self, key: &str, n: u32) {
        self.set(key, MetaValue::U32(n));
    }

    /// Writes a number as the nearest f32.
    pub fn real(&mut self, key: &str, x: f64) {
        self.set(key, MetaValue::F32(x as f32));
    }

    /// Writes a flag.
    pub fn flag(&mut self, key: &str, flag: bool) {
        self.set(key, MetaValue::Bool(flag));
    }

    /// Writes a text.
    pub fn text(&mut self, key: &str, text: &str) {
        self.set(key, MetaValue::String(text.into()));
    }

    /// Writes an array of counts as i32.
    ///
    /// # Errors
    ///
    /// [`Code::BadValue`] if one of them needs more bits.
    pub fn counts(&mut self, key: &str, values: impl IntoIterator<Item = u32>) -> Result<()> {
        let values: Result<Vec<i32>, _> = values.into_iter().map(i32::try_from).collect();
        let too_large = |_| Error::new(Code::BadValue, format!("{key} exceeds 31 bits"));
        self.set(key, ordered::integers(&values.map_err(too_large)?));
        Ok(())
    }

    /// Writes an array of flags.
    pub fn flags(&mut self, key: &str, values: &[bool]) {
        self.set(key, ordered::flags(values));
    }

    /// Layers, and blocks of the predictor behind them.
    ///
    /// # Errors
    ///
    /// [`Code::BadValue`] if the configuration gives no number of layers.
    pub fn blocks(&self) -> Result<u32> {
        Ok(self.hyper.layers()?.saturating_add(self.facts.mtp_blocks))
    }
}

/// A product of sizes.
///
/// # Errors
///
/// [`Code::BadValue`] if it exceeds 32 bits.
pub(super) fn product(a: u32, b: u32) -> Result<u32> {
    a.checked_mul(b).ok_or_else(|| Error::new(Code::BadValue, format!("{a} times {b} exceeds 32 bits")))
}

/// The whole part of `n * share`.
///
/// # Errors
///
/// [`Code::BadValue`] if that is no size.
pub(super) fn share_of(n: u32, share: f64) -> Result<u32> {
    let x = f64::from(n) * share;
    if (0.0..4_294_967_296.0).contains(&x) {
        return Ok(x as u32);
    }
    Err(Error::new(Code::BadValue, format!("{share} of {n} is no size")))
}
