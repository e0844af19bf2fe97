//! Metadata for the page: whole values, the elements of arrays, and the dimensions of a model.
//!
//! Knows GGUF's element types and the keys of `config.json`; knows no views.

use crate::api_error::SAFE;
use crate::model::Model;
use crate::view::to_js;
use quantoscope_core::format::Checkpoint;
use quantoscope_core::tensor::{MetaArray, MetaValue};
use serde::Serialize;
use serde_json::Value;
use wasm_bindgen::prelude::*;

/// Elements that one answer holds at most.
const MOST_ELEMENTS: usize = 1000;

/// Dimensions of a model, as far as its metadata or `config.json` have them.
#[derive(Default, Serialize)]
pub(crate) struct ModelDimensions {
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<u64>,
    /// Tokens that the model was trained for.
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<u64>,
    /// Channels of the residual stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heads: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_heads: Option<u64>,
    /// Channels of a head.
    #[serde(skip_serializing_if = "Option::is_none")]
    head_dim: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vocabulary: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    experts: Option<u64>,
    /// Experts that each token uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    experts_used: Option<u64>,
}

/// Elements of a metadata array.
#[derive(Serialize)]
struct MetadataElements {
    /// Number of elements that match the search.
    found: u64,
    /// Index and text of some of them.
    elements: Vec<(u64, String)>,
}

/// The dimensions of `c`: from its metadata if it is GGUF, else from `config.json`.
pub(crate) fn dimensions(c: &Checkpoint) -> ModelDimensions {
    if let Some(architecture) = c.metadata.text("general.architecture") {
        return of_gguf(c, architecture);
    }
    let config = c.config.as_deref().and_then(|json| serde_json::from_slice::<Value>(json).ok());
    config.as_ref().map_or_else(ModelDimensions::default, of_config)
}

fn of_gguf(c: &Checkpoint, architecture: &str) -> ModelDimensions {
    let uint = |key: &str| c.metadata.uint(&format!("{architecture}.{key}")).filter(|n| *n <= SAFE);
    let tokens = match c.metadata.get("tokenizer.ggml.tokens") {
        Some(MetaValue::Array(tokens)) => Some(tokens.len),
        _ => None,
    };
    ModelDimensions {
        layers: uint("block_count"),
        context: uint("context_length"),
        hidden: uint("embedding_length"),
        heads: uint("attention.head_count"),
        kv_heads: uint("attention.head_count_kv"),
        head_dim: uint("attention.key_length"),
        vocabulary: uint("vocab_size").or(tokens),
        experts: uint("expert_count").filter(|n| *n > 0),
        experts_used: uint("expert_used_count").filter(|n| *n > 0),
    }
}

/// Models with images have the dimensions of their language model in `text_config`.
fn of_config(config: &Value) -> ModelDimensions {
    let uint = |keys: &[&str]| {
        let places = [Some(config), config.get("text_config")];
        places
            .into_iter()
            .flatten()
            .find_map(|at| keys.iter().find_map(|key| at.get(key)?.as_u64().filter(|n| *n <= SAFE)))
    };
    ModelDimensions {
        layers: uint(&["num_hidden_layers", "n_layer", "num_layers"]),
        context: uint(&["max_position_embeddings", "n_positions", "n_ctx"]),
        hidden: uint(&["hidden_size", "n_embd", "d_model"]),
        heads: uint(&["num_attention_heads", "n_head"]),
        kv_heads: uint(&["num_key_value_heads"]),
        head_dim: uint(&["head_dim"]),
        vocabulary: uint(&["vocab_size"]),
        experts: uint(&["num_local_experts", "num_experts", "n_routed_experts"]),
        experts_used: uint(&["num_experts_per_tok"]),
    }
}

#[wasm_bindgen]
impl Model {
    /// The whole text of the metadata value `key`; absent if there is no such key or its value is an array.
    pub fn metadata_text(&self, key: &str) -> Option<String> {
        match self.checkpoint.metadata.get(key)? {
            MetaValue::String(text) => Some(text.clone()),
            MetaValue::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            MetaValue::Array(_) => None,
            other => Some(crate::view::text(other)),
        }
    }

    /// Elements of the metadata array `key` whose text contains `search` or whose index is `search`: at most `count`, after
    /// the first `skip`. See `MetadataElements`; none of an array of arrays.
    ///
    /// # Errors
    /// That of the conversion to a JavaScript value.
    pub fn metadata_elements(
        &self,
        key: &str,
        search: &str,
        skip: usize,
        count: usize,
    ) -> Result<JsValue, JsValue> {
        let found = match self.checkpoint.metadata.get(key) {
            Some(MetaValue::Array(array)) => search_array(array, search, skip, count.min(MOST_ELEMENTS)),
            _ => MetadataElements { found: 0, elements: Vec::new() },
        };
        to_js(&found)
    }
}

fn search_array(array: &MetaArray, search: &str, skip: usize, count: usize) -> MetadataElements {
    let mut out = MetadataElements { found: 0, elements: Vec::new() };
    let mut rest = array.raw.as_slice();
    for index in 0..array.len {
        let Some(text) = element(array.element, &mut rest) else { break };
        if !search.is_empty() && !text.contains(search) && index.to_string() != search {
            continue;
        }
        if out.found >= skip as u64 && out.elements.len() < count {
            out.elements.push((index, text));
        }
        out.found += 1;
    }
    out
}

/// The next element of a GGUF array as text; `None` at its end and for arrays of arrays.
fn element(kind: u32, rest: &mut &[u8]) -> Option<String> {
    Some(match kind {
        0 => u8::from_le_bytes(take(rest)?).to_string(),
        1 => i8::from_le_bytes(take(rest)?).to_string(),
        2 => u16::from_le_bytes(take(rest)?).to_string(),
        3 => i16::from_le_bytes(take(rest)?).to_string(),
        4 => u32::from_le_bytes(take(rest)?).to_string(),
        5 => i32::from_le_bytes(take(rest)?).to_string(),
        6 => f32::from_le_bytes(take(rest)?).to_string(),
        7 => (u8::from_le_bytes(take(rest)?) != 0).to_string(),
        8 => {
            let len = usize::try_from(u64::from_le_bytes(take(rest)?)).ok()?;
            let (text, after) = rest.split_at_checked(len)?;
            *rest = after;
            String::from_utf8_lossy(text).into_owned()
        }
        10 => u64::from_le_bytes(take(rest)?).to_string(),
        11 => i64::from_le_bytes(take(rest)?).to_string(),
        12 => f64::from_le_bytes(take(rest)?).to_string(),
        _ => return None,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &[&str]) -> MetaArray {
        let raw =
            words.iter().flat_map(|w| [&(w.len() as u64).to_le_bytes(), w.as_bytes()].concat()).collect();
        MetaArray { element: 8, len: words.len() as u64, raw }
    }

    #[test]
    fn search_by_text_or_index_counts_all_and_returns_a_part() {
        let array = texts(&["a", "ab", "b", "abc"]);
        let found = search_array(&array, "a", 1, 1);
        assert_eq!((found.found, found.elements), (3, vec![(1, "ab".into())]));
        assert_eq!(search_array(&array, "2", 0, 9).elements, [(2, "b".into())]);
        assert_eq!(search_array(&array, "", 0, 9).found, 4);
    }

    #[test]
    fn numbers_are_read_by_element_type() {
        let raw = [-1_i32, 7].iter().flat_map(|n| n.to_le_bytes()).collect();
        let array = MetaArray { element: 5, len: 2, raw };
        assert_eq!(search_array(&array, "", 0, 9).elements, [(0, "-1".into()), (1, "7".into())]);
    }

    #[test]
    fn array_shorter_than_its_length_ends_early() {
        let mut array = texts(&["abc"]);
        array.len = u64::MAX;
        assert_eq!(search_array(&array, "", 0, 9).found, 1);
        array.raw.pop();
        assert_eq!(search_array(&array, "", 0, 9).found, 0);
        assert_eq!(search_array(&MetaArray { element: 9, len: 2, raw: vec![0; 64] }, "", 0, 9).found, 0);
    }

    #[test]
    fn dimensions_of_a_config_are_those_of_its_language_model() {
        let config =
            serde_json::json!({"text_config": {"num_hidden_layers": 4, "vocab_size": 10}, "hidden_size": 8});
        let found = of_config(&config);
        assert_eq!(
            (found.layers, found.vocabulary, found.hidden, found.heads),
            (Some(4), Some(10), Some(8), None)
        );
        // A number of JavaScript does not hold it.
        assert_eq!(of_config(&serde_json::json!({"num_hidden_layers": u64::MAX})).layers, None);
    }
}
