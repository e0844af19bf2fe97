//! What `config.json` says of the quantization of a checkpoint. The tensors decide; this settles what they leave open.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::Value;

/// The quantization that a configuration declares.
#[derive(Debug, Default)]
pub(super) struct Quantization {
    /// `quant_method`.
    pub(super) method: Option<String>,
    /// `weight_block_size`: rows and columns that share a scale, in every quantized weight.
    pub(super) block: Option<[u64; 2]>,
    /// Blocks that some weights have.
    pub(super) hints: Vec<[u64; 2]>,
}

impl Quantization {
    pub(super) fn of(config: Option<&[u8]>) -> Quantization {
        let config = config.and_then(|c| serde_json::from_slice::<Value>(c).ok());
        let nested = |key: &str| {
            let config = config.as_ref()?;
            config.get(key).or_else(|| config.get("text_config")?.get(key)).cloned()
        };
        let Some(found) = nested("quantization_config").or_else(|| nested("compression_config")) else {
            return Quantization::default();
        };
        let weights = found.get("config_groups").and_then(Value::as_object);
        let weights = weights.into_iter().flat_map(|groups| groups.values().filter_map(|g| g.get("weights")));
        let hints = weights.flat_map(|w| {
            let group = w.get("group_size").and_then(Value::as_u64).filter(|n| *n > 0).map(|n| [1, n]);
            w.get("block_structure").and_then(pair).into_iter().chain(group)
        });
        Quantization {
            hints: hints.collect(),
            method: found.get("quant_method").and_then(Value::as_str).map(ToString::to_string),
            block: found.get("weight_block_size").and_then(pair),
        }
    }
}

/// Two positive numbers.
fn pair(value: &Value) -> Option<[u64; 2]> {
    match value.as_array()?.as_slice() {
        [rows, cols] => Some([rows.as_u64().filter(|n| *n > 0)?, cols.as_u64().filter(|n| *n > 0)?]),
        _ => None,
    }
}
