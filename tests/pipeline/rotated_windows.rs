//! A rotated conversion gives the same bytes whatever its windows are, and in whatever order they come.

use proptest::prelude::*;
use quantoscope_core::DType;
use quantoscope_core::format::Container;
use quantoscope_core::plan::convert;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::rotate::Rotate;
use quantoscope_core::schedule::Budget;
use quantoscope_tests::memory::{World, run, run_shuffled};
use std::path::Path;

/// Stacked experts, spans of values in columns and rows, norms that subtract a mean, gains along rows.
const FAMILIES: [&str; 6] = ["gpt_oss", "qwen3_moe", "llama", "phi3", "gpt2", "qwen3_5"];

fn world(family: &str) -> World {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families").join(family);
    let file =
        |name: &str| (name.to_string(), std::fs::read(folder.join(name)).expect("a file of the model"));
    World::directory([file("model.safetensors"), file("config.json")].into()).expect("a sound model")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn windows_do_not_matter(
        family in 0..FAMILIES.len(), wish in 0..3_usize, seed: u64, order: u64, memory in 9..24_u32, workers in 1..4_u32,
    ) {
        let world = world(FAMILIES[family]);
        let wish = Rotate::parse(["quarot", "r2", "quarot,r2"][wish], seed).expect("a wish");
        let recipe = Recipe { rotate: Some(wish), ..Recipe::new(Container::Safetensors, Some(DType::F32)) };
        // What is not exact for a family is refused, which other tests hold.
        let Ok(plan) = convert::plan(&world.checkpoint, &recipe, false) else { return Ok(()) };
        let first = run(&plan, &[&world], Budget::default()).expect("a run");
        let again = run_shuffled(&plan, &[&world], Budget { memory: 1 << memory, workers }, Some(order));
        match again {
            Ok(again) => prop_assert!(again.files == first.files),
            Err(e) => prop_assert_eq!(e.code(), quantoscope_core::Code::MemoryBudget),
        }
    }
}
