//! Tensor names: both maps are inverse for every name of the fixtures, and give what llama.cpp's converter gives.

use crate::families::{folders, json};
use quantoscope_core::model::arch::module::Module;
use quantoscope_core::model::arch::{self, Arch};
use quantoscope_core::model::tensor_id::{TensorId, TensorPart};
use quantoscope_core::tensor::Metadata;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Names that a later row of the same module has: they are read, and written under the name of the first row.
const ALTERNATIVES: &[(&str, &str)] = &[
    ("falcon", "transformer.h.3.input_layernorm.bias"),
    ("falcon", "transformer.h.3.input_layernorm.weight"),
    ("t5_encoder", "encoder.block.3.layer.1.DenseReluDense.wi.weight"),
];

fn names() -> Value {
    json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/names/tensor_names.json"))
}

fn filled(name: &str) -> String {
    name.replace("{b}", "3").replace("{e}", "7").replace("{h}", "7")
}

/// Whether one of the architecture's prefixes gives `name` for `id`.
fn writes(arch: &Arch, id: TensorId, name: &str) -> bool {
    arch.prefixes.iter().any(|p| arch.to_hf_under(*p, id).as_deref() == Some(name))
}

/// Parses `name` and writes it again; returns whether the name is the usual one.
fn round_trip(arch: &Arch, name: &str) -> (TensorId, bool) {
    let id = arch.parse_hf(name).unwrap_or_else(|| panic!("{}: {name} is not in the map", arch.name));
    let usual = arch.to_hf(id).unwrap_or_else(|| panic!("{}: {id:?} has no name", arch.name));
    assert_eq!(arch.parse_hf(&usual), Some(id), "{}: {name}", arch.name);
    (id, writes(arch, id, name))
}

#[test]
fn names_of_the_converter_round_trip_in_both_directions() {
    let (mut seen, mut alternatives) = (0, BTreeSet::new());
    for entry in names()["architectures"].as_array().expect("architectures") {
        let [name, gguf] = ["arch", "gguf"].map(|key| entry[key].as_str().expect("a name"));
        let arch = arch::all().find(|a| a.name == name && a.gguf == Some(gguf));
        let arch = arch.unwrap_or_else(|| panic!("no architecture {name} of {gguf}"));
        for (hf, theirs) in entry["names"].as_object().expect("names") {
            let hf = filled(hf);
            let theirs: Vec<String> = match theirs {
                Value::String(one) => vec![filled(one)],
                many => many.as_array().expect("names").iter().map(|n| filled(n.as_str().unwrap())).collect(),
            };
            seen += 1;
            if theirs.is_empty() {
                assert!(arch.parse_hf(&hf).is_none_or(|id| arch.to_gguf(id).is_empty()), "{name}: {hf}");
                continue;
            }
            let (id, usual) = round_trip(arch, &hf);
            if !usual {
                alternatives.insert((name.to_string(), hf.clone()));
            }
            assert_eq!(arch.to_gguf(id), theirs, "{name}: {hf}");
            if let [one] = &theirs[..] {
                assert_eq!(arch.parse_gguf(one), Some(TensorId { expert: None, ..id }), "{name}: {hf}");
            }
        }
    }
    let known: BTreeSet<_> = ALTERNATIVES.iter().map(|(a, n)| (a.to_string(), n.to_string())).collect();
    assert_eq!(alternatives, known);
    assert!(seen > 900, "{seen}");
}

#[test]
fn names_of_every_fixture_round_trip() {
    let mut seen = 0;
    for folder in folders() {
        let config = std::fs::read(folder.join("config.json")).expect("a configuration");
        let arch = arch::of_model(&Metadata::default(), Some(&config));
        let rules = json(&folder.join("rules.json"));
        for section in ["tensors", "tensors_in_memory"] {
            let Some(tensors) = rules[section].as_object() else { continue };
            // The tower is no part of the decoder, and stays out of its GGUF.
            for name in tensors.keys().filter(|n| !n.contains("visual.")) {
                let (id, usual) = round_trip(arch, name);
                // In memory some are named after another family.
                assert!(usual || section == "tensors_in_memory", "{}: {name}", arch.name);
                seen += usize::from(id.module != Module::AttnMask);
            }
        }
    }
    assert!(seen > 1200, "{seen}");
}

#[test]
fn every_gguf_name_of_a_module_is_parsed() {
    let mut names = BTreeSet::new();
    for &module in Module::ALL {
        let [gguf] = module.gguf() else { continue };
        let layer = gguf.contains("blk.").then_some(3);
        for part in [TensorPart::Weight, TensorPart::Bias, TensorPart::Bare] {
            let id = TensorId { layer, module, expert: None, part };
            let [name] = &arch::GENERIC.to_gguf(id)[..] else { panic!("{id:?} has one name") };
            assert_eq!(TensorId::parse_gguf(name), Some(id), "{name}");
            assert!(names.insert(name.clone()), "{name} names two modules");
        }
    }
    for none in ["", "blk", "blk.", "blk.3", "blk.3.", "blk.03.attn_q.weight", "blk.3.attn_q.weight.x"] {
        assert_eq!(TensorId::parse_gguf(none), None, "{none}");
    }
}

/// A name written for a tensor is read back as that tensor, for every row of every architecture.
#[test]
fn every_row_of_an_architecture_is_read_back() {
    for arch in arch::all() {
        for row in arch.rows() {
            let expert = row.tail.contains("{expert}").then_some(5);
            let layer = (!row.folder.is_empty()).then_some(2);
            for part in [TensorPart::Weight, TensorPart::Bias, TensorPart::Bare] {
                let id = TensorId { layer, module: row.module, expert, part };
                let Some(name) = arch.to_hf(id) else { continue };
                assert_eq!(arch.parse_hf(&name), Some(id), "{}: {name}", arch.name);
            }
        }
    }
}

#[test]
fn the_names_of_an_architecture_decide_where_names_are_shared() {
    let gguf = |model_type: &str, name: &str| {
        let arch = arch::find(model_type).expect("an architecture");
        arch.gguf_name(name).map(|n| n.name)
    };
    let norm = "model.layers.0.post_attention_layernorm.weight";
    for (model_type, name) in [
        ("llama", "blk.0.ffn_norm.weight"),
        ("gemma2", "blk.0.post_attention_norm.weight"),
        ("glm4", "blk.0.ffn_norm.weight"),
        ("gpt_oss", "blk.0.post_attention_norm.weight"),
    ] {
        assert_eq!(gguf(model_type, norm).as_deref(), Some(name), "{model_type}");
    }
    assert_eq!(gguf("phi", "model.layers.1.mlp.fc2.weight").as_deref(), Some("blk.1.ffn_down.weight"));
    // What the architecture has no row for is looked up among the names of most decoders.
    assert_eq!(gguf("phi", "model.layers.1.mlp.up_proj.weight").as_deref(), Some("blk.1.ffn_up.weight"));
}
