//! `general.*` and `<arch>.*` keys of every case of the corpus, and the small rules behind them.

use quantoscope_core::model::arch::{self, Arch};
use quantoscope_core::model::config::hyperparameters::hyperparameters;
use quantoscope_core::model::general_keys::{
    FileNameParts, GeneralInput, ModelId, ParameterCount, file_stem, general_keys, metadata, size_label,
    title,
};
use quantoscope_core::model::gguf_keys::{
    GgufKeys, TensorFacts, architecture_keys, architecture_name, early_keys, pooling_type,
};
use quantoscope_core::tensor::MetaValue;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Cases whose keys differ, and why.
const NOT_YET: &[(&str, &str)] = &[];

/// The data of llama.cpp's converter.
fn corpus_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/conversion")
}

fn json_file(path: &Path) -> Option<Value> {
    fs::read(path).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

/// The row of a case. Two formats have no `model_type` of their own.
fn row(config: &Value, expected: &str) -> &'static Arch {
    match expected {
        "gemma-embedding" => return arch::of_gguf(expected).next().unwrap(),
        "mistral3" if config.get("model_type") == Some(&json!("transformer")) => {
            return arch::all().find(|a| a.name == "mistral_format").unwrap();
        }
        _ => {}
    }
    arch::of_model(&Default::default(), Some(config.to_string().as_bytes()))
}

fn key_of(value: &MetaValue) -> (String, Value) {
    match value {
        MetaValue::U32(n) => ("u32".into(), json!(n)),
        MetaValue::I32(n) => ("i32".into(), json!(n)),
        MetaValue::F32(x) => ("f32".into(), json!(f64::from(*x))),
        MetaValue::Bool(b) => ("bool".into(), json!(b)),
        MetaValue::String(s) => ("str".into(), json!(s)),
        MetaValue::Array(array) => {
            let (name, values): (_, Vec<Value>) = match array.element {
                5 => (
                    "[i32]",
                    array.raw.chunks(4).map(|b| json!(i32::from_le_bytes(b.try_into().unwrap()))).collect(),
                ),
                7 => ("[bool]", array.raw.iter().map(|b| json!(*b == 1)).collect()),
                8 => ("[str]", strings(&array.raw)),
                other => panic!("element type {other}"),
            };
            (name.into(), Value::Array(values))
        }
        other => panic!("{other:?}"),
    }
}

fn strings(mut raw: &[u8]) -> Vec<Value> {
    let mut found = Vec::new();
    while let Some((len, rest)) = raw.split_first_chunk::<8>() {
        let (text, rest) = rest.split_at(u64::from_le_bytes(*len) as usize);
        found.push(json!(std::str::from_utf8(text).unwrap()));
        raw = rest;
    }
    found
}

/// All keys but those of the tokenizer, for one of the expected files of a case.
fn ours(folder: &Path, expected: &Value, arguments: &Value) -> quantoscope_core::Result<Value> {
    let hf = folder.join("hf");
    let config = json_file(&hf.join("config.json")).or_else(|| json_file(&hf.join("params.json"))).unwrap();
    let value_of = |key: &str| {
        let kv = expected["kv"].as_array().unwrap();
        kv.iter().find(|entry| entry[0] == key).map(|entry| entry[2].clone())
    };
    let named = value_of("general.architecture").unwrap();
    let row = row(&config, named.as_str().unwrap());
    let hyper = hyperparameters(&config)?;
    let tensors: Vec<(String, Vec<u64>)> = tensors(expected);
    let blocks = tensors.iter().filter_map(|(name, _)| {
        name.strip_prefix("blk.").and_then(|n| n.split('.').next()?.parse::<u32>().ok())
    });
    let blocks = blocks.max().map_or(0, |last| last + 1);
    let files: Vec<(String, Vec<u8>)> = ["1_Pooling/config.json", "modules.json"]
        .into_iter()
        .filter_map(|name| Some((name.to_string(), fs::read(hf.join(name)).ok()?)))
        .collect();
    let file = |name: &str| files.iter().find(|(n, _)| n == name).map(|(_, bytes)| bytes.as_slice());
    let facts = TensorFacts {
        no_mtp: false,
        file_type: value_of("general.file_type").map_or(0, |v| v.as_u64().unwrap() as u32),
        mtp_blocks: if tensors.is_empty() { 0 } else { blocks.saturating_sub(hyper.layers()?) },
        pooling: pooling_type(file("modules.json"), file)?,
    };
    let counted = tensors.iter().map(|(name, dims)| (name.as_str(), dims.as_slice()));
    let general = general_keys(&GeneralInput {
        card: fs::read(hf.join("README.md")).ok().as_deref(),
        config: &config,
        generation_config: json_file(&hf.join("generation_config.json")).as_ref(),
        folder: expected["input_folder_name"].as_str().unwrap(),
        overrides: arguments.get("metadata_override"),
        model_name: arguments.get("model_name").and_then(Value::as_str),
        parameters: ParameterCount::of(counted),
    })?;
    let name = architecture_name(row.name, row.gguf.unwrap(), &hyper)?;
    let mut keys = GgufKeys::default();
    keys.set("general.architecture", MetaValue::String(name.into()));
    keys.extend(early_keys(name, &hyper)?);
    keys.extend(general);
    keys.extend(architecture_keys(name, row.gguf_keys, &hyper, &facts)?);
    keys.set("general.quantization_version", MetaValue::U32(2));
    let keys = keys.into_vec();
    Ok(keys
        .iter()
        .map(|(key, value)| {
            let (kind, value) = key_of(value);
            json!([key, kind, value])
        })
        .collect())
}

fn tensors(expected: &Value) -> Vec<(String, Vec<u64>)> {
    let one = |t: &Value| {
        let name = t.get("name").or_else(|| t.get(0)).unwrap().as_str().unwrap().to_string();
        let dims = t.get("dims").or_else(|| t.get(2)).unwrap();
        (name, dims.as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).collect())
    };
    match &expected["tensors"] {
        Value::Array(list) => list.iter().map(one).collect(),
        _ => Vec::new(),
    }
}

/// What the converter writes, without the tokenizer; Mistral's own format gets its `vocab_size` from the tokenizer.
fn theirs(case: &str, expected: &Value) -> Value {
    let kv = expected["kv"].as_array().unwrap().iter();
    kv.filter(|entry| {
        let key = entry[0].as_str().unwrap();
        !(key.starts_with("tokenizer.") || case == "mistral-format" && key == "mistral3.vocab_size")
    })
    .cloned()
    .collect()
}

/// The first entry that differs.
fn difference(ours: &Value, theirs: &Value) -> Option<String> {
    let (ours, theirs) = (ours.as_array().unwrap(), theirs.as_array().unwrap());
    let longest = ours.len().max(theirs.len());
    (0..longest)
        .find(|i| ours.get(*i) != theirs.get(*i))
        .map(|i| format!("entry {i}: {:?}, expected {:?}", ours.get(i), theirs.get(i)))
}

#[test]
fn keys_of_corpus_equal_the_reference() {
    let mut failures = Vec::new();
    let mut cases = 0;
    for entry in fs::read_dir(corpus_dir().join("corpus")).unwrap() {
        let folder = entry.unwrap().path();
        let case = folder.file_name().unwrap().to_str().unwrap().to_string();
        let expected = json_file(&folder.join("expected.json")).unwrap();
        let found = match ours(&folder, &expected, &Value::Null) {
            Ok(keys) => difference(&keys, &theirs(&case, &expected)),
            Err(error) => Some(error.to_string()),
        };
        let excused = NOT_YET.iter().any(|(name, _)| *name == case);
        match found {
            Some(what) if !excused => failures.push(format!("{case}: {what}")),
            None if excused => failures.push(format!("{case} is equal: remove it from NOT_YET")),
            _ => {}
        }
        cases += 1;
    }
    assert_eq!(cases, 70);
    failures.sort();
    assert!(failures.is_empty(), "{} of {cases}:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn keys_of_variants_equal_the_reference() {
    for (case, variant) in [("qwen2", "metadata"), ("qwen2", "vocab-only"), ("qwen3-next", "no-mtp")] {
        let folder = corpus_dir().join("corpus").join(case);
        let whole = json_file(&folder.join(format!("expected.{variant}.json"))).unwrap();
        let mut expected = whole["files"][0].clone();
        expected["input_folder_name"] = whole["input_folder_name"].clone();
        let found = ours(&folder, &expected, &whole["arguments"]).unwrap();
        assert_eq!(difference(&found, &theirs(case, &expected)), None, "{case} {variant}");
    }
}

#[test]
fn float_in_place_of_counter_is_refused_by_name() {
    let config = json!({"model_type": "llama", "num_hidden_layers": 2.0});
    let error = hyperparameters(&config).unwrap().layers().unwrap_err().to_string();
    assert!(error.contains("num_hidden_layers") && error.contains("2.0"), "{error}");
}

#[test]
fn key_written_again_keeps_its_place_and_empty_values_are_left_out() {
    let mut keys = GgufKeys::default();
    keys.set("a", MetaValue::U32(1));
    keys.set("empty", MetaValue::String(String::new()));
    keys.set("b", MetaValue::U32(2));
    keys.set("a", MetaValue::F32(3.0));
    let expected = [("a".to_string(), MetaValue::F32(3.0)), ("b".to_string(), MetaValue::U32(2))];
    assert_eq!(keys.into_vec(), expected);
}

fn small_rules(name: &str) -> Vec<Value> {
    let rules = json_file(&corpus_dir().join("small-rules.json")).unwrap();
    let found = rules.as_object().unwrap().iter().find(|(key, _)| key.starts_with(name)).unwrap();
    found.1.as_array().unwrap().clone()
}

#[test]
fn model_ids_have_the_parts_of_the_reference() {
    let rules = small_rules("model_ids");
    assert_eq!(rules.len(), 76);
    for rule in rules {
        let id = ModelId::parse(rule["id"].as_str().unwrap(), rule["params"].as_u64().unwrap());
        let found = json!({"id": rule["id"], "params": rule["params"], "name": id.name, "organization": id.organization,
            "basename": id.basename, "finetune": id.finetune, "version": id.version, "size_label": id.size_label,
            "title": title(&id.name)});
        assert_eq!(found, rule);
    }
}

#[test]
fn size_labels_are_those_of_the_reference() {
    for rule in small_rules("size_labels") {
        let n = |i: usize| rule[0][i].as_u64().unwrap();
        let count = ParameterCount { total: n(0), shared: n(1), per_expert: n(2), experts: n(3) };
        assert_eq!(size_label(&count), rule[1], "{count:?}");
    }
}

#[test]
fn file_names_are_those_of_the_reference() {
    for rule in small_rules("file_names") {
        let part = |i: usize| rule[0][i].as_str();
        let names = FileNameParts {
            name: part(0),
            basename: part(1),
            finetune: part(2),
            version: part(3),
            size_label: part(4),
            kind: part(5),
            vocabulary_only: false,
        };
        assert_eq!(file_stem(&names), rule[1], "{names:?}");
    }
}

#[test]
fn model_cards_give_the_metadata_of_the_reference() {
    for rule in small_rules("cards") {
        let card = rule["card"].as_str().unwrap();
        let parameters = ParameterCount { total: 3_000_000_000, ..ParameterCount::default() };
        let found = metadata(&GeneralInput {
            card: Some(card.as_bytes()),
            config: &json!({}),
            generation_config: None,
            folder: "Some-Model-3B-Instruct",
            overrides: None,
            model_name: None,
            parameters,
        });
        assert_eq!(Value::Object(found.unwrap()), rule["gives"], "{card}");
    }
}
