//! What the rules of families refuse, and how: always by name, never by a guess and never by a panic.

use crate::families::folders;
use crate::family_rules::{FixtureModel, tensor};
use proptest::prelude::*;
use proptest::sample::Index;
use quantoscope_core::model::family::{HeadsVerdict, StreamRole, StreamVerdict, rules};
use quantoscope_core::{Code, DType};
use quantoscope_tests::property::property;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The names of all fixtures.
fn all() -> Vec<String> {
    let name = |p: std::path::PathBuf| p.file_name().and_then(|n| n.to_str()).map(String::from);
    folders().into_iter().filter_map(name).collect()
}

/// It is refused for this tensor; returns the sentence.
#[track_caller]
fn refused(model: &FixtureModel, tensor: Option<&str>) -> String {
    let error = model.rules().expect_err("this must be refused");
    let detail = error.detail();
    assert_eq!((detail.code, detail.tensor.as_deref()), (Code::UnsupportedRotation, tensor), "{error}");
    detail.message.clone()
}

#[test]
fn a_tensor_of_another_name_is_refused_by_that_name() {
    let mut tried = 0;
    for family in all() {
        let model = FixtureModel::fixture(&family);
        let hidden = model.rules().expect("rules").hidden;
        for i in 0..model.tensors.len() {
            if !model.tensors[i].shape.axes().contains(&hidden) {
                continue;
            }
            let mut other = model.clone();
            let name = format!("{}_", model.tensors[i].name);
            other.tensors[i].name = name.as_str().into();
            let error = other.rules().expect_err(&name);
            assert_eq!(error.code(), Code::UnsupportedRotation);
            // Without its embedding it is not known where a model's names begin.
            let found = error.detail().tensor.as_deref();
            assert!(
                found == Some(&name) || error.detail().message.starts_with("the embedding of"),
                "{error}"
            );
            tried += 1;
        }
    }
    assert!(tried > 1000, "{tried}");
}

#[test]
fn a_missing_norm_or_counterpart_is_refused() {
    for family in all() {
        let model = FixtureModel::fixture(&family);
        let whole = model.rules().expect("rules");
        for (i, part) in whole.parts.iter().enumerate() {
            let name = &model.tensors[i].name;
            let weight = model.tensors[i].shape.axes().len() > 1;
            let needed = matches!(part.stream, StreamRole::Norm { .. } | StreamRole::Embedding { .. });
            // A learned position beside the tokens may well be absent.
            let table = name.ends_with("wpe.weight") || name.ends_with("embed_positions.weight");
            if (needed && !table) || (part.heads.is_some() && weight) {
                let error = model.clone().without(name).rules().expect_err(name);
                assert_eq!(error.code(), Code::UnsupportedRotation, "{name}");
            }
        }
        let last = format!(".{}.", whole.layers - 1);
        let mut short = model.clone();
        short.tensors.retain(|t| !t.name.contains(&last) || t.name.contains("visual"));
        assert!(refused(&short, None).starts_with("layer 1 of 2"), "{family}");
    }
}

#[test]
fn a_named_tensor_of_another_shape_is_refused() {
    for family in all() {
        let model = FixtureModel::fixture(&family);
        for (i, part) in model.rules().expect("rules").parts.iter().enumerate() {
            let axis = match part.stream {
                StreamRole::Embedding { axis } | StreamRole::Writer { axis } => axis,
                StreamRole::Reader { axis, .. } | StreamRole::Head { axis, .. } => axis,
                StreamRole::Norm { .. } | StreamRole::NormBias { .. } => 0,
                StreamRole::Untouched | StreamRole::Mtp => match part.heads {
                    Some(heads) => heads.axis,
                    None => continue,
                },
            };
            let old = model.tensors[i].shape.axes().to_vec();
            let mut longer = old.clone();
            longer[axis] += 1;
            for shape in [longer, vec![], [old.clone(), vec![1]].concat()] {
                let mut other = model.clone();
                other.tensors[i] = tensor(&model.tensors[i].name, &shape);
                refused(&other, Some(&model.tensors[i].name));
            }
            // Heads that are one longer than the configuration says.
            if let Some(heads) = part.heads {
                let mut longer = old.clone();
                longer[heads.axis] += 1;
                let mut other = model.clone();
                other.tensors[i] = tensor(&model.tensors[i].name, &longer);
                refused(&other, Some(&model.tensors[i].name));
            }
        }
    }
}

#[test]
fn a_norm_without_readers_is_refused() {
    let model = FixtureModel::fixture("cohere");
    let mut alone = model.clone();
    alone
        .tensors
        .retain(|t| !t.name.contains("layers.1.") || t.name.contains("norm") || t.name.contains("down"));
    assert!(refused(&alone, Some("model.layers.1.input_layernorm.weight")).contains("nothing that reads"));
}

#[test]
fn towers_and_projectors_without_rules_are_refused_by_name() {
    for name in
        ["multi_modal_projector.linear_2.weight", "model.layers.0.per_layer_gate.weight", "vision_tower.proj"]
    {
        let message = refused(&FixtureModel::fixture("llama").with(name, &[24, 8]), Some(name));
        assert!(message.contains("24"), "{message}");
    }
    // No axis of the stream's length: nothing that could write it or read it.
    FixtureModel::fixture("llama").with("vision_tower.layer.weight", &[7, 9]).rules().expect("rules");
    // Beside the heads, as long as their values: what is between them is not known.
    let name = "model.layers.0.self_attn.sub_norm.weight";
    refused(&FixtureModel::fixture("llama").with(name, &[16]), Some(name));
    FixtureModel::fixture("llama").with("elsewhere.sub_norm.weight", &[16]).rules().expect("rules");
}

#[test]
fn quantized_weights_with_a_part_are_refused() {
    for (family, name) in [
        ("deepseek_v3", "model.layers.0.mlp.down_proj.weight_scale_inv"),
        ("gpt_oss", "model.layers.0.mlp.experts.gate_up_proj_blocks"),
        ("gpt_oss", "model.layers.0.mlp.experts.down_proj_scales"),
        ("llama", "model.layers.0.self_attn.q_proj.qweight"),
        ("llama", "model.layers.0.self_attn.q_proj.weight_packed"),
        ("deepseek_v3", "model.layers.0.self_attn.kv_b_proj.weight_scale_inv"),
    ] {
        let message = refused(&FixtureModel::fixture(family).with(name, &[1, 3]), Some(name));
        assert!(message.contains("only plain weights"), "{message}");
    }
    for dtype in [DType::U8, DType::Q4_0] {
        let mut model = FixtureModel::fixture("llama");
        model.tensors[0].dtype = dtype;
        let name = model.tensors[0].name.clone();
        assert!(refused(&model, Some(&name)).contains("only plain weights"));
    }
    // Where no rotation of the stream is exact, only the values have parts.
    let beside = "model.layers.0.mlp.down_proj.weight_scale";
    FixtureModel::fixture("gemma3").with(beside, &[1]).rules().expect("rules");
    let on_it = "model.layers.0.self_attn.v_proj.weight_scale";
    refused(&FixtureModel::fixture("gemma3").with(on_it, &[1]), Some(on_it));
    // What lies beside the stream may be stored in any way.
    FixtureModel::fixture("deepseek_v3")
        .with("model.layers.0.self_attn.q_b_proj.weight_scale", &[1])
        .rules()
        .expect("rules");
}

#[test]
fn unknown_families_and_variants_are_refused() {
    let llama = FixtureModel::fixture("llama");
    let error = rules(None, &llama.tensors).expect_err("no configuration");
    assert_eq!(error.code(), Code::UnsupportedRotation);
    assert_eq!(rules(Some(b"{"), &llama.tensors).expect_err("no JSON").code(), Code::BadJson);
    let message = refused(&llama.clone().saying("model_type", json!("bert")), None);
    assert!(message.contains("\"bert\"") && message.contains("qwen3_moe"), "{message}");
    refused(&llama.clone().saying("model_type", Value::Null), None);
    refused(&llama.clone().saying("architectures", json!(["LlamaForSequenceClassification"])), None);
    refused(&llama.clone().saying("hidden_size", Value::Null), None);
    refused(&llama.clone().saying("num_key_value_heads", json!(3)), None);
    refused(&llama.clone().without("lm_head.weight"), None);
    refused(&FixtureModel { tensors: Vec::new(), ..llama.clone() }, None);
    assert_eq!(llama.saying("hidden_size", json!(-1)).rules().expect_err("a size").code(), Code::BadValue);
    for (family, key, value) in [
        ("opt", "do_layer_norm_before", json!(false)),
        ("opt", "_remove_final_layer_norm", json!(true)),
        ("falcon", "new_decoder_architecture", Value::Null),
        ("stablelm", "use_parallel_residual", json!(true)),
    ] {
        assert!(refused(&FixtureModel::fixture(family).saying(key, value), None).contains(key));
    }
}

/// A number that is likely to matter.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(24), Just(u64::MAX), Just(1 << 24), Just(1 << 16), 0..40_u64]
}

#[derive(Clone, Debug)]
enum CheckpointDamage {
    Name(Index, String),
    /// A character of a name becomes another.
    Letter(Index, Index, char),
    Shape(Index, Vec<u64>),
    Type(Index, Index),
    Config(Index, u64),
    Remove(Index),
}

fn damage() -> impl Strategy<Value = CheckpointDamage> {
    let i = any::<Index>;
    prop_oneof![
        (i(), "(model|layers|h|mtp|[0-9]{1,12}|[a-zé_{},]{0,6}|\\.|weight|bias){0,8}")
            .prop_map(|(i, n)| CheckpointDamage::Name(i, n)),
        (i(), i(), any::<char>()).prop_map(|(i, at, c)| CheckpointDamage::Letter(i, at, c)),
        (i(), prop::collection::vec(number(), 0..5)).prop_map(|(i, s)| CheckpointDamage::Shape(i, s)),
        (i(), i()).prop_map(|(i, t)| CheckpointDamage::Type(i, t)),
        (i(), number()).prop_map(|(i, n)| CheckpointDamage::Config(i, n)),
        i().prop_map(CheckpointDamage::Remove),
    ]
}

const KEYS: &[&str] = &[
    "hidden_size",
    "n_embd",
    "num_attention_heads",
    "n_head",
    "num_key_value_heads",
    "head_dim",
    "v_head_dim",
    "qk_nope_head_dim",
    "num_hidden_layers",
];

fn apply(mut model: FixtureModel, damage: &CheckpointDamage) -> FixtureModel {
    let at = |i: &Index| i.index(model.tensors.len().max(1));
    if model.tensors.is_empty() {
        return model;
    }
    match damage {
        CheckpointDamage::Name(i, name) => {
            let i = at(i);
            model.tensors[i].name = name.as_str().into();
        }
        CheckpointDamage::Letter(i, place, c) => {
            let i = at(i);
            let mut letters: Vec<char> = model.tensors[i].name.chars().collect();
            if !letters.is_empty() {
                let n = letters.len();
                letters[place.index(n)] = *c;
            }
            model.tensors[i].name = letters.into_iter().collect::<String>().into();
        }
        CheckpointDamage::Shape(i, shape) => {
            let i = at(i);
            if let Some(shape) = quantoscope_core::tensor::Shape::new(shape.clone()) {
                model.tensors[i].shape = shape;
            }
        }
        CheckpointDamage::Type(i, t) => {
            let i = at(i);
            model.tensors[i].dtype = *t.get(DType::ALL);
        }
        CheckpointDamage::Config(key, n) => return model.saying(KEYS[key.index(KEYS.len())], json!(n)),
        CheckpointDamage::Remove(i) => {
            let i = at(i);
            model.tensors.remove(i);
        }
    }
    model
}

static MODELS: LazyLock<Vec<FixtureModel>> =
    LazyLock::new(|| all().iter().map(|f| FixtureModel::fixture(f)).collect());

proptest! {
    #![proptest_config(property(file!(), 3000))]

    /// Whatever is accepted holds together: axes are there and of the stream's length, spans lie inside their axis.
    #[test]
    fn damage_is_refused_or_still_holds_together(family in any::<Index>(), all_damage in prop::collection::vec(damage(), 1..4)) {
        let whole = MODELS[family.index(MODELS.len())].clone();
        let model = all_damage.iter().fold(whole, apply);
        let Ok(rules) = model.rules() else { return Ok(()) };
        prop_assert_eq!(rules.parts.len(), model.tensors.len());
        for (tensor, part) in model.tensors.iter().zip(&rules.parts) {
            let axes = tensor.shape.axes();
            if let StreamRole::Reader { axis, fold } | StreamRole::Head { axis, fold } = part.stream {
                prop_assert_eq!(axes[axis], rules.hidden);
                let is_norm = matches!(rules.parts[fold].stream, StreamRole::Norm { .. });
                prop_assert!(is_norm, "{}", tensor.name);
            }
            if let StreamRole::Embedding { axis } | StreamRole::Writer { axis } = part.stream {
                prop_assert_eq!(axes[axis], rules.hidden);
            }
            if let StreamRole::NormBias { of } = part.stream {
                let is_norm = matches!(rules.parts[of].stream, StreamRole::Norm { .. });
                prop_assert!(is_norm, "{}", tensor.name);
            }
            if matches!(rules.stream, StreamVerdict::Refused { .. }) {
                prop_assert!(matches!(part.stream, StreamRole::Untouched | StreamRole::Mtp));
            }
            let (Some(head), HeadsVerdict::Exact(heads)) = (part.heads, &rules.heads) else { continue };
            prop_assert!(heads.spans(&head).iter().all(|s| s.at + heads.length <= axes[head.axis] && s.matrix < heads.matrices));
        }
    }
}
