//! What a plan adds up to is what the files have.

use crate::support::{make, recipes};
use quantoscope_core::DType;
use quantoscope_core::format::Container;
use quantoscope_core::plan::convert;
use quantoscope_core::recipe::Recipe;
use quantoscope_tests::memory::World;
use quantoscope_tests::models::{CONFIG, Tensor, llama, safetensors};

fn world(tied: bool) -> World {
    let model = safetensors(&llama(DType::BF16, tied, 11));
    let files = [("model.safetensors".to_string(), model), ("config.json".to_string(), CONFIG.into())];
    World::directory(files.into()).expect("a sound directory")
}

#[test]
fn planned_bytes_are_written_bytes_tied_and_untied() {
    for tied in [false, true] {
        let world = world(tied);
        for recipe in recipes() {
            let (plan, made) = make(&world, &recipe);
            let totals = plan.conversion.as_ref().expect("a conversion").totals;
            let written: u64 = made.files.iter().map(|f| f.len() as u64).sum();
            assert_eq!(totals.total_bytes_out, written, "{recipe:?}");
            let spans: u64 = world.checkpoint.tensors.iter().map(|t| t.bytes.len()).sum();
            assert_eq!(totals.total_bytes_in, spans);
            assert_eq!(totals.source_file_bytes, world.checkpoint.files.iter().map(|f| f.len).sum::<u64>());
            assert_eq!(totals.planned_quantized + totals.kept, world.checkpoint.tensors.len() as u64);
            assert_eq!(totals.ratio, Some(spans as f64 / written as f64));
        }
    }
}

/// Every tensor of the source is an output, once.
#[test]
fn every_tensor_is_accounted_for() {
    for recipe in recipes() {
        let world = world(false);
        let (plan, _) = make(&world, &recipe);
        let mut source: Vec<&str> = world.checkpoint.tensors.iter().map(|t| t.name.as_str()).collect();
        let mut made: Vec<&str> = plan.outputs.iter().map(|o| o.name.as_str()).collect();
        source.sort_unstable();
        made.sort_unstable();
        assert_eq!(source, made);
        assert!(plan.outputs.iter().all(|o| !o.reason.code.is_empty() && !o.reason.text.is_empty()));
    }
}

#[test]
fn what_cannot_be_computed_is_absent() {
    let world = World::safetensors(&[Tensor::raw("empty.weight", DType::F32, &[0, 32], Vec::new())]);
    let recipe = Recipe::new(Container::Gguf, Some(DType::Q4_0));
    let plan = convert::plan(&world.checkpoint, &recipe, true).expect("a plan");
    let totals = plan.conversion.expect("a conversion").totals;
    assert_eq!((totals.ratio, totals.bits_per_weight), (None, None));
    let json = serde_json::to_string(&totals).expect("JSON");
    assert!(!json.contains("ratio") && !json.contains("bits_per_weight"), "{json}");
}

#[test]
fn embeddings_and_the_head_keep_their_type_unless_pure() {
    let world = world(false);
    for (pure, want) in [(false, DType::BF16), (true, DType::Q8_0)] {
        let recipe = Recipe { pure, ..Recipe::new(Container::Gguf, Some(DType::Q8_0)) };
        let (plan, _) = make(&world, &recipe);
        let of = |name: &str| plan.outputs.iter().find(|o| o.name == name).map(|o| o.dtype);
        assert_eq!(of("model.embed_tokens.weight"), Some(want));
        assert_eq!(of("lm_head.weight"), Some(want));
        assert_eq!(of("model.norm.weight"), Some(DType::BF16), "never a norm");
        assert_eq!(of("model.layers.0.mlp.down_proj.weight"), Some(DType::Q8_0));
    }
}
