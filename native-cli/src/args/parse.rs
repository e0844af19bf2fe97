//! Parsers of single values.

use super::recipe::RecipeName;
use quantoscope_core::DType;
use quantoscope_core::error::Error;
use quantoscope_core::quant::Encoding;
use quantoscope_core::recipe::presets::Preset;
use quantoscope_core::recipe::{MlxMixed, Override, can_target, rotation};

pub(super) fn dtype(text: &str) -> Result<DType, String> {
    let advice = |e: Error| match Preset::parse(text) {
        Ok(preset) => format!("{text:?} is a preset, a mix of types: use --recipe {preset}"),
        Err(_) => suggesting(&e, text, DType::ALL.iter().filter(|d| can_target(**d)).map(|d| d.name())),
    };
    DType::parse(text).map_err(advice)
}

/// The error with the names that `text` may have meant.
fn suggesting(error: &Error, text: &str, names: impl Iterator<Item = &'static str>) -> String {
    let plain = |s: &str| s.to_ascii_lowercase().replace(['_', '-', '.', ' '], "");
    let typed = plain(text);
    let mut near: Vec<(usize, String)> = names
        .map(|name| (distance(&typed, &plain(name)), name.to_ascii_lowercase()))
        .filter(|(distance, name)| *distance <= 1 || (typed.len() >= 2 && plain(name).starts_with(&typed)))
        .collect();
    near.sort();
    let near: Vec<String> = near.into_iter().take(4).map(|(_, name)| name).collect();
    if near.is_empty() { error.to_string() } else { format!("{error}; similar: {}", near.join(", ")) }
}

/// Edits (insertions, deletions, replacements of one character) between two words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

pub(super) fn encoding(text: &str) -> Result<Encoding, String> {
    Encoding::parse(text).map_err(|e| e.to_string())
}

pub(super) fn preset(text: &str) -> Result<RecipeName, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(RecipeName::Auto);
    }
    if let Ok(mixed) = MlxMixed::parse(text) {
        return Ok(RecipeName::Mixed(mixed));
    }
    let advice = |e: Error| match DType::parse(text) {
        Ok(dtype) => format!("{text:?} is a tensor type: use --type {dtype}"),
        Err(_) => suggesting(&e, text, Preset::ALL.iter().map(|p| p.name())),
    };
    Preset::parse(text).map(RecipeName::Preset).map_err(advice)
}

pub(super) fn seed(text: &str) -> Result<u64, String> {
    rotation::parse_seed(text).map_err(|e| e.to_string())
}

/// `PATTERN=TYPE`; the pattern may hold an equals sign, the type does not.
pub(super) fn type_override(text: &str) -> Result<Override, String> {
    let (pattern, to) = text.rsplit_once('=').ok_or("expected PATTERN=TYPE, for example attn_v=q6_k")?;
    if pattern.is_empty() {
        return Err("the pattern is empty".into());
    }
    Ok(Override { pattern: pattern.into(), dtype: dtype(to)? })
}

/// A cosine.
pub(super) fn threshold(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(t) if (-1.0..=1.0).contains(&t) => Ok(t),
        Ok(_) => Err("a cosine is a number from -1 to 1".into()),
        Err(e) => Err(e.to_string()),
    }
}

pub(super) fn tolerance(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is not a number above 0");
    text.parse().ok().filter(|t: &f64| t.is_finite() && *t > 0.0).ok_or_else(wrong)
}

/// Bits of a weight.
pub(super) fn bits(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is not a number of bits from 0 to 64");
    text.parse().ok().filter(|b: &f64| *b > 0.0 && *b <= 64.0).ok_or_else(wrong)
}

/// Bytes with a unit: `64MiB`, `1.5 GB`, `200M` (decimal), `4096`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| format!("{text:?} does not start with a number"))?;
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1_u64,
        "k" | "kb" => 1000,
        "m" | "mb" => 1000 * 1000,
        "g" | "gb" => 1000 * 1000 * 1000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        other => return Err(format!("{other:?} is not a unit of size (use MB, MiB, GB, GiB)")),
    };
    let bytes = number * unit as f64;
    if (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err("the size is out of range".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_a_pattern_and_a_type() {
        let parsed = type_override("attn_v=Q6_K").expect("a pair");
        assert_eq!((parsed.pattern.as_str(), parsed.dtype), ("attn_v", DType::Q6_K));
        for bad in ["attn_v", "=q6_k", "attn_v=", "attn_v=q9"] {
            assert!(type_override(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn presets_and_types_name_the_option_that_takes_them() {
        assert!(dtype("Q4_K_M").is_err_and(|e| e.ends_with("use --recipe q4_k_m")));
        assert!(dtype("q4_z").is_err_and(|e| !e.contains("--recipe")));
        assert!(preset("nvfp4").is_err_and(|e| e.ends_with("use --type NVFP4")));
        assert!(preset("q4_z").is_err_and(|e| !e.contains("--type")));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1.5 GB"), Ok(1_500_000_000));
        assert_eq!(size("4096"), Ok(4096));
        for bad in ["", "MB", "1 TBs", "-1", "0", "1e400"] {
            assert!(size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn thresholds_are_cosines() {
        assert_eq!(threshold("-1"), Ok(-1.0));
        for bad in ["NaN", "inf", "1.01", "-1.5", "x"] {
            assert!(threshold(bad).is_err(), "{bad:?}");
        }
    }
}
