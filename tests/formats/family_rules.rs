//! The rules of families: what core says of every fixture is what was measured, in both layouts and under every prefix.

use crate::families::{axes, folders, json};
use quantoscope_core::bytes::ByteRange;
use quantoscope_core::model::family::{
    HeadSide, HeadsVerdict, NormForm, RotationRoles, RotationRules, StreamRole, StreamVerdict, ValueHeads,
    known, rules,
};
use quantoscope_core::tensor::{Shape, TensorInfo};
use quantoscope_core::{DType, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// A family's configuration and tensors, without their bytes.
#[derive(Clone)]
pub(crate) struct FixtureModel {
    pub config: Vec<u8>,
    pub tensors: Vec<TensorInfo>,
}

pub(crate) fn tensor(name: &str, shape: &[u64]) -> TensorInfo {
    let shape = Shape::new(shape).expect("a small shape");
    let bytes = ByteRange { start: 0, end: shape.numel() * 2 };
    TensorInfo { name: name.into(), dtype: DType::BF16, shape, file: 0, bytes, packed: None }
}

impl FixtureModel {
    /// Of entries of `rules.json`.
    fn of<'a>(config: &[u8], entries: impl Iterator<Item = (&'a str, &'a Value)>) -> FixtureModel {
        let real = entries.filter(|(_, e)| e["r1"].get("made_from").is_none());
        FixtureModel { config: config.to_vec(), tensors: real.map(|(n, e)| tensor(n, &axes(e))).collect() }
    }

    /// The fixture of this name, in the layout of files.
    pub(crate) fn fixture(family: &str) -> FixtureModel {
        let folder = folders().into_iter().find(|f| f.ends_with(family)).expect("a fixture");
        let config = std::fs::read(folder.join("config.json")).expect("a configuration");
        FixtureModel::of(&config, entries(&json(&folder.join("rules.json")), "tensors"))
    }

    pub(crate) fn rules(&self) -> Result<RotationRules> {
        rules(Some(&self.config), &self.tensors)
    }

    pub(crate) fn with(mut self, name: &str, shape: &[u64]) -> FixtureModel {
        self.tensors.push(tensor(name, shape));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> FixtureModel {
        let before = self.tensors.len();
        self.tensors.retain(|t| t.name != name);
        assert!(self.tensors.len() < before, "there is no {name}");
        self
    }

    /// With `value` under `key`, in a nested configuration where there is one.
    pub(crate) fn saying(mut self, key: &str, value: Value) -> FixtureModel {
        let mut config: Value = serde_json::from_slice(&self.config).expect("JSON");
        let nested = config.get("text_config").is_some();
        let inner = if nested { &mut config["text_config"] } else { &mut config };
        inner[key] = value;
        self.config = config.to_string().into_bytes();
        self
    }

    pub(crate) fn part(&self, name: &str) -> RotationRoles {
        let index = self.tensors.iter().position(|t| t.name == name).expect(name);
        self.rules().expect("rules").parts[index]
    }
}

fn entries<'a>(rules: &'a Value, section: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    rules[section].as_object().into_iter().flatten().map(|(n, e)| (n.as_str(), e))
}

/// What the other layout has other names for.
fn is_replaced(name: &str) -> bool {
    let experts =
        name.split_once(".experts.").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()));
    experts || name.contains(".block_sparse_moe.") || name == "embed_out.weight"
}

/// A part in the words of `rules.json`.
fn stream_in_words(part: StreamRole, name: impl Fn(usize) -> String) -> Value {
    use serde_json::json;
    match part {
        StreamRole::Untouched => json!({"side": "untouched"}),
        StreamRole::Embedding { axis } => json!({"side": "embedding", "axis": axis}),
        StreamRole::Writer { axis } => json!({"side": "writer", "axis": axis}),
        StreamRole::Reader { axis, fold } => json!({"side": "reader", "axis": axis, "fold": name(fold)}),
        StreamRole::Head { axis, fold } => json!({"side": "head", "axis": axis, "fold": name(fold)}),
        StreamRole::Norm { form } => {
            let words = if form == NormForm::Gain { "w" } else { "1+w" };
            json!({"side": "norm", "form": words, "neutral": form.neutral() as u64})
        }
        StreamRole::NormBias { of } => json!({"side": "norm_bias", "of": name(of)}),
        StreamRole::Mtp => json!({"side": "more_tokens"}),
    }
}

fn heads_in_words(part: &RotationRoles, heads: &HeadsVerdict) -> Value {
    let (Some(part), HeadsVerdict::Exact(heads)) = (part.heads, heads) else { return Value::Null };
    let side = if part.side == HeadSide::VProj { "writer" } else { "reader" };
    let spans: Vec<(u64, u32)> = heads.spans(&part).iter().map(|s| (s.at, s.matrix)).collect();
    serde_json::json!({"side": side, "axis": part.axis, "spans": spans})
}

fn verdicts_agree(ours: &RotationRules, expected: &Value) {
    let r1 = match &ours.stream {
        StreamVerdict::Any => serde_json::json!({"exact": true, "rotation": "any"}),
        StreamVerdict::FixesOnes => serde_json::json!({"exact": true, "rotation": "fixes_ones"}),
        StreamVerdict::Refused { because, blockers } => {
            serde_json::json!({"exact": false, "because": because, "blockers": blockers})
        }
    };
    assert_eq!(r1, expected["r1"], "{}", expected["family"]);
    let r2 = match &ours.heads {
        HeadsVerdict::Exact(ValueHeads { length, matrices, .. }) => {
            serde_json::json!({"exact": true, "length": length, "rotations": matrices})
        }
        HeadsVerdict::Refused { because } => serde_json::json!({"exact": false, "because": because}),
    };
    assert_eq!(r2, expected["r2"], "{}", expected["family"]);
    assert_eq!(ours.hidden, expected["hidden_size"]);
    assert_eq!(ours.tied, expected["tied"], "{}", expected["family"]);
}

/// Everything that core says of `model` is what these entries say.
fn agree(model: &FixtureModel, expected: &Value, listed: &BTreeMap<&str, &Value>) {
    let ours = model.rules().unwrap_or_else(|e| panic!("{}: {e}", expected["family"]));
    verdicts_agree(&ours, expected);
    let name = |i: usize| model.tensors[i].name.to_string();
    assert_eq!(ours.parts.len(), model.tensors.len());
    for (tensor, part) in model.tensors.iter().zip(&ours.parts) {
        let entry = listed[tensor.name.as_str()];
        // Where no rotation is exact, no part is listed: everything stays.
        let untouched = serde_json::json!({"side": "untouched"});
        let stream = entry.get("r1").unwrap_or(&untouched);
        let context = format!("{} of {}", tensor.name, expected["family"]);
        assert_eq!(&stream_in_words(part.stream, name), stream, "{context}");
        if let Some(layer) = part.heads.map(|h| h.layer) {
            assert!(tensor.name.contains(&format!(".{layer}.")), "{context} is of layer {layer}");
        }
        assert_eq!(&heads_in_words(part, &ours.heads), entry.get("r2").unwrap_or(&Value::Null), "{context}");
    }
    let made: Vec<_> = listed.iter().filter(|(_, e)| e["r1"].get("made_from").is_some()).collect();
    assert_eq!(made.len(), usize::from(ours.untied_head.is_some()), "{}", expected["family"]);
    for (head, entry) in made {
        let ours = ours.untied_head.as_ref().expect("a made head");
        assert_eq!(ours.name, **head);
        assert_eq!(name(ours.source), entry["r1"]["made_from"]);
        assert_eq!(name(ours.fold), entry["r1"]["fold"]);
    }
}

#[test]
fn every_fixture_has_the_parts_that_were_measured() {
    let (mut layouts, mut families) = ([0, 0], Vec::new());
    for folder in folders() {
        let config = std::fs::read(folder.join("config.json")).expect("a configuration");
        let expected = json(&folder.join("rules.json"));
        let mut listed: BTreeMap<&str, &Value> = entries(&expected, "tensors").collect();
        let model = FixtureModel::of(&config, listed.iter().map(|(n, e)| (*n, *e)));
        agree(&model, &expected, &listed);
        families.push(model.rules().expect("rules").family);
        layouts[0] += 1;
        if expected["tensors_in_memory"].is_object() {
            listed.retain(|n, _| !is_replaced(n));
            listed.extend(entries(&expected, "tensors_in_memory"));
            agree(&FixtureModel::of(&config, listed.iter().map(|(n, e)| (*n, *e))), &expected, &listed);
            layouts[1] += 1;
        }
    }
    assert_eq!(layouts, [42, 10]);
    // No family is known that was not measured. Cohere 2 has the modules of Cohere.
    for name in known().filter(|n| *n != "cohere2") {
        assert!(families.contains(&name), "{name}");
    }
}

/// Renames what begins so.
fn moved(model: &FixtureModel, from: &str, to: &str) -> FixtureModel {
    let mut model = model.clone();
    for tensor in &mut model.tensors {
        if let Some(rest) = tensor.name.strip_prefix(from) {
            tensor.name = format!("{to}{rest}").into();
        }
    }
    model
}

#[test]
fn every_published_prefix_is_known() {
    for (family, from, to) in [
        ("llama", "model.", "model.language_model."),
        ("llama_tied", "model.", "language_model.model."),
        ("qwen3_moe", "model.", ""),
        ("qwen3_5", "model.language_model.", "model."),
        ("gpt2", "transformer.", ""),
        ("gpt_neox", "gpt_neox.", ""),
        ("opt", "model.", ""),
        ("falcon", "transformer.", ""),
    ] {
        let model = FixtureModel::fixture(family);
        let (ours, other) = (model.rules().expect("rules"), moved(&model, from, to).rules().expect("rules"));
        assert_eq!(ours.parts, other.parts, "{family}");
        assert_eq!(ours.stream, other.stream, "{family}");
    }
    // The head of a nested model is nested too.
    let nested = moved(&FixtureModel::fixture("llama_tied"), "model.", "language_model.model.");
    let made = nested.rules().expect("rules").untied_head.expect("a head");
    assert_eq!(made.name, "language_model.lm_head.weight");
    let nested = moved(
        &moved(&FixtureModel::fixture("llama"), "model.", "language_model.model."),
        "lm_head",
        "language_model.lm_head",
    );
    assert!(matches!(nested.part("language_model.lm_head.weight").stream, StreamRole::Head { axis: 1, .. }));
}

#[test]
fn buffers_and_masks_stay_by_name() {
    // Each has the hidden size on an axis.
    for (family, name, shape) in [
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq", &[24][..]),
        ("gpt2", "transformer.h.1.attn.bias", &[1, 1, 24, 24]),
        ("gpt2", "transformer.h.1.attn.masked_bias", &[]),
        ("gpt_neox", "gpt_neox.layers.0.attention.bias", &[1, 1, 24, 24]),
        ("gpt_neox", "gpt_neox.layers.0.attention.rotary_emb.inv_freq", &[24]),
    ] {
        let part = FixtureModel::fixture(family).with(name, shape).part(name);
        assert_eq!(part, RotationRoles { stream: StreamRole::Untouched, heads: None }, "{family} {name}");
    }
    // Nothing that could lie on the stream or on the values: no rule is needed.
    let other = "model.layers.0.self_attn.counter";
    assert_eq!(FixtureModel::fixture("llama").with(other, &[5]).part(other).stream, StreamRole::Untouched);
}

/// Sizes tell nothing: another axis may well be as long as the stream.
#[test]
fn what_stays_is_named_whatever_its_size() {
    let mut tried = 0;
    for folder in folders() {
        let model = FixtureModel::fixture(folder.file_name().and_then(|n| n.to_str()).expect("a name"));
        let ours = model.rules().expect("rules");
        for (i, part) in ours.parts.iter().enumerate() {
            if *part == (RotationRoles { stream: StreamRole::Untouched, heads: None }) {
                let name = model.tensors[i].name.clone();
                let mut other = model.clone();
                other.tensors[i] = tensor(&name, &[ours.hidden]);
                assert_eq!(other.part(&name), *part, "{name} of {}", folder.display());
                tried += 1;
            }
        }
    }
    assert!(tried > 200, "{tried}");
}

#[test]
fn predictors_of_further_tokens_are_told_apart() {
    for (family, name) in [
        ("qwen3_5", "mtp.fc.weight"),
        ("qwen3_next", "mtp.layers.0.self_attn.q_proj.weight"),
        ("deepseek_v3", "model.layers.2.eh_proj.weight"),
        ("deepseek_v3", "model.layers.2.self_attn.kv_b_proj.weight"),
        ("glm4_moe", "model.layers.2.input_layernorm.weight"),
    ] {
        let part = FixtureModel::fixture(family).with(name, &[24, 48]).part(name);
        assert_eq!(part, RotationRoles { stream: StreamRole::Mtp, heads: None }, "{family} {name}");
    }
    // Families without one have no further layers, not even whole ones.
    let mut model = FixtureModel::fixture("llama");
    let last = model.tensors.clone().into_iter().filter(|t| t.name.contains(".layers.1."));
    let further = last.map(|t| TensorInfo { name: t.name.replace(".1.", ".2.").into(), ..t });
    model.tensors.extend(further);
    let error = model.rules().expect_err("a layer too many");
    assert!(error.detail().tensor.as_deref().is_some_and(|t| t.starts_with("model.layers.2.")), "{error}");
}

#[test]
fn a_head_beside_a_tied_embedding_is_no_made_one() {
    let model = FixtureModel::fixture("llama_tied").with("lm_head.weight", &[64, 36]);
    let rules = model.rules().expect("rules");
    assert!(rules.tied && rules.untied_head.is_none());
    assert!(matches!(model.part("lm_head.weight").stream, StreamRole::Head { axis: 1, .. }));
    // Without a word about it the file decides, and the family where the file has a head.
    let silent = FixtureModel::fixture("llama_tied").saying("tie_word_embeddings", Value::Null);
    assert!(silent.rules().expect("rules").untied_head.is_some());
    let silent = FixtureModel::fixture("gpt2")
        .with("lm_head.weight", &[64, 24])
        .saying("tie_word_embeddings", Value::Null);
    assert!(silent.rules().expect("rules").tied);
}

#[test]
fn biases_and_shapes_of_real_variants_have_their_parts() {
    // DeepSeek without a latent space for queries.
    let lite = FixtureModel::fixture("deepseek_v2")
        .with("model.layers.0.self_attn.q_proj.weight", &[32, 24])
        .without("model.layers.0.self_attn.q_a_proj.weight")
        .without("model.layers.0.self_attn.q_b_proj.weight");
    assert!(matches!(
        lite.part("model.layers.0.self_attn.q_proj.weight").stream,
        StreamRole::Reader { axis: 1, .. }
    ));
    // Feed-forward parts without experts among those with them, and norms of queries that a flag adds.
    for (family, name, shape, part) in [
        ("qwen2_moe", "model.layers.0.mlp.down_proj.weight", &[24, 20][..], StreamRole::Writer { axis: 0 }),
        ("qwen3_next", "model.layers.1.mlp.down_proj.weight", &[24, 20], StreamRole::Writer { axis: 0 }),
        ("cohere", "model.layers.0.self_attn.q_norm.weight", &[6, 24], StreamRole::Untouched),
        ("phi", "model.layers.0.self_attn.k_layernorm.weight", &[24], StreamRole::Untouched),
        ("gpt_oss", "model.layers.0.mlp.experts.down_proj_bias", &[4, 24], StreamRole::Writer { axis: 1 }),
    ] {
        let mut model = FixtureModel::fixture(family);
        model.tensors.retain(|t| t.name != name);
        assert_eq!(model.with(name, shape).part(name).stream, part, "{family} {name}");
    }
    // A bias of the head moves logits and nothing else.
    let biased = FixtureModel::fixture("llama").with("lm_head.bias", &[24]);
    assert_eq!(biased.part("lm_head.bias").stream, StreamRole::Untouched);
}
