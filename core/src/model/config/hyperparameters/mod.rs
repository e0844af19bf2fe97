//! Hyperparameters of a checkpoint as llama.cpp's converter sees them: `config.json` under the defaults of the
//! configuration class of its `model_type`, the text model's keys laid over the root, and the rope parameters.
//!
//! Knows no architecture and no key of a GGUF.

mod classes;
mod rope;

use crate::error::{Code, Error, Result};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::{Map, Value};

/// The value that a configuration class gives to an absent key.
#[derive(Clone, Copy, Debug)]
pub(super) enum ClassDefault {
    Null,
    Bool(bool),
    Int(u64),
    Float(f64),
    Text(&'static str),
    Members(&'static [(&'static str, ClassDefault)]),
    /// The value of another key.
    Copied(&'static str),
    /// The integer quotient of two keys.
    Ratio(&'static str, &'static str),
    /// One entry for each layer.
    Layers(LayerPattern),
}

/// A list with one entry for each layer.
#[derive(Clone, Copy, Debug)]
pub(super) enum LayerPattern {
    /// `full_attention` everywhere.
    AllFull,
    /// `full_attention` at every n-th layer, the first name elsewhere; n is a key (if named), or the number.
    FullEvery(&'static str, &'static str, u64),
    /// LFM2: `full_attention` at the layers of `full_attn_idxs`, `conv` elsewhere.
    Short,
    /// Llama 4: `chunked_attention` where `no_rope_layers` is 1.
    Chunked,
    /// 1, and 0 at every fourth layer.
    Rotated,
}

/// The keys under which a configuration can hold that of its text model.
const NESTED: [&[&str]; 6] = [
    &["text_config"],
    &["llm_config"],
    &["lm_config"],
    &["thinker_config", "text_config"],
    &["language_config"],
    &["lfm"],
];

/// `model_type` of text models whose configuration leaves it out, by that of the whole.
const TEXT_TYPES: &[(&str, &str)] = &[
    ("gemma3", "gemma3_text"),
    ("llama4", "llama4_text"),
    ("llava", "llama"),
    ("llava_next", "llama"),
    ("mistral3", "mistral"),
    ("qwen3_vl", "qwen3_vl_text"),
];

/// The most layers of a list that a class computes.
const MAX_LAYERS: u64 = super::LAYERS;

/// Hyperparameters: a merged configuration with checked getters.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    values: Map<String, Value>,
    rope: Map<String, Value>,
}

/// The hyperparameters of a `config.json` (or of Mistral's `params.json`, which has no `model_type` of a class).
///
/// # Errors
///
/// [`Code::BadValue`] if it is not an object, or if a nested configuration is none.
pub fn hyperparameters(config: &Value) -> Result<Hyperparameters> {
    let Value::Object(root) = config else {
        return Err(Error::new(Code::BadValue, "the configuration is not a JSON object"));
    };
    let root_type = model_type(root);
    let mut values = with_defaults(root, root_type);
    if let Some(nested) = NESTED.iter().find_map(|path| path.iter().try_fold(config, |v, key| v.get(*key))) {
        let Value::Object(nested) = nested else {
            return Err(Error::new(Code::BadValue, "the nested configuration is not a JSON object"));
        };
        let implied = TEXT_TYPES.iter().find(|(whole, _)| Some(*whole) == root_type).map(|(_, text)| *text);
        values.extend(with_defaults(nested, model_type(nested).or(implied)));
    }
    let rope = rope::parameters(&values);
    Ok(Hyperparameters { values, rope })
}

/// Whether the configuration class of a `model_type` has a key.
pub fn class_has(model_type: &str, key: &str) -> bool {
    let class = classes::CLASSES.iter().find(|(name, _)| *name == model_type);
    class.is_some_and(|(_, own)| own.iter().any(|(name, _)| *name == key))
}

fn model_type(config: &Map<String, Value>) -> Option<&str> {
    config.get("model_type").and_then(Value::as_str)
}

/// The keys of `config`, and those that its class adds.
fn with_defaults(config: &Map<String, Value>, model_type: Option<&str>) -> Map<String, Value> {
    let mut values = config.clone();
    let Some((_, own)) = classes::CLASSES.iter().find(|(name, _)| Some(*name) == model_type) else {
        return values;
    };
    // LFM2's class takes the length of the feed-forward part from an older key.
    if let (Some("lfm2"), Some(length)) = (model_type, config.get("block_ff_dim")) {
        values.insert("intermediate_size".to_owned(), length.clone());
    }
    for (key, default) in own.iter().chain(classes::COMMON) {
        // A null is a value, except of keys that the class computes.
        let computed = matches!(default, ClassDefault::Copied(_) | ClassDefault::Ratio(..));
        let absent = values.get(*key).is_none_or(|v| v.is_null() && computed);
        if absent && let Some(value) = default_value(*default, &values) {
            values.insert((*key).to_owned(), value);
        }
    }
    values
}

fn default_value(default: ClassDefault, values: &Map<String, Value>) -> Option<Value> {
    Some(match default {
        ClassDefault::Null => Value::Null,
        ClassDefault::Bool(b) => b.into(),
        ClassDefault::Int(n) => n.into(),
        ClassDefault::Float(x) => x.into(),
        ClassDefault::Text(text) => text.into(),
        ClassDefault::Members(members) => {
            let member = |(key, value): &(&str, ClassDefault)| {
                default_value(*value, values).map(|value| ((*key).to_owned(), value))
            };
            Value::Object(members.iter().filter_map(member).collect())
        }
        ClassDefault::Copied(key) => values.get(key)?.clone(),
        ClassDefault::Ratio(a, b) => values.get(a)?.as_u64()?.checked_div(values.get(b)?.as_u64()?)?.into(),
        ClassDefault::Layers(pattern) => layers(pattern, values)?,
    })
}

fn layers(pattern: LayerPattern, values: &Map<String, Value>) -> Option<Value> {
    let n = values.get("num_hidden_layers")?.as_u64().filter(|n| *n <= MAX_LAYERS)?;
    let full_if = |full: bool, other: &str| Value::from(if full { "full_attention" } else { other });
    let list: Vec<Value> = match pattern {
        LayerPattern::AllFull => (0..n).map(|_| full_if(true, "")).collect(),
        LayerPattern::FullEvery(other, key, usual) => {
            let every = values.get(key).and_then(Value::as_u64).unwrap_or(usual);
            (1..=n).map(|i| full_if(i.checked_rem(every).is_none_or(|rest| rest == 0), other)).collect()
        }
        LayerPattern::Short => {
            let chosen = values.get("full_attn_idxs").and_then(Value::as_array);
            let full = |i: u64| chosen.is_none_or(|c| c.iter().any(|v| v.as_u64() == Some(i)));
            (0..n).map(|i| full_if(full(i), "conv")).collect()
        }
        LayerPattern::Chunked => {
            let rotated = values.get("no_rope_layers")?.as_array()?;
            rotated.iter().map(|r| full_if(r.as_u64() == Some(0), "chunked_attention")).collect()
        }
        LayerPattern::Rotated => (1..=n).map(|i| Value::from(u64::from(i % 4 != 0))).collect(),
    };
    Some(Value::Array(list))
}

impl Hyperparameters {
    /// The value of a key; a null is none.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|v| !v.is_null())
    }

    /// All merged values.
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// The rope parameters, with the names of transformers 5.
    pub fn rope(&self) -> RopeParameters<'_> {
        let full = self.rope.get("full_attention").and_then(Value::as_object);
        let sliding = self.rope.get("sliding_attention").and_then(Value::as_object);
        RopeParameters { full: full.unwrap_or(&self.rope), sliding }
    }

    /// Replaces the value of a key.
    pub fn assume(&mut self, key: &str, value: impl Into<Value>) {
        self.values.insert(key.to_owned(), value.into());
    }

    /// The first key that is present, even with a null, and its value.
    fn first<'a>(&self, keys: &[&'a str]) -> Option<(&'a str, &Value)> {
        keys.iter().find_map(|key| self.values.get(*key).map(|value| (*key, value)))
    }

    /// The count under the first of `keys` that is present; a null there is none.
    ///
    /// # Errors
    ///
    /// [`Code::BadValue`] naming the key, if it is not an integer of 32 bits.
    pub fn count(&self, keys: &[&str]) -> Result<Option<u32>> {
        self.first(keys).map_or(Ok(None), |(key, value)| count(key, value))
    }

    /// The number under the first of `keys` that is present; a null there is none.
    ///
    /// # Errors
    ///
    /// [`Code::BadValue`] naming the key, if it is not a number.
    pub fn real(&self, keys: &[&str]) -> Result<Option<f64>> {
        self.first(keys).map_or(Ok(None), |(key, value)| real(key, value))
    }

    /// The flag under the first of `keys` that is present; a null there is none.
    ///
    /// # Errors
    ///
    /// [`Code::BadValue`] naming the key, if it is not a boolean.
    pub fn flag(&self, keys: &[&str]) -> Result<Option<bool>> {
        match self.first(keys) {
            None | Some((_, Value::Null)) => Ok(None),
            Some((_, Value::Bool(b))) => Ok(Some(*b)),
            Some((key, value)) => Err(wrong(key, value, "a boolean")),
        }
    }

    /// The text under the first of `keys` that is present; a null there is none.
    ///
    /// # Errors
    ///
    /// [`Code::BadValue`] naming the key, if it is not a text.
    pub fn text(&self, keys: &[&str]) -> Result<Option<&str>> {
        match self.first(keys) {
            None | Some((_, Value::Null)) => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text)),
            Some((key, value)) => Err(wrong(key, value, "a text")),
        }
    }

    /// The count of a key that has to be there.
    ///
    /// # Errors
    ///
    /// [`Code::BadValue`] naming the key.
    pub fn required(&self, keys: &[&str]) -> Result<u32> {
        self.count(keys)?.ok_or_else(|| missing(keys))
    }

    /// The number of layers, predictors not counted.
    ///
    /// # Errors
    ///
    /// [`Code::BadValue`] if it is absent or larger than any model's.
    pub fn layers(&self) -> Result<u32> {
        let layers = self.required(&["num_hidden_layers", "n_layer", "n_layers", "num_layers"])?;
        if u64::from(layers) > MAX_LAYERS {
            let message = format!("{layers} layers; at most {MAX_LAYERS} are supported");
            return Err(Error::new(Code::BadValue, message));
        }
        Ok(layers)
    }

    /// The kind of each layer, where the configuration lists them.
    pub fn layer_types(&self) -> Option<Vec<&str>> {
        self.get("layer_types")?.as_array()?.iter().map(Value::as_str).collect()
    }

    /// Values of a head: `head_dim`, else the share of a head in the stream.
    ///
    /// # Errors
    ///
    /// [`Code::BadValue`] if neither is known.
    pub fn head_dim(&self) -> Result<u32> {
        match self.count(&["head_dim"])? {
            Some(d) => Ok(d),
            None => self.share_of_a_head(),
        }
    }

    /// Length of the stream divided by the number of heads.
    ///
    /// # Errors
    ///
    /// [`Code::BadValue`] if one of them is not known, or there are no heads.
    pub fn share_of_a_head(&self) -> Result<u32> {
        let heads = self.required(HEADS)?;
        let quotient = self.required(HIDDEN)?.checked_div(heads);
        quotient.ok_or_else(|| Error::new(Code::BadValue, "the configuration has no attention heads"))
    }
}

/// The keys of the length of the stream.
pub const HIDDEN: &[&str] = &["hidden_size", "n_embd", "dim", "d_model"];
/// The keys of the number of heads.
pub const HEADS: &[&str] = &["num_attention_heads", "n_head", "n_heads", "num_heads"];

/// Parameters of rotary embedding: of all layers or of those with full attention, and of those with a window.
#[derive(Clone, Copy, Debug)]
pub struct RopeParameters<'a> {
    /// Of all layers, or of those with full attention.
    pub full: &'a Map<String, Value>,
    /// Of layers with a sliding window, where they have their own.
    pub sliding: Option<&'a Map<String, Value>>,
}

impl RopeParameters<'_> {
    /// A number of the first of `keys` that is there.
    ///
    /// # Errors
    ///
    /// [`Code::BadValue`] naming the key, if it is not a number.
    pub fn real(&self, keys: &[&str]) -> Result<Option<f64>> {
        let found = keys.iter().find_map(|key| self.full.get(*key).map(|v| (*key, v)));
        found.map_or(Ok(None), |(key, value)| real(key, value))
    }

    /// A count.
    ///
    /// # Errors
    ///
    /// [`Code::BadValue`] naming the key, if it is not an integer of 32 bits.
    pub fn count(&self, key: &str) -> Result<Option<u32>> {
        self.full.get(key).map_or(Ok(None), |value| count(key, value))
    }

    /// The kind of scaling, in lower case; empty where there is none.
    pub fn kind(&self) -> String {
        self.full.get("rope_type").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase()
    }
}

fn count(key: &str, value: &Value) -> Result<Option<u32>> {
    if value.is_null() {
        return Ok(None);
    }
    let count = value.as_u64().and_then(|n| u32::try_from(n).ok());
    count.map(Some).ok_or_else(|| wrong(key, value, "an integer of 32 bits"))
}

fn real(key: &str, value: &Value) -> Result<Option<f64>> {
    if value.is_null() {
        return Ok(None);
    }
    value.as_f64().map(Some).ok_or_else(|| wrong(key, value, "a number"))
}

fn wrong(key: &str, value: &Value, expected: &str) -> Error {
    let shown: String = format!("{value}").chars().take(40).collect();
    Error::new(Code::BadValue, format!("the configuration's {key:?} is {shown}, not {expected}"))
}

/// The refusal of a configuration without any of `keys`.
pub fn missing(keys: &[&str]) -> Error {
    Error::new(Code::BadValue, format!("the configuration lacks {:?}", keys.first().unwrap_or(&"")))
}
