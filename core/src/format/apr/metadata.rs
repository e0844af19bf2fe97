//! Metadata of an APR file: one JSON object, whose keys become metadata values and a configuration.

use super::super::json;
use super::ShardNumber;
use crate::error::Result;
use crate::tensor::{MetaValue, Metadata};
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::{Map, Value};

/// Keys of APR and what Hugging Face's `config.json` calls them.
const CONFIG_KEYS: [(&str, &str); 12] = [
    ("architecture", "model_type"),
    ("num_layers", "num_hidden_layers"),
    ("num_heads", "num_attention_heads"),
    ("num_kv_heads", "num_key_value_heads"),
    ("hidden_size", "hidden_size"),
    ("intermediate_size", "intermediate_size"),
    ("vocab_size", "vocab_size"),
    ("max_position_embeddings", "max_position_embeddings"),
    ("rope_theta", "rope_theta"),
    ("rms_norm_eps", "rms_norm_eps"),
    ("head_dim", "head_dim"),
    ("num_experts", "num_experts"),
];

/// Parsed metadata.
#[derive(Default)]
pub(super) struct AprMetadata {
    pub values: Metadata,
    /// File offset of each value.
    pub at: Vec<u64>,
    /// The configuration; absent without an architecture.
    pub config: Option<AprConfig>,
    pub shard: Option<ShardNumber>,
}

/// Configuration of the model, with the keys of `config.json`.
pub(super) struct AprConfig(Map<String, Value>);

impl AprConfig {
    /// The text of a `config.json`. `tied` says that the output head is the embedding.
    pub(super) fn into_json(mut self, tied: bool) -> Vec<u8> {
        if tied {
            self.0.insert("tie_word_embeddings".into(), Value::Bool(true));
        }
        // Maps with keys of text are always serializable.
        serde_json::to_vec_pretty(&self.0).unwrap_or_default()
    }
}

/// Parses the metadata, which lie at file offset `at`. Of equal keys the last one counts, as for aprender.
///
/// # Errors
///
/// [`Code::BadJson`](crate::Code::BadJson), [`Code::BadUtf8`](crate::Code::BadUtf8),
/// [`Code::TooDeep`](crate::Code::TooDeep) for text that is no JSON object.
pub(super) fn parse(text: &[u8], at: u64) -> Result<AprMetadata> {
    let mut out = AprMetadata::default();
    if text.is_empty() {
        return Ok(out);
    }
    let members = json::document(text, at)?.object()?;
    let last: BTreeMap<&str, usize> = members.iter().enumerate().map(|(i, m)| (&*m.key, i)).collect();
    let mut all = Map::new();
    for (i, member) in members.iter().enumerate() {
        if last.get(&*member.key) != Some(&i) || member.value.is_null() {
            continue;
        }
        let value: Value = member.value.value()?;
        // Each shard has its own.
        if member.key == "sharding" {
            out.shard = shard(&value);
            continue;
        }
        out.values.0.push((member.key.as_ref().to_owned(), meta_value(&value)));
        out.at.push(member.value.at);
        all.insert(member.key.as_ref().to_owned(), value);
    }
    out.config = config(&all);
    Ok(out)
}

/// Numbers of a shard.
fn shard(value: &Value) -> Option<ShardNumber> {
    let number = |key: &str| value.get(key)?.as_u64();
    Some(ShardNumber { count: number("shard_count")?, index: number("shard_index")? })
}

/// A value with the types of GGUF; lists and objects are JSON text.
fn meta_value(value: &Value) -> MetaValue {
    match value {
        Value::Bool(flag) => MetaValue::Bool(*flag),
        Value::String(text) => MetaValue::String(text.clone()),
        Value::Number(n) => match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => MetaValue::U64(n),
            (_, Some(n)) => MetaValue::I64(n),
            _ => MetaValue::F64(n.as_f64().unwrap_or(f64::NAN)),
        },
        other => MetaValue::String(other.to_string()),
    }
}

/// The configuration of a model whose metadata name its architecture.
fn config(all: &Map<String, Value>) -> Option<AprConfig> {
    all.get("architecture")?.as_str()?;
    let keys = CONFIG_KEYS.iter().filter_map(|(from, to)| Some(((*to).to_owned(), all.get(*from)?.clone())));
    Some(AprConfig(keys.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_of_equal_keys_keeps_the_last() {
        let found = parse(br#"{"a":1,"b":"x","a":2,"architecture":"qwen2","num_layers":3}"#, 64).unwrap();
        assert_eq!(found.values.uint("a"), Some(2));
        assert_eq!(found.values.text("b"), Some("x"));
        let config: Value = serde_json::from_slice(&found.config.unwrap().into_json(true)).unwrap();
        assert_eq!(config["model_type"], "qwen2");
        assert_eq!(config["num_hidden_layers"], 3);
        assert_eq!(config["tie_word_embeddings"], true);
    }
}
