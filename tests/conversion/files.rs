//! Whole files against llama.cpp's converter, byte for byte.

use crate::corpus::{Case, cases};
use quantoscope_core::plan::{convert, replay};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::presets::Preset;
use quantoscope_core::report::verified;
use quantoscope_core::schedule::Budget;
use quantoscope_tests::memory::{MemoryModel, run};
use sha2::{Digest, Sha256};

/// Cases whose files are not equal yet, and why. A test fails when one of them becomes equal.
const NOT_YET: &[(&str, &str)] = &[];

/// SHA-256 of our file.
fn digest(case: &Case, preset: Preset) -> Result<String, String> {
    let model = case.model();
    let recipe = case.recipe(Recipe { compat: true, ..Recipe::of_preset(preset) });
    let plan = convert::plan(&model.checkpoint, &recipe, None, false).map_err(|e| e.to_string())?;
    let made = run(&plan, &[&model], Budget::default()).map_err(|e| e.to_string())?;
    Ok(Sha256::digest(&made.files[0]).iter().map(|b| format!("{b:02x}")).collect())
}

#[test]
fn file_of_every_case_equals_the_converters() {
    let (mut wrong, mut files) = (Vec::new(), 0);
    for case in cases() {
        let runs = case.expected["runs"].as_object().expect("runs");
        let mut differs = None;
        for (outtype, expected) in runs {
            let Ok(preset) = Preset::parse(outtype) else { continue };
            files += 1;
            match digest(&case, preset) {
                Ok(ours) if expected["file_sha256"] == ours => {}
                Ok(_) => differs = Some(format!("{outtype}: other bytes")),
                Err(e) => differs = Some(format!("{outtype}: {e}")),
            }
        }
        match (differs, NOT_YET.iter().any(|(name, _)| *name == case.name)) {
            (Some(difference), false) => wrong.push(format!("{}: {difference}", case.name)),
            (None, true) => wrong.push(format!("{} is equal: take it off the list", case.name)),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} of the cases differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(files > 100, "{files}");
}

/// A converted file is verified by making it again with the recipe that it records.
#[test]
fn converted_file_verifies_against_its_folder() {
    let mut wrong = Vec::new();
    for case in cases().iter().filter(|c| NOT_YET.iter().all(|(name, _)| *name != c.name)) {
        let model = case.model();
        for preset in [Preset::Q4_0, Preset::BF16] {
            let recipe = Recipe { allow_requantize: true, ..Recipe::of_preset(preset) };
            let recipe = case.recipe(recipe);
            let plan = convert::plan(&model.checkpoint, &recipe, None, false).expect("a plan");
            let made = run(&plan, &[&model], Budget::default()).expect("a run");
            let file = MemoryModel::file("model.gguf", made.files[0].clone()).expect("a sound GGUF");
            let recorded = replay::recorded_conversion(&file.checkpoint).expect("a recipe");
            let verify = |file: &MemoryModel| {
                let pairing =
                    replay::verify(&model.checkpoint, &file.checkpoint, &recorded, None).expect("a plan");
                let made = run(&pairing.plan, &[&model, file], Budget::default()).expect("a run");
                verified(("a", "b"), &pairing.plan, pairing.findings, &made.collected)
            };
            let report = verify(&file);
            if !report.verified {
                wrong.push(format!("{} {preset}: {:?}", case.name, report.findings.first()));
            }
            let mut spoiled = made.files[0].clone();
            let last =
                file.checkpoint.tensors.iter().map(|t| t.bytes.end).max().expect("tensors") as usize - 1;
            spoiled[last] ^= 1;
            let spoiled = MemoryModel::file("model.gguf", spoiled).expect("a sound GGUF");
            assert!(!verify(&spoiled).verified, "{}: a changed byte is found", case.name);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
