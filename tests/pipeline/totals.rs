//! What a plan adds up to is what the files have.

use crate::support::{foreign, gguf, make, recipes};
use quantoscope_core::DType;
use quantoscope_core::format::Container;
use quantoscope_core::plan::convert;
use quantoscope_core::recipe::Recipe;
use quantoscope_tests::memory::MemoryModel;
use quantoscope_tests::models::{CONFIG, Rng, Tensor, llama, safetensors};

fn world(tied: bool) -> MemoryModel {
    let model = safetensors(&llama(DType::BF16, tied, 11));
    let files = [("model.safetensors".to_string(), model), ("config.json".to_string(), CONFIG.into())];
    MemoryModel::directory(files.into()).expect("a sound directory")
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
        }
    }
}

/// Counted by hand for a Llama of two layers with a head of its own: 2 x 7 matrices, 5 norms, embedding and head.
#[test]
fn totals_count_what_the_recipe_quantizes() {
    let world = world(false);
    assert_eq!(world.checkpoint.tensors.len(), 21);
    for (recipe, quantized, kept) in [
        (gguf(DType::Q8_0), 14, 7),
        (Recipe { pure: true, ..gguf(DType::Q8_0) }, 16, 5),
        (gguf(DType::F16), 0, 21),
    ] {
        let plan = convert::plan(&world.checkpoint, &recipe, None, true).expect("a plan");
        let totals = plan.conversion.expect("a conversion").totals;
        assert_eq!((totals.planned_quantized, totals.kept), (quantized, kept), "{recipe:?}");
    }
}

/// One matrix of 64 x 32 F32 values, 8192 bytes, becomes blocks of 18 bytes for 32 values: 1152 bytes, 4.5 bits a weight.
#[test]
fn ratio_and_bits_per_weight_are_those_of_the_files() {
    let world = MemoryModel::safetensors(&[Tensor::random("a.weight", DType::F32, &[64, 32], &mut Rng(4))]);
    let (plan, made) = make(&world, &gguf(DType::Q4_0));
    let totals = plan.conversion.as_ref().expect("a conversion").totals;
    assert_eq!(totals.bits_per_weight, Some(4.5));
    assert_eq!(totals.ratio, Some(8192.0 / made.files[0].len() as f64));
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
    let world = MemoryModel::safetensors(&[Tensor::raw("empty.weight", DType::F32, &[0, 32], Vec::new())]);
    let recipe = Recipe::new(Container::Gguf, Some(DType::Q4_0));
    let plan = convert::plan(&world.checkpoint, &recipe, None, true).expect("a plan");
    let totals = plan.conversion.expect("a conversion").totals;
    assert_eq!((totals.ratio, totals.bits_per_weight), (None, None));
    let json = serde_json::to_string(&totals).expect("JSON");
    assert!(!json.contains("ratio") && !json.contains("bits_per_weight"), "{json}");
}

#[test]
fn embeddings_and_the_head_keep_their_type_unless_pure() {
    let world = world(false);
    for (pure, want) in [(false, DType::BF16), (true, DType::Q8_0)] {
        let recipe = Recipe { pure, ..foreign(DType::Q8_0) };
        let (plan, _) = make(&world, &recipe);
        let of = |name: &str| plan.outputs.iter().find(|o| o.name == name).map(|o| o.dtype);
        assert_eq!(of("model.embed_tokens.weight"), Some(want));
        assert_eq!(of("lm_head.weight"), Some(want));
        assert_eq!(of("model.norm.weight"), Some(DType::BF16), "never a norm");
        assert_eq!(of("model.layers.0.mlp.down_proj.weight"), Some(DType::Q8_0));
    }
}
