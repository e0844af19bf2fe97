//! Rotation of tied models: the type of the head that is made, and heads that are stored although they are tied.

use crate::rotated::{probed, rotation_options};
use quantoscope_core::DType;
use quantoscope_core::format::Container;
use quantoscope_core::plan::rotate::tied_head::{TiedHead, comparison};
use quantoscope_core::plan::{Plan, convert};
use quantoscope_core::recipe::presets::Preset;
use quantoscope_core::recipe::{Override, Recipe};
use quantoscope_core::report::converted;
use quantoscope_core::schedule::Budget;
use quantoscope_tests::memory::{MemoryModel, run};
use quantoscope_tests::models::{Tensor, llama, safetensors};

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

fn world_of(tensors: &[Tensor], tied: &str) -> MemoryModel {
    let config = format!(
        r#"{{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
        "num_hidden_layers": 2, "intermediate_size": 96, "vocab_size": 96{tied}}}"#
    );
    let files = [
        ("model.safetensors".to_string(), safetensors(tensors)),
        ("config.json".to_string(), config.into_bytes()),
    ];
    MemoryModel::directory(files.into()).expect("a sound directory")
}

fn tied_model() -> MemoryModel {
    world_of(&llama(DType::BF16, true, 5), r#", "tie_word_embeddings": true"#)
}

fn plan(world: &MemoryModel, recipe: &Recipe) -> Plan {
    convert::plan(&world.checkpoint, recipe, None, false).expect("a plan")
}

fn dtype(plan: &Plan, name: &str) -> DType {
    plan.outputs.iter().find(|o| o.name == name).expect("the tensor").dtype
}

fn by_preset(preset: Preset) -> Recipe {
    Recipe { preset: Some(preset), ..Recipe::new(Container::Gguf, None) }
}

#[test]
fn untied_tensors_with_a_preset_have_the_type_of_the_tied_tensor() {
    let world = tied_model();
    let mut differs = 0;
    for &preset in Preset::ALL {
        let tied = by_preset(preset);
        let Ok(before) = convert::plan(&world.checkpoint, &tied, None, false) else { continue };
        let after = plan(&world, &Recipe { rotate: Some(rotation_options("quarot")), ..tied });
        let expected = dtype(&before, EMBEDDING);
        assert_eq!([EMBEDDING, HEAD].map(|n| dtype(&after, n)), [expected; 2], "{preset}");
        for output in &before.outputs {
            assert_eq!(dtype(&after, &output.name), output.dtype, "{preset} {}", output.name);
        }
        differs += usize::from(expected != preset.base());
    }
    assert!(differs > 5, "{differs}");
}

#[test]
fn untied_head_named_by_an_option_has_the_type_of_the_option() {
    let world = tied_model();
    let recipe = Recipe { rotate: Some(rotation_options("quarot")), ..by_preset(Preset::Q4_0) };
    let embedding = Recipe { embedding_type: Some(DType::Q5_0), ..recipe.clone() };
    assert_eq!([EMBEDDING, HEAD].map(|n| dtype(&plan(&world, &embedding), n)), [DType::Q5_0; 2]);
    let both = Recipe { output_type: Some(DType::Q5_1), ..embedding };
    assert_eq!([EMBEDDING, HEAD].map(|n| dtype(&plan(&world, &both), n)), [DType::Q5_0, DType::Q5_1]);
    let overridden = Override { pattern: HEAD.into(), dtype: DType::Q4_1 };
    let head = plan(&world, &Recipe { overrides: vec![overridden], ..recipe });
    assert_eq!(dtype(&head, HEAD), DType::Q4_1);
    assert!(head.warnings.iter().all(|w| w.code != "unused_override"), "{:?}", head.warnings);
}

#[test]
fn untying_is_counted_in_bytes_and_not_in_parameters() {
    let world = tied_model();
    let tied = by_preset(Preset::Q8_0);
    let totals = |recipe: &Recipe| plan(&world, recipe).conversion.expect("a conversion").totals;
    let (before, after) =
        (totals(&tied), totals(&Recipe { rotate: Some(rotation_options("quarot")), ..tied.clone() }));
    let head = DType::Q8_0.bytes_for(96 * 64).expect("whole blocks");
    assert_eq!((before.untied_head_bytes, after.untied_head_bytes), (None, Some(head)));
    assert_eq!(after.tensor_bytes_out, before.tensor_bytes_out + head);
    let weights: u64 = world.checkpoint.tensors.iter().map(|t| t.shape.numel()).sum();
    assert_eq!(after.bits_per_weight, Some(after.tensor_bytes_out as f64 / weights as f64 * 8.0));
}

/// A stored head of other values than the embedding's, with and without a word about it in the configuration.
#[test]
fn stored_head_of_a_tied_model_is_kept_and_its_difference_found() {
    let apart = llama(DType::BF16, false, 5);
    let mut alike = llama(DType::BF16, true, 5);
    let embedding = alike.iter().find(|t| t.name == EMBEDDING).expect("the embedding").clone();
    alike.push(Tensor { name: HEAD.into(), ..embedding });
    for (tensors, differs) in [(&apart, true), (&alike, false)] {
        let world = world_of(tensors, r#", "tie_word_embeddings": true"#);
        let recipe =
            Recipe { rotate: Some(rotation_options("quarot")), ..Recipe::new(Container::Safetensors, None) };
        let plan = plan(&world, &recipe);
        let head = plan.outputs.iter().find(|o| o.name == HEAD).expect("the head");
        let source = &world.checkpoint.tensors[head.segments[0].from.tensor as usize];
        assert_eq!(&*source.name, HEAD);
        assert!(plan.warnings.iter().any(|w| w.code == "tied_head_stored"), "{:?}", plan.warnings);
        probed(&world, &plan).expect("the same logits");
        let comparison = comparison(&world.checkpoint, &plan).expect("a comparison");
        let measured = run(&comparison, &[&world, &world], Budget::default()).expect("a run").collected;
        let measured = measured.output(0).expect("measurements");
        let found = TiedHead::of(&world.checkpoint, &comparison, measured).expect("a head");
        assert_eq!((found.head.as_str(), found.embedding.as_str()), (HEAD, EMBEDDING));
        assert_eq!(found.warning().is_some(), differs, "{found:?}");
        assert_eq!(found.differing > found.elements / 2, differs, "{found:?}");
    }
    // The logits of the stored head are not those of the embedding.
    let swapped = world_of(&apart, r#", "tie_word_embeddings": true"#);
    let dropped: Vec<Tensor> = apart.iter().filter(|t| t.name != HEAD).cloned().collect();
    let tied = world_of(&dropped, r#", "tie_word_embeddings": true"#);
    let recipe =
        Recipe { rotate: Some(rotation_options("quarot")), ..Recipe::new(Container::Safetensors, None) };
    let logit = |world: &MemoryModel| probed(world, &plan(world, &recipe)).expect("a probe").largest_logit;
    assert!((logit(&swapped) - logit(&tied)).abs() > 1e-6);
}

#[test]
fn comparison_of_heads_without_a_stored_tied_head_is_absent() {
    let recipe =
        Recipe { rotate: Some(rotation_options("quarot")), ..Recipe::new(Container::Safetensors, None) };
    for (tied_file, tied) in [(true, r#", "tie_word_embeddings": true"#), (false, ""), (true, "")] {
        let world = world_of(&llama(DType::BF16, tied_file, 5), tied);
        let plan = plan(&world, &recipe);
        assert_eq!(comparison(&world.checkpoint, &plan), None);
        assert!(plan.warnings.iter().all(|w| w.code != "tied_head_stored"));
        // A configuration that is silent about the head: the probe reads what the rules read.
        probed(&world, &plan).expect("the same logits");
    }
}

#[test]
fn names_below_language_model_are_probed_head_included() {
    for tied_file in [true, false] {
        let mut tensors = llama(DType::BF16, tied_file, 6);
        tensors.iter_mut().for_each(|t| t.name = format!("language_model.{}", t.name));
        let world = world_of(&tensors, if tied_file { r#", "tie_word_embeddings": true"# } else { "" });
        let recipe = Recipe {
            rotate: Some(rotation_options("quarot,r2")),
            ..Recipe::new(Container::Safetensors, None)
        };
        let plan = plan(&world, &recipe);
        assert!(plan.outputs.iter().any(|o| o.name == "language_model.lm_head.weight"));
        probed(&world, &plan).expect("the same logits");
    }
}

#[test]
fn report_states_the_rounding_of_rotated_weights_by_type() {
    let world = tied_model();
    for (dtype, bound) in [(None, Some(2.0_f64.powi(-8))), (Some(DType::F32), Some(2.0_f64.powi(-24)))] {
        let recipe =
            Recipe { rotate: Some(rotation_options("quarot")), ..Recipe::new(Container::Safetensors, dtype) };
        let plan = plan(&world, &recipe);
        let rounding = converted(&world.checkpoint, &plan, None).expect("a report").rounding;
        // 14 matrices, embedding and head: norms are not rotated.
        assert_eq!(rounding.len(), 1);
        assert_eq!((rounding[0].tensors, rounding[0].relative_bound), (16, bound));
        assert_eq!(rounding[0].dtype, dtype.unwrap_or(DType::BF16));
    }
    let recipe = Recipe { rotate: Some(rotation_options("quarot")), ..by_preset(Preset::Q8_0) };
    let plan = plan(&world, &recipe);
    let rounding = converted(&world.checkpoint, &plan, None).expect("a report").rounding;
    assert_eq!((rounding[0].dtype, rounding[0].relative_bound), (DType::Q8_0, None));
    let plain = self::plan(&world, &by_preset(Preset::Q8_0));
    assert!(converted(&world.checkpoint, &plain, None).expect("a report").rounding.is_empty());
}
