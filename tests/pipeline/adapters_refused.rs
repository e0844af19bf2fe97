//! What has no exact counter-rotation is refused by name, and hostile adapters are.

use crate::adapters::{CONFIG, open, plan};
use crate::rotated::{folder, plan as rotation, rotation_options, world};
use quantoscope_core::error::Error;
use quantoscope_core::format::Container;
use quantoscope_core::plan::lora;
use quantoscope_core::plan::replay::recorded;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::schedule::Budget;
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{MemoryModel, run};
use quantoscope_tests::models::{Rng, Tensor};

const Q: &str = "base_model.model.model.layers.0.self_attn.q_proj";

fn tensor(name: &str, shape: &[u64]) -> Tensor {
    Tensor::random(name, DType::F32, shape, &mut Rng(3))
}

/// An adapter of the first queries of Mixtral's fixture: 24 inputs, 16 outputs.
fn sound() -> Vec<Tensor> {
    vec![tensor(&format!("{Q}.lora_A.weight"), &[2, 24]), tensor(&format!("{Q}.lora_B.weight"), &[16, 2])]
}

#[track_caller]
fn refused(family: &str, tensors: &[Tensor], text: &str) -> Error {
    let error =
        plan(&world(&folder(family)), &open(tensors), rotation_options(text), None).expect_err("a refusal");
    assert_eq!(error.code(), Code::UnsupportedRotation, "{error}");
    error
}

#[test]
fn what_is_not_exact_is_refused_by_name() {
    plan(&world(&folder("mixtral")), &open(&sound()), rotation_options("quarot,r2"), None)
        .expect("a sound adapter");
    let more = |name: &str, shape: &[u64]| {
        let mut all = sound();
        all.push(tensor(name, shape));
        all
    };
    let layer = "base_model.model.model.layers.0";
    for (name, shape, why) in [
        // Unknown modules and tensors.
        (format!("{layer}.self_attn.qkv_proj.lora_A.weight"), &[2, 24][..], "no tensor"),
        ("base_model.model.score.weight".into(), &[2, 24], "no tensor"),
        (format!("{Q}.lora_E"), &[2, 1], "no tensor"),
        (format!("{Q}.token_adapter.trainable_tokens_delta"), &[2, 24], "no tensor"),
        ("base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight".into(), &[2, 24], "no tensor"),
        // DoRA.
        (format!("{Q}.lora_magnitude_vector"), &[16], "DoRA"),
        // A norm whose gain is elsewhere.
        (format!("{layer}.input_layernorm.weight"), &[24], "folded"),
        // One kind of module for the other.
        ("base_model.model.model.embed_tokens.lora_A.weight".into(), &[2, 64], "embedding"),
        (format!("{layer}.self_attn.v_proj.lora_embedding_B"), &[8, 2], "embedding"),
        // Shapes.
        (format!("{layer}.self_attn.v_proj.lora_A.weight"), &[2, 23], "shape"),
        (format!("{layer}.self_attn.v_proj.lora_A.weight"), &[24, 2], "shape"),
        (format!("{layer}.self_attn.v_proj.lora_A.weight"), &[24], "shape"),
        (format!("{layer}.self_attn.v_proj.lora_A.weight"), &[2, 24, 1], "shape"),
        (format!("{layer}.self_attn.v_proj.lora_B.weight"), &[24, 2], "shape"),
        ("base_model.model.lm_head.weight".into(), &[64, 25], "shape"),
        // Half of an adapter.
        (format!("{layer}.self_attn.v_proj.lora_A.weight"), &[2, 24], "half"),
        (format!("{layer}.self_attn.v_proj.lora_B.weight"), &[8, 2], "half"),
    ] {
        let error = refused("mixtral", &more(&name, shape), "quarot,r2");
        assert!(error.to_string().contains(why) && error.to_string().contains(&name), "{name}: {error}");
    }
    let ranks =
        [tensor(&format!("{Q}.lora_A.weight"), &[2, 24]), tensor(&format!("{Q}.lora_B.weight"), &[16, 3])];
    assert!(refused("mixtral", &ranks, "quarot").to_string().contains("rank"));
}

/// Tensors beside a rotation are not checked, not even those of DoRA.
#[test]
fn beside_a_rotation_everything_passes() {
    let world = world(&folder("mixtral"));
    let mut tensors = sound();
    tensors.push(tensor(&format!("{Q}.lora_magnitude_vector"), &[16]));
    tensors.push(tensor("base_model.model.model.norm.weight", &[24]));
    let adapter = open(&tensors);
    let plan = plan(&world, &adapter, rotation_options("r2"), None).expect("queries have no part in R2");
    let made = run(&plan, &[&adapter, &world], Budget::default()).expect("a run");
    let again = MemoryModel::file(lora::WEIGHTS, made.files[0].clone()).expect("a sound file");
    for t in &adapter.checkpoint.tensors {
        assert_eq!(again.tensor(&t.name), adapter.tensor(&t.name), "{}", t.name);
    }
    assert!(plan.warnings.iter().any(|w| w.code == "nothing_rotated"));
}

/// Run beside a tied model, an adapter changes embedding or head; merged, both.
#[test]
fn adapters_of_a_tied_table_are_refused() {
    for (name, shape) in [
        ("base_model.model.model.embed_tokens.lora_embedding_A", &[2, 64][..]),
        ("base_model.model.model.embed_tokens.weight", &[64, 36]),
        ("base_model.model.lm_head.lora_A.weight", &[2, 36]),
        ("base_model.model.lm_head.weight", &[64, 36]),
    ] {
        let error = refused("llama_tied", &[tensor(name, shape)], "quarot");
        assert!(error.to_string().contains("in one"), "{error}");
    }
    // Positions are in no head.
    let wpe = [
        tensor("base_model.model.transformer.wpe.lora_embedding_A", &[2, 16]),
        tensor("base_model.model.transformer.wpe.lora_embedding_B", &[24, 2]),
    ];
    let world = world(&folder("gpt2"));
    let prefixed = world.checkpoint.tensors.iter().any(|t| t.name == "transformer.wpe.weight");
    assert!(prefixed);
    plan(&world, &open(&wpe), rotation_options("quarot"), None).expect("positions have one meaning");
}

#[test]
fn nothing_is_rotated_twice_and_records_are_read() {
    let base = world(&folder("mixtral"));
    let options = rotation_options("quarot,r2");
    let of = |plan: &quantoscope_core::plan::Plan, worlds: &[&MemoryModel], name: &str| {
        let made = run(plan, worlds, Budget::default()).expect("a run");
        MemoryModel::file(name, made.files[0].clone()).expect("a sound file")
    };
    let rotated = of(&rotation(&base, options).expect("exact"), &[&base], "model.safetensors");
    assert_eq!(recorded(&rotated.checkpoint).and_then(|r| r.rotate), Some(options));
    assert!(recorded(&base.checkpoint).is_none());
    let original = open(&sound());
    let turned =
        of(&plan(&base, &original, options, None).expect("a plan"), &[&original, &base], lora::WEIGHTS);
    let twice = plan(&base, &turned, options, None).expect_err("twice");
    assert!(twice.to_string().contains("already"), "{twice}");
    let recipe = Recipe { rotate: Some(options), ..Recipe::new(Container::Safetensors, None) };
    let mut checkpoint = rotated.checkpoint.clone();
    checkpoint.config.clone_from(&base.checkpoint.config);
    let onto = lora::plan(&checkpoint, &original.checkpoint, CONFIG, &recipe, &[]).expect_err("rotated");
    assert!(onto.to_string().contains("already"), "{onto}");
}

#[test]
fn values_that_are_no_numbers_are_refused() {
    let base = world(&folder("mixtral"));
    let mut values = vec![0.5; 48];
    values[30] = f32::NAN;
    let all = [Tensor::of(&format!("{Q}.lora_A.weight"), DType::F32, &[2, 24], &values), sound().remove(1)];
    let adapter = open(&all);
    let plan = plan(&base, &adapter, rotation_options("quarot"), None).expect("a plan");
    let error = run(&plan, &[&adapter, &base], Budget::default()).expect_err("NaN");
    assert_eq!((error.code(), error.detail().element), (Code::NonFinite, Some(30)));
}
