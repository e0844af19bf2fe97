//! What the names and the configuration of a PEFT adapter say. Knows no shapes and no rotation.

use super::json_file::JsonFile;
use crate::error::{Code, Result};
use alloc::format;
use alloc::string::String;
use serde_json::Value;

/// The file that says how an adapter is to be used.
pub const CONFIG: &str = "adapter_config.json";

/// What all names begin with, as PEFT wraps a model.
const WRAPPED: &str = "base_model.model.";

/// Which tensor of a module's adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterPart {
    /// `[rank, inputs]`, of a linear module.
    A,
    /// `[outputs, rank]`.
    B,
    /// `[outputs]`, added to what B makes.
    Bias,
    /// `[rank, vocabulary]`, of an embedding.
    EmbeddingA,
    /// `[length of the embeddings, rank]`.
    EmbeddingB,
    /// DoRA's length of each row of the merged weight, `[outputs]`.
    Magnitude,
}

/// What a name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdapterTensor<'a> {
    /// A tensor of the adapter of a module.
    Low {
        /// The module, as the model names it.
        module: &'a str,
        /// The name of the adapter, where the file keeps it; empty where not.
        adapter: &'a str,
        /// Which tensor.
        half: AdapterPart,
    },
    /// A tensor that takes the place of the model's tensor of this name.
    Whole(String),
}

/// The words between a module and what follows, and the tensor that they begin with.
const WORDS: &[(&str, &str, AdapterPart)] = &[
    (".lora_A", ".weight", AdapterPart::A),
    (".lora_B", ".weight", AdapterPart::B),
    (".lora_B", ".bias", AdapterPart::Bias),
    (".lora_embedding_A", "", AdapterPart::EmbeddingA),
    (".lora_embedding_B", "", AdapterPart::EmbeddingB),
    (".lora_magnitude_vector", ".weight", AdapterPart::Magnitude),
    (".lora_magnitude_vector", "", AdapterPart::Magnitude),
];

/// What `name` says.
pub fn meaning(name: &str) -> AdapterTensor<'_> {
    let inner = name.strip_prefix(WRAPPED).unwrap_or(name);
    let low = WORDS.iter().find_map(|&(word, ending, half)| {
        let (module, rest) = inner.split_once(word)?;
        let adapter = match rest.strip_suffix(ending)? {
            "" => "",
            named => named.strip_prefix('.').filter(|n| !n.is_empty() && !n.contains('.'))?,
        };
        (!module.is_empty()).then_some(AdapterTensor::Low { module, adapter, half })
    });
    low.unwrap_or_else(|| AdapterTensor::Whole(whole(inner)))
}

/// The name of the tensor whose place is taken, without the words that PEFT puts between.
fn whole(inner: &str) -> String {
    match inner.split_once(".modules_to_save.") {
        // The name of the adapter may follow.
        Some((module, rest)) => format!("{module}.{}", rest.split_once('.').map_or(rest, |(_, last)| last)),
        None => inner.replace(".base_layer.", "."),
    }
}

/// How a low-rank adapter's first values may be chosen without a change of the weights beside it.
const PLAIN: &[&str] = &["gaussian", "eva", "orthogonal"];

/// Checks the `adapter_config.json` of an adapter. Returns the name that it has for its model.
///
/// # Errors
///
/// `unsupported_rotation` if the adapter is more than low-rank products beside the weights; those of [`JsonFile::parse`].
pub fn check(config: &[u8]) -> Result<Option<String>> {
    let file = JsonFile::parse(CONFIG, config)?;
    let config = &file.value;
    let refuse = |key: &str, message: String| Err(file.error(Code::UnsupportedRotation, &[key], message));
    let kind = config.get("peft_type").and_then(Value::as_str).unwrap_or("");
    if kind != "LORA" {
        let message = format!(
            "adapter_config.json: peft_type is {kind:?}; only LORA is known to have a counter-rotation"
        );
        return refuse("peft_type", message);
    }
    if let Some(how) = config.get("init_lora_weights").and_then(Value::as_str)
        && !PLAIN.contains(&how)
    {
        let message = format!(
            "adapter_config.json: init_lora_weights = {how:?} changes the weights of the model when the adapter is loaded, \
             and would change rotated ones otherwise; save the adapter as a plain one first"
        );
        return refuse("init_lora_weights", message);
    }
    let said = |key: &str| config.get(key).is_some_and(|v| !v.is_null() && *v != Value::Bool(false));
    for (key, what) in [
        ("layer_replication", "gives layers that the model does not have their names"),
        ("use_qalora", "sums inputs in groups, which a rotation mixes"),
    ] {
        if said(key) {
            return refuse(key, format!("adapter_config.json: {key} {what}"));
        }
    }
    let name = config.get("base_model_name_or_path").and_then(Value::as_str).filter(|n| !n.is_empty());
    Ok(name.map(String::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn low<'a>(module: &'a str, adapter: &'a str, half: AdapterPart) -> AdapterTensor<'a> {
        AdapterTensor::Low { module, adapter, half }
    }

    #[test]
    fn names_as_peft_writes_them() {
        let q = "model.layers.0.self_attn.q_proj";
        for (name, expected) in [
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", low(q, "", AdapterPart::A)),
            (
                "base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight",
                low(q, "default", AdapterPart::B),
            ),
            ("model.layers.0.self_attn.q_proj.lora_B.bias", low(q, "", AdapterPart::Bias)),
            ("base_model.model.wte.lora_embedding_A", low("wte", "", AdapterPart::EmbeddingA)),
            ("base_model.model.wte.lora_embedding_B.mine", low("wte", "mine", AdapterPart::EmbeddingB)),
            ("base_model.model.head.lora_magnitude_vector", low("head", "", AdapterPart::Magnitude)),
            (
                "base_model.model.head.lora_magnitude_vector.default.weight",
                low("head", "default", AdapterPart::Magnitude),
            ),
            (
                "base_model.model.lm_head.modules_to_save.default.weight",
                AdapterTensor::Whole("lm_head.weight".into()),
            ),
            (
                "base_model.model.lm_head.modules_to_save.weight",
                AdapterTensor::Whole("lm_head.weight".into()),
            ),
            ("base_model.model.lm_head.weight", AdapterTensor::Whole("lm_head.weight".into())),
            ("base_model.model.a.base_layer.bias", AdapterTensor::Whole("a.bias".into())),
            // No tensors of an adapter: no such name exists.
            ("base_model.model.a.lora_A.x.y.weight", AdapterTensor::Whole("a.lora_A.x.y.weight".into())),
            ("base_model.model.a.lora_A.bias", AdapterTensor::Whole("a.lora_A.bias".into())),
            (
                "base_model.model.a.lora_embedding_A_too",
                AdapterTensor::Whole("a.lora_embedding_A_too".into()),
            ),
            (".lora_A.weight", AdapterTensor::Whole(".lora_A.weight".into())),
            ("", AdapterTensor::Whole(String::new())),
        ] {
            assert_eq!(meaning(name), expected, "{name}");
        }
    }

    #[test]
    fn adapters_that_change_more_are_refused() {
        for sound in [
            r#"{"peft_type":"LORA"}"#,
            r#"{"peft_type":"LORA","init_lora_weights":true,"layer_replication":null,"use_qalora":false}"#,
            r#"{"peft_type":"LORA","init_lora_weights":"gaussian"}"#,
        ] {
            assert!(check(sound.as_bytes()).is_ok(), "{sound}");
        }
        for (refused, code) in [
            ("{", Code::BadJson),
            ("{}", Code::UnsupportedRotation),
            (r#"{"peft_type":"IA3"}"#, Code::UnsupportedRotation),
            (r#"{"peft_type":"LORA","init_lora_weights":"pissa_niter_4"}"#, Code::UnsupportedRotation),
            (r#"{"peft_type":"LORA","layer_replication":[[0,2]]}"#, Code::UnsupportedRotation),
            (r#"{"peft_type":"LORA","use_qalora":true}"#, Code::UnsupportedRotation),
        ] {
            assert_eq!(check(refused.as_bytes()).map_err(|e| e.code()), Err(code), "{refused}");
        }
    }
}
