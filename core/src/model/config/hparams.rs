//! The numbers of layers, heads and experts that presets depend on.
//!
//! Unlike [`Config`](super::Config) they are found for any model: in the metadata of a GGUF or in `config.json`, else from
//! names and shapes. Nothing here fails.

use crate::model::arch::{self, Arch, RecipeFacts};
use crate::model::tensor_id::{GgufName, gguf_layer};
use crate::tensor::{MetaValue, Metadata, Shape};
use alloc::format;
use alloc::string::String;
use serde_json::Value;

/// Layers, heads and experts of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hparams {
    /// What presets treat in their own way.
    pub facts: RecipeFacts,
    /// Number of layers.
    pub layers: u64,
    /// Query heads for each key-value head, rounded down; 0 where unknown.
    pub gqa: u64,
    /// Experts of a layer; 0 for a dense model.
    pub experts: u64,
    /// Whether query heads outnumber key-value heads.
    pub grouped: bool,
}

impl Hparams {
    /// The numbers in `metadata` (of a GGUF) or `config` (a `config.json`), else in the tensors; `tensors` gives each
    /// tensor's GGUF name and its own shape.
    pub fn of<'a>(
        metadata: &Metadata,
        config: Option<&[u8]>,
        tensors: impl Iterator<Item = (&'a GgufName, &'a Shape)> + Clone,
    ) -> Hparams {
        let config = config.and_then(|c| serde_json::from_slice::<Value>(c).ok());
        let found = match (metadata.text("general.architecture"), &config) {
            (Some(arch), _) if metadata.get(&format!("{arch}.block_count")).is_some() => {
                of_metadata(arch, metadata)
            }
            (_, Some(config)) => of_config(config),
            _ => NamedLayers {
                arch: &arch::GENERIC,
                layers: None,
                exact: false,
                heads: None,
                kv_heads: None,
                experts: None,
            },
        };
        let seen = tensors.clone().map(|(t, _)| gguf_layer(&t.name) + 1).max().unwrap_or(0);
        let (heads, kv_heads) =
            found.heads.zip(found.kv_heads).unwrap_or_else(|| rows_of_heads(tensors.clone()));
        Hparams {
            facts: found.arch.recipe,
            layers: match found.layers {
                Some(n) if found.exact => n,
                n => n.unwrap_or(0).max(seen.unsigned_abs()),
            },
            gqa: heads.checked_div(kv_heads).unwrap_or(0),
            experts: found.experts.unwrap_or_else(|| stacked(tensors)),
            grouped: heads != kv_heads,
        }
    }
}

struct NamedLayers {
    arch: &'static Arch,
    layers: Option<u64>,
    /// Whether no tensor may stand in a layer beyond these.
    exact: bool,
    heads: Option<u64>,
    kv_heads: Option<u64>,
    experts: Option<u64>,
}

fn of_metadata(arch: &str, metadata: &Metadata) -> NamedLayers {
    let get = |key: &str| metadata.get(&format!("{arch}.{key}")).and_then(first);
    let heads = get("attention.head_count");
    NamedLayers {
        arch: arch::named(arch).unwrap_or(&arch::GENERIC),
        layers: get("block_count"),
        exact: true,
        heads: heads.or(Some(0)),
        kv_heads: get("attention.head_count_kv").or(heads).or(Some(0)),
        experts: get("expert_count").or(Some(0)),
    }
}

/// A number, or the first one of an array with one for each layer.
fn first(value: &MetaValue) -> Option<u64> {
    const U32: u32 = 4;
    const I32: u32 = 5;
    match value {
        MetaValue::Array(a) if matches!(a.element, U32 | I32) => {
            let raw = a.raw.first_chunk::<4>()?;
            u64::try_from(i32::from_le_bytes(*raw)).ok()
        }
        _ => Metadata(alloc::vec![(String::new(), value.clone())]).uint(""),
    }
}

fn of_config(config: &Value) -> NamedLayers {
    // A multimodal model describes its language part in a part of its own.
    let part = config.get("text_config").unwrap_or(config);
    let number = |keys: &[&str]| keys.iter().find_map(|k| part.get(*k)?.as_u64());
    let kind = part.get("model_type").or_else(|| config.get("model_type"));
    let kind = kind.and_then(Value::as_str).unwrap_or("");
    let heads = number(&["num_attention_heads", "n_head"]);
    let flag = |key: &str| part.get(key).and_then(Value::as_bool).unwrap_or(false);
    // Falcon 7B: all heads share one key.
    let shared = (flag("multi_query") && !flag("new_decoder_architecture")).then_some(1);
    NamedLayers {
        arch: arch::named(kind).unwrap_or(&arch::GENERIC),
        layers: number(&["num_hidden_layers", "n_layer", "num_layers"]),
        exact: false,
        heads,
        kv_heads: number(&["num_key_value_heads", "num_kv_heads"]).or(shared).or(heads),
        experts: number(&["num_local_experts", "num_experts", "n_routed_experts"]),
    }
}

/// Rows of the first query and key projections: as many heads, times what one has.
fn rows_of_heads<'a>(tensors: impl Iterator<Item = (&'a GgufName, &'a Shape)> + Clone) -> (u64, u64) {
    let rows = |end: &str| tensors.clone().find(|(t, _)| t.name.ends_with(end)).map_or(0, |(_, s)| s.rows());
    (rows(".0.attn_q.weight"), rows(".0.attn_k.weight"))
}

/// The experts that stand in a stack, or one by one.
fn stacked<'a>(tensors: impl Iterator<Item = (&'a GgufName, &'a Shape)>) -> u64 {
    let experts = tensors.filter(|(t, _)| t.name.ends_with("_exps.weight"));
    experts.map(|(t, shape)| t.expert.map_or(stack(shape), |e| e.saturating_add(1))).max().unwrap_or(0)
}

/// Matrices in a shape: the third axis from within, 1 where there is none.
pub fn stack(shape: &Shape) -> u64 {
    shape.axes().iter().rev().nth(2).copied().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::MetaArray;

    fn shapes() -> [(GgufName, Shape); 2] {
        let tensor = |name: &str, axes: &[u64]| {
            (GgufName { name: name.into(), expert: None }, Shape::new(axes).unwrap())
        };
        [tensor("blk.0.attn_q.weight", &[64, 8]), tensor("blk.0.attn_k.weight", &[16, 8])]
    }

    fn of(metadata: &Metadata, config: Option<&str>) -> Hparams {
        let shapes = shapes();
        Hparams::of(metadata, config.map(str::as_bytes), shapes.iter().map(|(t, s)| (t, s)))
    }

    #[test]
    fn gguf_metadata_speaks_first() {
        let kv =
            MetaArray { element: 5, len: 2, raw: [2_i32, 1].iter().flat_map(|n| n.to_le_bytes()).collect() };
        let metadata = Metadata(alloc::vec![
            ("general.architecture".into(), MetaValue::String("llama".into())),
            ("llama.block_count".into(), MetaValue::U32(80)),
            ("llama.attention.head_count".into(), MetaValue::U32(9)),
            ("llama.attention.head_count_kv".into(), MetaValue::Array(kv)),
        ]);
        let want = Hparams {
            facts: arch::find("llama").unwrap().recipe,
            layers: 80,
            gqa: 4,
            experts: 0,
            grouped: true,
        };
        assert_eq!(of(&metadata, None), want);
    }

    #[test]
    fn a_configuration_says_the_same() {
        let config = r#"{"model_type": "mixtral", "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "num_local_experts": 8}"#;
        let want = Hparams {
            facts: arch::find("llama").unwrap().recipe,
            layers: 32,
            gqa: 4,
            experts: 8,
            grouped: true,
        };
        assert_eq!(of(&Metadata::default(), Some(config)), want);
        let nested = alloc::format!(r#"{{"model_type": "llava", "text_config": {config}}}"#);
        assert_eq!(of(&Metadata::default(), Some(&nested)), want);
    }

    #[test]
    fn without_either_the_shapes_tell() {
        let want = Hparams { facts: arch::GENERIC.recipe, layers: 1, gqa: 4, experts: 0, grouped: true };
        assert_eq!(of(&Metadata::default(), None), want);
        assert_eq!(of(&Metadata::default(), Some("not json")), want);
    }
}
