//! Keys of `config.json` that mlx-lm 0.32 reads under their older names only. It would take its own defaults without an error.

use alloc::string::String;
use serde_json::{Map, Value};

/// Adds the older names of keys that newer versions of transformers have renamed, where they are absent.
pub(super) fn add_older(config: &mut Map<String, Value>) {
    if let Some(rope) = config.get("rope_parameters").and_then(Value::as_object).cloned() {
        let of_kind = |kind: &str| rope.get(kind).and_then(Value::as_object);
        let full = of_kind("full_attention").unwrap_or(&rope);
        for key in ["rope_theta", "partial_rotary_factor"] {
            add(config, key, full.get(key));
        }
        let scaled = full.get("rope_type").and_then(Value::as_str).is_some_and(|kind| kind != "default");
        let scaling = Value::Object(full.clone());
        add(config, "rope_scaling", Some(&scaling).filter(|_| scaled));
        add(config, "rope_local_base_freq", of_kind("sliding_attention").and_then(|r| r.get("rope_theta")));
    }
    // Written for models whose layers share one base; mlx-lm's default is that of transformers.
    if config.get("rope_local_base_freq").is_some_and(Value::is_null) {
        config.remove("rope_local_base_freq");
    }
    let experts = config.get("num_local_experts").cloned();
    add(config, "num_experts", experts.as_ref());
}

/// Adds a key where it is absent or null.
fn add(config: &mut Map<String, Value>, key: &str, value: Option<&Value>) {
    let absent = config.get(key).is_none_or(Value::is_null);
    if let Some(value) = value.filter(|v| absent && !v.is_null()) {
        config.insert(key.into(), value.clone());
    }
}
