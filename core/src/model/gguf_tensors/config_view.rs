//! Numbers of `config.json` that value maps depend on; the configuration of the text model goes first. Has no defaults of
//! configuration classes beyond those that value maps need.

use crate::model::arch::NESTED;
use serde_json::Value;

/// The largest count; larger ones are as good as absent.
const MAX_COUNT: u64 = 1 << 32;

/// A `config.json`, with the nested configuration of a text model laid over it.
#[derive(Clone, Copy, Debug)]
pub struct ConfigView<'a> {
    root: &'a Value,
    text: Option<&'a Value>,
}

impl<'a> ConfigView<'a> {
    /// The view of a parsed `config.json`.
    pub fn new(root: &'a Value) -> ConfigView<'a> {
        ConfigView { root, text: NESTED.iter().find_map(|key| root.get(*key).filter(|v| v.is_object())) }
    }

    /// The first of `keys` that has a value.
    pub fn get(&self, keys: &[&str]) -> Option<&'a Value> {
        let one = |key: &&str| {
            let text = self.text.and_then(|t| t.get(*key)).filter(|v| !v.is_null());
            text.or_else(|| self.root.get(*key).filter(|v| !v.is_null()))
        };
        keys.iter().find_map(one)
    }

    /// The first of `keys` that has a value, as a count.
    pub fn count(&self, keys: &[&str]) -> Option<u64> {
        self.get(keys)?.as_u64().filter(|n| *n <= MAX_COUNT)
    }

    /// The first entry of `architectures`; that of the text model where it has one.
    pub fn class(&self) -> Option<&'a str> {
        self.get(&["architectures"])?.as_array()?.first()?.as_str()
    }

    /// `model_type`; that of the text model where it has one.
    pub fn model_type(&self) -> Option<&'a str> {
        self.get(&["model_type"])?.as_str()
    }

    /// Query heads.
    pub fn heads(&self) -> Option<u64> {
        self.count(&["num_attention_heads", "n_head", "n_heads", "num_heads"]).filter(|n| *n > 0)
    }

    /// Length of the residual stream.
    pub fn hidden(&self) -> Option<u64> {
        self.count(&["hidden_size", "n_embd", "dim", "d_model"])
    }

    /// Values of a head.
    pub fn head_dim(&self) -> Option<u64> {
        self.count(&["head_dim"]).or_else(|| self.hidden()?.checked_div(self.heads()?))
    }

    /// Layers of the model, without predictors; of an encoder with a decoder, those of the deeper one.
    pub fn layers(&self) -> Option<u64> {
        let layers = self.count(&["num_hidden_layers", "n_layer", "n_layers", "num_layers"])?;
        Some(layers.max(self.count(&["num_decoder_layers"]).unwrap_or(0)))
    }

    /// Experts of a layer; 0 where there are none.
    pub fn experts(&self) -> u64 {
        self.count(&["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"]).unwrap_or(0)
    }

    /// Whether the head is the embedding.
    pub fn tied(&self, default: bool) -> bool {
        self.get(&["tie_word_embeddings"]).and_then(Value::as_bool).unwrap_or(default)
    }
}
