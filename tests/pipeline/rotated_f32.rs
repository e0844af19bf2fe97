//! Rotated tensors that are written as F32: gains and rotations run in binary64 and are rounded once.

use crate::rotated::{folder, rotation_options, world};
use quantoscope_core::DType;
use quantoscope_core::format::{Checkpoint, Container};
use quantoscope_core::plan::{Plan, convert, replay};
use quantoscope_core::quant::decoder;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::rotation::{RotationOptions, SEED};
use quantoscope_core::rotation::{Form, Rotation};
use quantoscope_core::schedule::Budget;
use quantoscope_tests::memory::{MemoryModel, run};

fn made(world: &MemoryModel, rotate: RotationOptions, budget: Budget) -> (Plan, Vec<u8>) {
    let recipe = Recipe { rotate: Some(rotate), ..Recipe::new(Container::Safetensors, Some(DType::F32)) };
    let plan = convert::plan(&world.checkpoint, &recipe, None, false).expect("a plan");
    let file = run(&plan, &[world], budget).expect("a run").files.remove(0);
    (plan, file)
}

fn values(checkpoint: &Checkpoint, bytes: &[u8], name: &str) -> Vec<f64> {
    let tensor = checkpoint.tensors.iter().find(|t| t.name == name).expect("the tensor");
    let mut values = vec![0.0; tensor.shape.numel() as usize];
    let span = tensor.bytes.start as usize..tensor.bytes.end as usize;
    decoder(tensor.dtype).expect("a decoder")(&bytes[span], &mut values);
    values.into_iter().map(f64::from).collect()
}

/// The root mean square error of `written`, over that of the exact values rounded once to binary32.
fn excess(written: &[f64], exact: &[f64]) -> f64 {
    let error = |x: &dyn Fn(usize) -> f64| -> f64 {
        (0..exact.len()).map(|i| (x(i) - exact[i]).powi(2)).sum::<f64>().sqrt()
    };
    error(&|i| written[i]) / error(&|i| f64::from(exact[i] as f32))
}

/// Readers with the gain of their norm, and writers, against a dense product in binary64.
#[test]
fn f32_weights_are_within_one_correct_rounding() {
    for family in ["llama", "gemma", "qwen2"] {
        let world = world(&folder(family));
        let file = std::fs::read(folder(family).join("model.safetensors")).expect("a file");
        let hidden = world.checkpoint.tensors.iter().find(|t| t.name == "model.norm.weight").expect("a norm");
        let n = hidden.shape.numel() as usize;
        let rotation = Rotation::new(n as u64, Form::Full, SEED).expect("a rotation");
        // The matrix of the rotation, a column for each unit vector.
        let unit = |i: usize| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect::<Vec<f64>>();
        let rows_of_q: Vec<Vec<f64>> = (0..n).map(|i| rotation.dense_transposed(&unit(i))).collect();
        let product = |row: &[f64]| -> Vec<f64> {
            rows_of_q.iter().map(|q| q.iter().zip(row).map(|(q, x)| q * x).sum()).collect()
        };
        let plus = if family == "gemma" { 1.0 } else { 0.0 };
        let name = |module: &str| format!("model.layers.0.{module}.weight");
        let source = |module: &str| values(&world.checkpoint, &file, &name(module));
        let gain: Vec<f64> = source("input_layernorm").iter().map(|g| g + plus).collect();
        let query: Vec<f64> = source("self_attn.q_proj")
            .chunks_exact(n)
            .flat_map(|row| product(&row.iter().zip(&gain).map(|(w, g)| w * g).collect::<Vec<_>>()))
            .collect();
        let stored = source("mlp.down_proj");
        let cols = stored.len() / n;
        let columns: Vec<Vec<f64>> =
            (0..cols).map(|c| product(&(0..n).map(|r| stored[r * cols + c]).collect::<Vec<_>>())).collect();
        let down: Vec<f64> = (0..n * cols).map(|i| columns[i % cols][i / cols]).collect();
        for (rules, exact) in [(1, false), (2, true)] {
            let options = RotationOptions { rules, ..rotation_options("quarot") };
            let (_, bytes) = made(&world, options, Budget::default());
            let artefact = MemoryModel::file("model.safetensors", bytes.clone()).expect("a model");
            for (module, expected) in [("self_attn.q_proj", &query), ("mlp.down_proj", &down)] {
                let written = values(&artefact.checkpoint, &bytes, &name(module));
                let excess = excess(&written, expected);
                assert_eq!(excess <= 1.05, exact, "{family} {module} rules {rules}: {excess}");
            }
        }
    }
}

#[test]
fn f32_bytes_do_not_depend_on_the_budget() {
    let world = world(&folder("qwen2"));
    let (_, expected) = made(&world, rotation_options("quarot,r2"), Budget::default());
    for memory in [24 << 10, 40 << 10, 1 << 20] {
        let (_, found) = made(&world, rotation_options("quarot,r2"), Budget { memory, workers: 1 });
        assert!(found == expected, "{memory}");
    }
}

#[test]
fn artefacts_verify_under_the_rules_that_made_them() {
    let world = world(&folder("llama"));
    let mut all = Vec::new();
    for rules in [1, 2] {
        let (plan, bytes) =
            made(&world, RotationOptions { rules, ..rotation_options("quarot") }, Budget::default());
        let recorded = plan.conversion.and_then(|c| c.rotation).expect("a rotation").rules;
        assert_eq!(recorded, rules);
        let artefact = MemoryModel::file("model.safetensors", bytes.clone()).expect("a model");
        let recipe = replay::recorded(&artefact.checkpoint).expect("a recipe");
        assert_eq!(recipe.rotate.expect("a rotation").rules, rules);
        let pairing = replay::verify(&world.checkpoint, &artefact.checkpoint, &recipe, None).expect("a plan");
        assert!(pairing.findings.is_empty(), "{:?}", pairing.findings);
        let measured = run(&pairing.plan, &[&world, &artefact], Budget::default()).expect("a run").collected;
        for index in 0..pairing.plan.outputs.len() {
            let found = measured.output(index).expect("measurements");
            let same = found.identity().iter().all(|f| f.differing == 0 && !f.refused);
            assert!(same, "rules {rules}: {}", pairing.plan.outputs[index].name);
        }
        all.push(bytes);
    }
    assert!(all[0] != all[1], "the rules differ");
}

#[test]
fn rules_of_other_types_stay_and_newer_ones_are_refused() {
    let world = world(&folder("llama"));
    let plan = |rules| {
        let rotate = Some(RotationOptions { rules, ..rotation_options("quarot") });
        let recipe = Recipe { rotate, ..Recipe::new(Container::Safetensors, Some(DType::BF16)) };
        convert::plan(&world.checkpoint, &recipe, None, false)
    };
    let (first, second) = (plan(1).expect("a plan"), plan(2).expect("a plan"));
    assert_eq!(first.conversion.and_then(|c| c.rotation).expect("a rotation").rules, 1);
    assert_eq!(first.outputs, second.outputs);
    assert!(plan(3).is_err());
}
