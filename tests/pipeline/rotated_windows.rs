//! A rotated conversion gives the same bytes whatever its windows are, and in whatever order they come.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use quantoscope_core::format::Container;
use quantoscope_core::plan::convert;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::rotation::RotationOptions;
use quantoscope_core::schedule::Budget;
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{MemoryModel, run, run_shuffled};
use quantoscope_tests::models::{Rng, Tensor, safetensors};
use quantoscope_tests::property::property;
use std::cell::Cell;
use std::path::Path;

/// Stacked experts, spans of values in columns and rows, norms that subtract a mean, gains along rows.
const FAMILIES: [&str; 6] = ["gpt_oss", "qwen3_moe", "llama", "phi3", "gpt2", "qwen3_5"];
/// Lengths of the stream of models made here, whose rows and columns are long enough to be cut.
const LENGTHS: [u64; 8] = [24, 36, 64, 80, 96, 256, 280, 576];

fn fixture(family: &str) -> MemoryModel {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families").join(family);
    let file =
        |name: &str| (name.to_string(), std::fs::read(folder.join(name)).expect("a file of the model"));
    MemoryModel::directory([file("model.safetensors"), file("config.json")].into()).expect("a sound model")
}

/// A Llama of one layer with a stream of `hidden`, heads of 8, and a wide feed-forward part.
pub(crate) fn made(hidden: u64) -> MemoryModel {
    const WIDE: u64 = 1100;
    let rng = &mut Rng(hidden);
    let mut tensor = |name: &str, shape: &[u64]| Tensor::random(name, DType::BF16, shape, rng);
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let tensors = [
        tensor("model.embed_tokens.weight", &[50, hidden]),
        tensor("lm_head.weight", &[50, hidden]),
        tensor("model.norm.weight", &[hidden]),
        tensor(&layer("input_layernorm"), &[hidden]),
        tensor(&layer("post_attention_layernorm"), &[hidden]),
        tensor(&layer("mlp.up_proj"), &[WIDE, hidden]),
        tensor(&layer("mlp.gate_proj"), &[WIDE, hidden]),
        tensor(&layer("mlp.down_proj"), &[hidden, WIDE]),
        tensor(&layer("self_attn.q_proj"), &[80 * 8, hidden]),
        tensor(&layer("self_attn.k_proj"), &[40 * 8, hidden]),
        tensor(&layer("self_attn.v_proj"), &[40 * 8, hidden]),
        tensor(&layer("self_attn.o_proj"), &[hidden, 80 * 8]),
    ];
    let config = format!(
        r#"{{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":{hidden},"intermediate_size":{WIDE},
        "num_hidden_layers":1,"num_attention_heads":80,"num_key_value_heads":40,"head_dim":8,"vocab_size":50,
        "rms_norm_eps":1e-6,"rope_theta":10000.0,"tie_word_embeddings":false,"hidden_act":"silu"}}"#
    );
    let files = [
        ("model.safetensors".to_string(), safetensors(&tensors)),
        ("config.json".to_string(), config.into()),
    ];
    MemoryModel::directory(files.into()).expect("a sound model")
}

#[test]
fn windows_do_not_matter() {
    // How many runs were compared, and how many of them had other windows.
    let (compared, cut) = (Cell::new(0), Cell::new(0));
    let case =
        (0..FAMILIES.len() + LENGTHS.len(), 0..3_usize, any::<u64>(), any::<u64>(), 15..24_u32, 1..4_u32);
    let config = property(file!(), 60);
    let tried = TestRunner::new(config).run(&case, |(which, options, seed, order, memory, workers)| {
        let world = FAMILIES.get(which).map_or_else(|| made(LENGTHS[which - FAMILIES.len()]), |f| fixture(f));
        let options =
            RotationOptions::parse(["quarot", "r2", "quarot,r2"][options], seed).expect("rotation options");
        let recipe =
            Recipe { rotate: Some(options), ..Recipe::new(Container::Safetensors, Some(DType::F32)) };
        let plan = match convert::plan(&world.checkpoint, &recipe, None, false) {
            Ok(plan) => plan,
            Err(e) => {
                // What is not exact for a family is refused, which other tests hold.
                prop_assert_eq!(e.code(), Code::UnsupportedRotation);
                return Ok(());
            }
        };
        let first = run(&plan, &[&world], Budget { memory: 1 << 30, workers: 1 }).expect("a run");
        match run_shuffled(&plan, &[&world], Budget { memory: 1 << memory, workers }, Some(order)) {
            Ok(again) => {
                prop_assert!(again.files == first.files);
                compared.set(compared.get() + 1);
                cut.set(cut.get() + usize::from(again.jobs > first.jobs));
            }
            Err(e) => prop_assert_eq!(e.code(), Code::MemoryBudget),
        }
        Ok(())
    });
    tried.expect("the same bytes");
    assert!(compared.get() >= 12 && cut.get() >= 5, "{compared:?} compared, {cut:?} with other windows");
}
