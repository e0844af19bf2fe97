//! Rope parameters of a configuration under the names of transformers 5.

use alloc::borrow::ToOwned;
use alloc::string::String;
use serde_json::{Map, Value};

const LOCAL_THETA: &[&str] =
    &["local_rope_theta", "rope_local_theta", "rope_theta_local", "swa_rope_theta", "rope_local_base_freq"];
/// The name of a parameter, and the keys of the configuration that it can come from.
const PARAMETERS: &[(&str, &[&str])] = &[
    (
        "rope_theta",
        &["global_rope_theta", "rope_global_theta", "rope_theta_global", "rope_theta", "rotary_emb_base"],
    ),
    ("partial_rotary_factor", &["partial_rotary_factor", "rope_pct", "rope_percent"]),
    ("original_max_position_embeddings", &["original_max_position_embeddings"]),
];

/// The parameters; those of layers with a sliding window are the member `sliding_attention`.
pub(super) fn parameters(values: &Map<String, Value>) -> Map<String, Value> {
    let own = |key: &str| values.get(key).and_then(Value::as_object);
    let mut rope = own("rope_parameters").or_else(|| own("rope_scaling")).cloned().unwrap_or_default();
    if rope.contains_key("full_attention") || rope.contains_key("sliding_attention") {
        return rope;
    }
    let first =
        |keys: &[&str]| keys.iter().find_map(|key| values.get(*key)).filter(|v| !v.is_null()).cloned();
    if let Some(kind) = rope.get("type").cloned() {
        rope.entry("rope_type").or_insert(kind);
    }
    for (name, keys) in PARAMETERS {
        if !rope.contains_key(*name)
            && let Some(value) = first(keys)
        {
            rope.insert((*name).to_owned(), value);
        }
    }
    if let Some(theta) = first(LOCAL_THETA) {
        let sliding = Map::from_iter([("rope_theta".to_owned(), theta)]);
        rope.insert("sliding_attention".to_owned(), Value::Object(sliding));
    }
    rope
}
