//! A rotation and a conversion in one pass give what one after the other gives.

use crate::corpus::cases;
use quantoscope_core::DType;
use quantoscope_core::plan::convert;
use quantoscope_core::recipe::rotation::RotationOptions;
use quantoscope_core::recipe::{Recipe, TargetName, TensorNaming};
use quantoscope_core::schedule::Budget;
use quantoscope_tests::memory::{MemoryModel, run};

/// Models with each kind of value map that a rotation is exact for.
const ROTATED: &[&str] = &[
    "llama2-spm",
    "llama3-bpe",
    "qwen2",
    "qwen3",
    "mixtral",
    "qwen3-moe",
    "phi3-4k",
    "gpt2",
    "gpt-neox",
    "gpt-oss-bf16",
    "gemma",
    "starcoder2",
    "nemotron",
    "granite",
];

fn gguf(model: &MemoryModel, rotation: Option<RotationOptions>) -> Result<MemoryModel, String> {
    // The rotated folder has no tokenizer.
    let names = TensorNaming::Gguf;
    let pre_tokenizer = Some("llama-bpe".into());
    let recipe = Recipe {
        rotate: rotation,
        names,
        pre_tokenizer,
        allow_requantize: true,
        ..Recipe::new(TargetName::Gguf, Some(DType::F32))
    };
    let plan = convert::plan(&model.checkpoint, &recipe, None, false).map_err(|e| e.to_string())?;
    let made = run(&plan, &[model], Budget::default()).map_err(|e| e.to_string())?;
    MemoryModel::file("model.gguf", made.files[0].clone()).map_err(|e| e.to_string())
}

fn folder(model: &MemoryModel, rotation: RotationOptions) -> Result<MemoryModel, String> {
    let recipe = Recipe { rotate: Some(rotation), ..Recipe::new(TargetName::HfFolder, Some(DType::F32)) };
    let plan = convert::plan(&model.checkpoint, &recipe, None, false).map_err(|e| e.to_string())?;
    let made = run(&plan, &[model], Budget::default()).map_err(|e| e.to_string())?;
    let files = plan.files.iter().map(|f| f.name.clone()).zip(made.files);
    let files = files.filter(|(name, _)| name == "config.json" || name.ends_with(".safetensors"));
    MemoryModel::folder(files.collect()).map_err(|e| e.to_string())
}

#[test]
fn rotated_gguf_equals_the_gguf_of_the_rotated_folder() {
    let mut wrong = Vec::new();
    for case in cases().iter().filter(|c| ROTATED.contains(&c.name.as_str())) {
        let options = RotationOptions::parse("quarot", 7).expect("a rotation");
        let model = case.model();
        let both = folder(&model, options).and_then(|f| gguf(&f, None));
        match (gguf(&model, Some(options)), both) {
            (Ok(one), Ok(two)) => {
                let names = |m: &MemoryModel| {
                    m.checkpoint.tensors.iter().map(|t| t.name.to_string()).collect::<Vec<_>>()
                };
                let (mut a, mut b) = (names(&one), names(&two));
                a.sort();
                b.sort();
                if a != b {
                    wrong.push(format!("{}: {a:?} {b:?}", case.name));
                    continue;
                }
                let differs = a.iter().find(|n| one.tensor(n) != two.tensor(n));
                wrong.extend(differs.map(|n| format!("{}: {n}", case.name)));
            }
            (one, two) => {
                let why = |r: Result<MemoryModel, String>| r.err().unwrap_or_default();
                wrong.push(format!("{}: {} | {}", case.name, why(one), why(two)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Packed weights and the folder that they are decoded to give one rotated GGUF.
#[test]
fn rotated_gguf_of_packed_weights_equals_that_of_their_values() {
    for name in ["deepseek-v3-fp8", "gpt-oss-mxfp4"] {
        let all = cases();
        let case = all.iter().find(|c| c.name == name).expect("a case");
        let options = RotationOptions::parse("quarot", 7).expect("a rotation");
        let model = case.model();
        let decoded = decoded(&model);
        let one = gguf(&model, Some(options)).expect("a GGUF");
        let two = gguf(&decoded, Some(options)).expect("a GGUF");
        assert!(one.checkpoint.tensors.len() > 30, "{name}");
        for tensor in &one.checkpoint.tensors {
            assert!(one.tensor(&tensor.name) == two.tensor(&tensor.name), "{name}: {}", tensor.name);
        }
    }
}

/// The folder with its weights decoded to F32.
fn decoded(model: &MemoryModel) -> MemoryModel {
    let recipe = Recipe { allow_requantize: true, ..Recipe::new(TargetName::HfFolder, Some(DType::F32)) };
    let plan = convert::plan(&model.checkpoint, &recipe, None, false).expect("a plan");
    let made = run(&plan, &[model], Budget::default()).expect("a run");
    let files = plan.files.iter().map(|f| f.name.clone()).zip(made.files);
    let files = files.filter(|(name, _)| name == "config.json" || name.ends_with(".safetensors"));
    let made = MemoryModel::folder(files.collect()).expect("a sound folder");
    let config: serde_json::Value =
        serde_json::from_slice(made.checkpoint.config.as_deref().expect("a configuration")).expect("JSON");
    assert!(config.get("quantization_config").is_none(), "the weights are plain");
    made
}
