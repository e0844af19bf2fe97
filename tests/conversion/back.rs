//! GGUF files back to Hugging Face folders: the round trip of every case of the corpus.

use crate::corpus::cases;
use quantoscope_core::DType;
use quantoscope_core::format::Container;
use quantoscope_core::plan::pair::{self, Finding};
use quantoscope_core::plan::{Plan, convert, hf_values};
use quantoscope_core::recipe::presets::Preset;
use quantoscope_core::recipe::tensor_filter::TensorFilter;
use quantoscope_core::recipe::{Recipe, TargetName};
use quantoscope_core::report::compared;
use quantoscope_core::schedule::Budget;
use quantoscope_core::tensor::MetaValue;
use quantoscope_tests::memory::{MemoryModel, run};
use std::collections::BTreeMap;

/// Cases that cannot be given back, and a part of the refusal.
const REFUSED: &[(&str, &str)] = &[
    ("gpt-oss-bf16", "its columns are those of several tensors"),
    ("gpt-oss-mxfp4", "its columns are those of several tensors"),
    ("llama4", "its columns are those of several tensors"),
];

/// Cases whose second GGUF has other keys, and which.
const OTHER_KEYS: &[(&str, &[&str])] = &[
    // Tokens of tekken.json have scores, which no engine reads; tokenizer.json has none.
    ("mistral-format", &["tokenizer.ggml.scores"]),
    ("mistral-tekken-json", &["tokenizer.ggml.scores"]),
];

/// Cases whose second GGUF has its tensors in another order: the source had several files, or other names.
const OTHER_ORDER: &[&str] = &["mistral-format", "mixtral"];

/// Cases whose folder has other names or bytes than the source, and why.
const OTHER_TENSORS: &[(&str, &str)] = &[
    ("deepseek-v3-fp8", "its 8-bit floats are decoded"),
    ("gemma2", "norms of an F16 source: the 1 is added in F16, which rounds"),
    ("gpt2", "names under `transformer.`, as transformers saves them"),
    ("mamba2", "decay rates of an F32 source: exp and log round"),
    ("mistral-format", "names of transformers"),
    ("qwen3-vl-text", "names of the text model alone"),
    ("qwen3.5", "names of the text model alone"),
    ("qwen3-next", "decay rates of an F32 source: exp and log round"),
    ("roberta", "positions of padding, which a GGUF does not have"),
    ("xlm-roberta", "positions of padding, which a GGUF does not have"),
];

/// The GGUF of a folder, in its own precision.
fn gguf(model: &MemoryModel, recipe: &Recipe) -> Result<MemoryModel, String> {
    let plan = convert::plan(&model.checkpoint, recipe, None, false).map_err(|e| e.to_string())?;
    let made = run(&plan, &[model], Budget::default()).map_err(|e| e.to_string())?;
    MemoryModel::file("model.gguf", made.files[0].clone()).map_err(|e| e.to_string())
}

/// Reads what a driver reads before it plans a folder.
pub(crate) fn prepared(mut model: MemoryModel, recipe: &Recipe) -> Result<MemoryModel, String> {
    for read in hf_values::computed_tensors(&model.checkpoint, recipe) {
        let values = hf_values::f32_values(model.tensor(&read.name));
        model.checkpoint.computed_tensors.insert(read.name, values);
    }
    let scans = hf_values::exact_scans(&model.checkpoint, recipe).map_err(|e| e.to_string())?;
    for mut scan in scans {
        // Pieces that cut values.
        model.tensor(&scan.read.name).chunks(7).all(|piece| scan.feed(piece));
        scan.finish(&mut model.checkpoint);
    }
    Ok(model)
}

/// The folder of a GGUF, and its plan.
fn folder(model: MemoryModel, recipe: &Recipe, budget: Budget) -> Result<(MemoryModel, Plan), String> {
    let model = prepared(model, recipe)?;
    let plan = convert::plan(&model.checkpoint, recipe, None, false).map_err(|e| e.to_string())?;
    let made = run(&plan, &[&model], budget).map_err(|e| e.to_string())?;
    let files: BTreeMap<String, Vec<u8>> =
        plan.files.iter().map(|f| f.name.clone()).zip(made.files).collect();
    Ok((MemoryModel::folder(files).map_err(|e| e.to_string())?, plan))
}

type KeyMap<'a> = BTreeMap<&'a str, &'a MetaValue>;

fn keys(model: &MemoryModel) -> KeyMap<'_> {
    model.checkpoint.metadata.0.iter().map(|(k, v)| (k.as_str(), v)).collect()
}

/// KeyMap that differ between two files.
fn other_keys<'a>(one: &'a MemoryModel, two: &'a MemoryModel) -> Vec<&'a str> {
    let (a, b) = (keys(one), keys(two));
    let all = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k)));
    // The record of the recipe has the name of the pre-tokenizer, which the folder keeps.
    all.filter(|k| **k != "quantoscope.recipe" && a.get(*k) != b.get(*k)).copied().collect()
}

/// The first tensor that differs between two GGUFs.
fn other_tensor(one: &MemoryModel, two: &MemoryModel) -> Option<String> {
    let names = |m: &MemoryModel| m.checkpoint.tensors.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
    if names(one) != names(two) {
        let (mut a, mut b) = (names(one), names(two));
        a.sort_by_key(|n| n.to_string());
        b.sort_by_key(|n| n.to_string());
        return (a != b)
            .then(|| "other names".to_string())
            .or_else(|| differing(one, two))
            .or(Some("order".into()));
    }
    differing(one, two)
}

fn differing(one: &MemoryModel, two: &MemoryModel) -> Option<String> {
    let differs = one.checkpoint.tensors.iter().find(|t| {
        let other = two.checkpoint.tensors.iter().find(|o| o.name == t.name);
        other.is_none_or(|o| {
            (o.dtype, &o.shape) != (t.dtype, &t.shape) || two.tensor(&o.name) != one.tensor(&t.name)
        })
    });
    differs.map(|t| format!("{} {} {:?}", t.name, t.dtype, t.shape))
}

/// The first tensor of the folder that is not the source's, byte for byte.
fn other_source(source: &MemoryModel, folder: &MemoryModel) -> Option<String> {
    folder.checkpoint.tensors.iter().find_map(|t| {
        let theirs = source.checkpoint.tensors.iter().find(|s| s.name == t.name);
        let Some(theirs) = theirs else { return Some(format!("{} is not in the source", t.name)) };
        let same = (theirs.dtype, &theirs.shape) == (t.dtype, &t.shape);
        let equal = same && source.tensor(&theirs.name) == folder.tensor(&t.name);
        (!equal)
            .then(|| format!("{} {} {:?} for {} {:?}", t.name, t.dtype, t.shape, theirs.dtype, theirs.shape))
    })
}

#[test]
fn folder_of_every_case_becomes_its_gguf_again() {
    let mut wrong = Vec::new();
    let hf = Recipe::new(TargetName::HfFolder, None);
    for case in cases() {
        let name = case.name.clone();
        let source = case.model();
        let recipe = case.recipe(Recipe::new(Container::Gguf, None));
        let first = gguf(&source, &recipe).expect("a GGUF");
        let (folder, plan) = match folder(first.clone(), &hf, Budget::default()) {
            Ok(made) => made,
            Err(e) => {
                if !REFUSED.iter().any(|(n, why)| *n == name && e.contains(why)) {
                    wrong.push(format!("{name}: refused: {e}"));
                }
                continue;
            }
        };
        let warned: Vec<String> = plan.warnings.iter().map(|w| w.message.to_string()).collect();
        let second = match gguf(&folder, &Recipe::new(Container::Gguf, None)) {
            Ok(second) => second,
            Err(e) => {
                wrong.push(format!("{name}: folder: {e}"));
                continue;
            }
        };
        let other: Vec<&str> = other_keys(&first, &second);
        let expected = OTHER_KEYS.iter().find(|(n, _)| *n == name).map_or(&[][..], |(_, k)| *k);
        if other != expected {
            wrong.push(format!("{name}: keys {other:?} {warned:?}"));
        }
        let ordered = OTHER_ORDER.contains(&name.as_str());
        if let Some(tensor) = other_tensor(&first, &second).filter(|t| !(ordered && t == "order")) {
            wrong.push(format!("{name}: tensors: {tensor}"));
        }
        let differs = other_source(&source, &folder);
        let expected = OTHER_TENSORS.iter().find(|(n, _)| *n == name);
        if differs.is_some() != expected.is_some() {
            wrong.push(format!("{name}: source: {differs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

/// Engines assume a base where a GGUF has none, as older files; classes of transformers fail on a null.
#[test]
fn folder_of_a_gguf_without_bases_of_rotary_embedding_has_the_assumed_ones() {
    let hf = Recipe::new(TargetName::HfFolder, None);
    let mut local = 0;
    for name in ["gemma3", "llama2-spm", "qwen3"] {
        let case = cases().into_iter().find(|c| c.name == name).expect("a case");
        let mut made = gguf(&case.model(), &case.recipe(Recipe::new(Container::Gguf, None))).expect("a GGUF");
        made.checkpoint.metadata.0.retain(|(key, _)| !key.contains(".rope.freq_base"));
        let (_, plan) = folder(made, &hf, Budget::default()).expect("a folder");
        let config = plan.files.iter().find(|f| f.name == "config.json").expect("a configuration");
        let config: serde_json::Value = serde_json::from_slice(&config.header).expect("JSON");
        for key in ["rope_theta", "rope_local_base_freq"] {
            assert!(config.get(key).is_none_or(|base| base == 10_000.0), "{name}: {config}");
        }
        local += usize::from(config.get("rope_local_base_freq").is_some());
    }
    assert_eq!(local, 1);
}

/// Maps of all kinds: interleaved, transposed, gathered, stacked, swapped, shifted.
const CUT: &[&str] = &[
    "deepseek-v3",
    "falcon-7b-style",
    "gemma3",
    "gpt-neox",
    "gpt2",
    "granite-hybrid",
    "llama3-bpe",
    "mixtral",
    "qwen3-next",
    "qwen3.5",
    "roberta",
];

#[test]
fn folder_in_small_windows_is_the_same() {
    let hf = Recipe::new(TargetName::HfFolder, None);
    for case in cases().iter().filter(|c| CUT.contains(&c.name.as_str())) {
        for recipe in [Recipe::new(Container::Gguf, None), Recipe::of_preset(Preset::Q8_0)] {
            let first = gguf(&case.model(), &case.recipe(recipe)).expect("a GGUF");
            let small = Budget { memory: 128_000, workers: 1 };
            let (one, _) = folder(first.clone(), &hf, Budget::default()).expect("a folder");
            let (two, _) = folder(first, &hf, small).expect("a folder");
            for tensor in &one.checkpoint.tensors {
                assert_eq!(
                    one.tensor(&tensor.name),
                    two.tensor(&tensor.name),
                    "{}: {}",
                    case.name,
                    tensor.name
                );
            }
        }
    }
}

/// A folder made of blocks becomes a GGUF with the keys and the F32 tensors of the quantized one.
#[test]
fn folder_of_a_quantized_file_keeps_keys_and_floats() {
    let hf = Recipe::new(TargetName::HfFolder, None);
    for case in cases().iter().filter(|c| CUT.contains(&c.name.as_str())) {
        let recipe = case.recipe(Recipe::of_preset(Preset::Q4_K_M));
        let first = gguf(&case.model(), &recipe).expect("a GGUF");
        let (folder, _) = folder(first.clone(), &hf, Budget::default()).expect("a folder");
        let second = gguf(&folder, &recipe).expect("a GGUF");
        let other = other_keys(&first, &second);
        assert!(other.is_empty(), "{}: {other:?}", case.name);
        for tensor in first.checkpoint.tensors.iter().filter(|t| t.dtype == DType::F32) {
            assert_eq!(
                first.tensor(&tensor.name),
                second.tensor(&tensor.name),
                "{}: {}",
                case.name,
                tensor.name
            );
        }
    }
}

/// A GGUF and its folder are compared tensor by tensor, whatever the family.
#[test]
fn comparison_pairs_every_family() {
    let mut wrong = Vec::new();
    for case in &cases() {
        let source = case.model();
        // Decoded weights are rounded by any type but F32.
        let packed = source.checkpoint.tensors.iter().any(|t| t.packed.is_some());
        let recipe = Recipe::new(Container::Gguf, None);
        let recipe = if packed { Recipe::of_preset(Preset::F32) } else { recipe };
        let made = gguf(&source, &case.recipe(recipe)).expect("a GGUF");
        for (a, b) in [(&source, &made), (&made, &source)] {
            let pairing =
                pair::compare(&a.checkpoint, &b.checkpoint, &TensorFilter::default()).expect("a plan");
            let ran = run(&pairing.plan, &[a, b], Budget::default()).expect("a run");
            let report =
                compared(("a", "b"), &pairing.plan, pairing.findings, &ran.collected, Some(0.999_999));
            let unpaired = |f: &&Finding| {
                let name = f.tensor.as_ref().map_or("", |n| n.as_str());
                made.checkpoint.tensors.iter().any(|t| t.name == name)
            };
            wrong.extend(report.findings.iter().find(unpaired).map(|f| format!("{}: {f:?}", case.name)));
            if report.any_below_threshold || report.tensors.len() * 2 < made.checkpoint.tensors.len() {
                wrong.push(format!(
                    "{}: {} rows of {}",
                    case.name,
                    report.tensors.len(),
                    made.checkpoint.tensors.len()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
