//! Options of a rotation. Knows no model.

use crate::error::{Code, Error, Result};
use crate::rotation::RULES;
use alloc::format;
use alloc::string::{String, ToString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The default seed. Fixed, so that two runs write the same bytes; every output records it.
pub const SEED: u64 = 0x00C0_FFEE;

/// The parts of a model to rotate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotationOptions {
    /// The residual stream (R1).
    pub stream: bool,
    /// The value vectors of each attention head (R2).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub heads: bool,
    /// Only fold the norm gains of the residual stream into the weights that read them, without a rotation.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub fold: bool,
    /// Channels of a block that is rotated; absent if the whole stream is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u32>,
    /// The seed of all signs.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub seed: u64,
    /// The version of the rules, [`RULES`] unless an earlier checkpoint is made again. Recorded with the rotation, not here.
    #[serde(skip, default = "newest")]
    pub rules: u32,
}

const fn newest() -> u32 {
    RULES
}

/// As text, because JSON numbers above 2^53 do not survive every reader.
#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn as_text<S: Serializer>(seed: &u64, s: S) -> core::result::Result<S::Ok, S::Error> {
    s.serialize_str(&format!("0x{seed:016x}"))
}

fn from_text<'de, D: Deserializer<'de>>(d: D) -> core::result::Result<u64, D::Error> {
    let text = String::deserialize(d)?;
    parse_seed(&text).map_err(|e| serde::de::Error::custom(e.to_string()))
}

/// Parses a seed: decimal, or hexadecimal after `0x`; underscores are skipped.
///
/// # Errors
///
/// `usage` if it is not a number of 64 bits.
pub fn parse_seed(text: &str) -> Result<u64> {
    let digits = text.replace('_', "");
    let parsed = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16),
        Some(_) => u64::from_str_radix("", 16),
        None => digits.parse(),
    };
    parsed
        .map_err(|_| Error::new(Code::Usage, format!("{text:?} is no seed: 64 bits, such as 42 or 0xC0FFEE")))
}

impl RotationOptions {
    /// Parses `quarot` (the whole stream), `block:N` (the stream in blocks of `N` channels) or `fold` (gains only), `r2` (the
    /// heads), or one of the first three and `r2` with a comma between.
    ///
    /// # Errors
    ///
    /// `usage` if a word is unknown or contradicts another.
    pub fn parse(text: &str, seed: u64) -> Result<RotationOptions> {
        let unknown = |t: &str| {
            Error::new(Code::Usage, format!("{t:?} is no rotation: quarot, block:N, fold, r2, or quarot,r2"))
        };
        let mut all =
            RotationOptions { stream: false, heads: false, fold: false, block: None, seed, rules: RULES };
        for word in text.split(',') {
            match word {
                "quarot" | "r1" if !all.stream => all.stream = true,
                "fold" if !all.stream => (all.stream, all.fold) = (true, true),
                "r2" if !all.heads => all.heads = true,
                _ if !all.stream => {
                    let block = word.strip_prefix("block:").and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                    (all.stream, all.block) = (true, Some(block.ok_or_else(|| unknown(word))?));
                }
                _ => return Err(unknown(word)),
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_parsed() {
        let parsed = |t| RotationOptions::parse(t, SEED).map(|r| (r.stream, r.heads, r.block)).ok();
        assert_eq!(parsed("quarot"), Some((true, false, None)));
        assert_eq!(parsed("quarot,r2"), Some((true, true, None)));
        assert_eq!(parsed("r2"), Some((false, true, None)));
        assert_eq!(parsed("r2,block:128"), Some((true, true, Some(128))));
        assert!(RotationOptions::parse("fold", SEED).is_ok_and(|r| r.stream && r.fold && !r.heads));
        for bad in ["", "none", "block:", "block:0", "block:x", "quarot,quarot", "quarot,block:32", "r2,r2"] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn seeds_are_parsed_and_stored() {
        for (text, seed) in
            [("0", 0), ("42", 42), ("0xC0FFEE", 0xC0_FFEE), ("0xcafe_babe_dead_beef", 0xCAFE_BABE_DEAD_BEEF)]
        {
            assert_eq!(parse_seed(text).ok(), Some(seed), "{text}");
        }
        for bad in ["", "0x", "-1", "0x+1", "seed", "18446744073709551616"] {
            assert!(parse_seed(bad).is_err(), "{bad:?}");
        }
        let options = RotationOptions {
            stream: true,
            heads: false,
            fold: false,
            block: None,
            seed: u64::MAX,
            rules: RULES,
        };
        let text = serde_json::to_string(&options).unwrap();
        assert_eq!(text, r#"{"stream":true,"seed":"0xffffffffffffffff"}"#);
        assert_eq!(serde_json::from_str::<RotationOptions>(&text).unwrap(), options);
    }
}
