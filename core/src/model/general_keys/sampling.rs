//! `general.sampling.*` from `generation_config.json`, whether it samples or not.

use crate::error::{Code, Error, Result};
use crate::model::gguf_keys::GgufKeys;
use crate::tensor::MetaValue;
use alloc::format;
use serde_json::Value;

/// A key, whether it is a count, and where it comes from.
pub(super) const KEYS: &[(&str, bool, &[&str])] = &[
    ("top_k", true, &["top_k"]),
    ("top_p", false, &["top_p"]),
    ("min_p", false, &["min_p"]),
    ("xtc_probability", false, &["xtc_probability"]),
    ("xtc_threshold", false, &["xtc_threshold"]),
    ("temp", false, &["temperature"]),
    ("penalty_last_n", true, &["penalty_last_n"]),
    ("penalty_repeat", false, &["penalty_repeat", "repetition_penalty"]),
    ("mirostat", true, &["mirostat"]),
    ("mirostat_tau", false, &["mirostat_tau"]),
    ("mirostat_eta", false, &["mirostat_eta"]),
];

/// Writes the keys; whole keys of `overrides` win.
pub(super) fn keys(config: Option<&Value>, overrides: Option<&Value>, keys: &mut GgufKeys) -> Result<()> {
    let of = |value: Option<&'_ Value>, key: &str| {
        value.and_then(|v| v.get(key)).filter(|v| !v.is_null()).cloned()
    };
    let find = |name: &str, from: &[&str]| {
        let given = of(overrides, &format!("general.sampling.{name}"));
        given.or_else(|| from.iter().find_map(|key| of(config, key)))
    };
    if let Some(Value::String(sequence)) = find("sequence", &["sequence"]) {
        keys.set("general.sampling.sequence", MetaValue::String(sequence));
    }
    for (name, count, from) in KEYS {
        let Some(value) = find(name, from) else { continue };
        let read = if *count {
            value.as_i64().and_then(|n| i32::try_from(n).ok()).map(MetaValue::I32)
        } else {
            value.as_f64().map(|x| MetaValue::F32(x as f32))
        };
        let wrong = || {
            let message = format!("generation_config.json: {value} is no value of general.sampling.{name}");
            Error::new(Code::BadValue, message)
        };
        keys.set(format!("general.sampling.{name}"), read.ok_or_else(wrong)?);
    }
    Ok(())
}
