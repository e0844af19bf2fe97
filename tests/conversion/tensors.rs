//! Names, order, shapes, types and bytes of all tensors against llama.cpp's converter.

use crate::corpus::{Case, cases};
use quantoscope_core::format::Container;
use quantoscope_core::plan::convert;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::presets::Preset;
use quantoscope_core::schedule::Budget;
use quantoscope_core::tensor::TensorInfo;
use quantoscope_tests::memory::{MemoryModel, run};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Cases whose tensors are not equal yet, and why. A test fails when one of them becomes equal.
const NOT_YET: &[(&str, &str)] = &[];

/// The types of files with their recipes.
const OUTTYPES: [(&str, Preset); 4] =
    [("f32", Preset::F32), ("bf16", Preset::BF16), ("f16", Preset::F16), ("q8_0", Preset::Q8_0)];

/// The first difference between our file of a type and the converter's; `None` where there is none.
fn difference(case: &Case, outtype: &str, preset: Preset, budget: Budget) -> Option<String> {
    let model = case.model();
    let plan = match convert::plan(&model.checkpoint, &case.recipe(Recipe::of_preset(preset)), None, false) {
        Ok(plan) => plan,
        Err(e) => return Some(e.to_string()),
    };
    let made = match run(&plan, &[&model], budget) {
        Ok(made) => made,
        Err(e) => return Some(e.to_string()),
    };
    let file = MemoryModel::file("model.gguf", made.files[0].clone()).expect("a sound GGUF");
    let expected = case.expected["tensors"].as_array().expect("tensors");
    let mut ours = file.checkpoint.tensors.iter();
    for theirs in expected {
        let name = theirs["name"].as_str().expect("a name");
        let Some(tensor) = ours.next() else { return Some(format!("{name} is missing at the end")) };
        let mut dims = tensor.shape.axes().to_vec();
        dims.reverse();
        let hash: String =
            Sha256::digest(file.tensor(&tensor.name)).iter().map(|b| format!("{b:02x}")).collect();
        let dims_of =
            |v: &Value| v.as_array().expect("dims").iter().map(|d| d.as_u64().expect("a length")).collect();
        let wanted_dims: Vec<u64> = dims_of(&theirs["dims"]);
        let wanted = &theirs[outtype];
        let want = (name, wanted_dims, wanted[0].as_str().expect("a type").to_lowercase());
        let have = (&*tensor.name, dims, tensor.dtype.to_string().to_lowercase());
        if want != have {
            return Some(format!("{have:?} in place of {want:?}"));
        }
        if wanted[1] != hash {
            return Some(format!("{name}: other bytes"));
        }
    }
    ours.next().map(|t| format!("{} is too many", t.name))
}

/// Maps of all kinds: transposed, permuted, gathered, stacked, columns swapped.
const CUT: &[&str] = &[
    "gpt2",
    "gpt-oss-bf16",
    "gpt-oss-mxfp4",
    "llama4",
    "llama3-bpe",
    "mixtral",
    "deepseek-v3",
    "deepseek-v3-fp8",
    "qwen3.5",
    "qwen3-next",
    "gpt-neox",
    "falcon-7b-style",
    "granite-hybrid",
    "roberta",
];

#[test]
fn tensors_in_small_windows_equal_the_converters() {
    let budget = Budget { memory: 12_000, workers: 1 };
    for case in cases().iter().filter(|c| CUT.contains(&c.name.as_str())) {
        for (outtype, preset) in outtypes(case) {
            assert_eq!(difference(case, outtype, preset, budget), None, "{} as {outtype}", case.name);
        }
    }
}

#[test]
fn recipe_without_a_type_keeps_the_precision_of_the_source() {
    for (name, dtype) in [("llama3-bpe", "BF16"), ("command-r", "F16"), ("gpt2", "F32")] {
        let all = cases();
        let case = all.iter().find(|c| c.name == name).expect("a case");
        let model = case.model();
        let recipe = case.recipe(Recipe::new(Container::Gguf, None));
        let plan = convert::plan(&model.checkpoint, &recipe, None, false).expect("a plan");
        let of = |name: &str| plan.outputs.iter().find(|o| o.name == name).map(|o| o.dtype.to_string());
        assert_eq!(of("token_embd.weight").as_deref(), Some(dtype), "{name}");
        assert_eq!(of("output_norm.weight").as_deref(), Some("F32"), "{name}");
    }
}

fn outtypes(case: &Case) -> impl Iterator<Item = (&'static str, Preset)> + '_ {
    let given = |(name, _): &(&str, Preset)| !case.expected["tensors"][0][*name].is_null();
    OUTTYPES.into_iter().filter(given)
}

#[test]
fn tensors_of_every_case_equal_the_converters() {
    let mut wrong = Vec::new();
    let mut files = 0;
    for case in cases() {
        let differs = outtypes(&case).find_map(|(name, preset)| {
            files += 1;
            let difference = difference(&case, name, preset, Budget::default())?;
            Some(format!("{name}: {difference}"))
        });
        let listed = NOT_YET.iter().find(|(name, _)| *name == case.name);
        match (differs, listed) {
            (Some(difference), None) => wrong.push(format!("{}: {difference}", case.name)),
            (None, Some(_)) => wrong.push(format!("{} is equal: take it off the list", case.name)),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} of the cases differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(files > 100, "{files}");
}

fn converted(model: &MemoryModel, recipe: &Recipe) -> MemoryModel {
    let plan = convert::plan(&model.checkpoint, recipe, None, false).expect("a plan");
    let made = run(&plan, &[model], Budget::default()).expect("a run");
    MemoryModel::file("model.gguf", made.files[0].clone()).expect("a sound GGUF")
}

/// Quantizing a folder gives the types and bytes that quantizing its GGUF gives.
#[test]
fn recipe_on_a_folder_equals_the_recipe_on_its_gguf() {
    let mut wrong = Vec::new();
    for case in cases().iter().filter(|c| NOT_YET.iter().all(|(name, _)| *name != c.name)) {
        let model = case.model();
        // Decoded weights are rounded once: their own precision is F32.
        let packed = model.checkpoint.tensors.iter().any(|t| t.packed.is_some());
        let plain = match packed {
            true => Recipe::of_preset(Preset::F32),
            false => Recipe::new(Container::Gguf, None),
        };
        let plain = converted(&model, &case.recipe(plain));
        for preset in [Preset::Q4_K_M, Preset::Q4_0, Preset::Q2_K] {
            let recipe = Recipe { compat: true, allow_requantize: packed, ..Recipe::of_preset(preset) };
            let recipe = case.recipe(recipe);
            let (one, two) = (converted(&model, &recipe), converted(&plain, &recipe));
            let rows = |m: &MemoryModel| {
                let row = |t: &TensorInfo| (t.name.clone(), t.dtype, m.tensor(&t.name).to_vec());
                m.checkpoint.tensors.iter().map(row).collect::<Vec<_>>()
            };
            let (one, two) = (rows(&one), rows(&two));
            let differs = one.iter().zip(&two).find(|(a, b)| a != b);
            wrong.extend(differs.map(|(a, b)| {
                format!("{} {preset}: {} {} in place of {} {}", case.name, a.0, a.1, b.0, b.1)
            }));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
