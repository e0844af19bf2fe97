//! `eval`: figures of the sample against an independent program, and what is refused.

use crate::support::Dir;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/eval").join(name)
}

/// The sample as `m`, the sample with the lowest four bits of its values cleared as `q`, and the token ids.
fn samples() -> Dir {
    let dir = Dir::new();
    let sample = root().join("www/sample");
    for name in ["m", "q"] {
        std::fs::create_dir(dir.at(name)).expect("a directory");
        for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
            std::fs::copy(sample.join(file), dir.at(name).join(file)).expect("a copy");
        }
    }
    let mut bytes = dir.read("q/model.safetensors");
    let start = 8 + u64::from_le_bytes(*bytes.first_chunk().expect("a header")) as usize;
    bytes[start..].iter_mut().step_by(2).for_each(|low| *low &= 0xF0);
    dir.write("q/model.safetensors", &bytes);
    std::fs::copy(fixture("ids.txt"), dir.at("ids.txt")).expect("a copy");
    dir
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn expected() -> Value {
    json(&std::fs::read_to_string(fixture("expected.json")).expect("a fixture"))
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(all) => all.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().expect("a number")],
    }
}

/// Every expected figure, within `bound` relative to itself or to 1, whichever is larger.
fn assert_figures(found: &Value, expected: &Value, bound: f64) {
    for (key, value) in expected.as_object().expect("figures") {
        let (found, value) = (numbers(&found[key]), numbers(value));
        assert_eq!(found.len(), value.len(), "{key}");
        for (found, value) in found.iter().zip(value) {
            assert!((found - value).abs() <= bound * value.abs().max(1.0), "{key}: {found} and {value}");
        }
    }
}

#[test]
fn eval_sample_has_the_figures_of_an_independent_program() {
    let (dir, expected) = (samples(), expected());
    let line = "eval q --against m --ids ids.txt --context 96 --json";
    // Single positions differ more than means do.
    for (options, bound) in [("--precision f64", 1e-9), ("", 3e-6)] {
        let whole = json(&dir.run(&format!("{line} {options}")).exits(0).out);
        assert_figures(&whole, &expected["whole"], bound);
        assert_eq!(whole["windows"], 4);
        let half = json(&dir.run(&format!("{line} --llama-windows {options}")).exits(0).out);
        assert_figures(&half, &expected["half"], bound);
    }
}

/// Bits of figures depend on neither threads, nor memory, nor the order of the models' windows.
#[test]
fn eval_figures_do_not_depend_on_resources() {
    let dir = samples();
    let line = "eval q --against m --ids ids.txt --context 96 --json --per-position";
    let strip = |text: &str| {
        let mut value = json(text);
        let map = value.as_object_mut().expect("an object");
        ["seconds", "tokens_per_second", "threads"].iter().for_each(|key| drop(map.remove(*key)));
        value
    };
    let first = strip(&dir.run(line).exits(0).out);
    assert_eq!(first["positions"].as_array().map(Vec::len), Some(320));
    for resources in ["-j 1 --memory 24MiB", "-j 3 --memory 40MiB", "-j 5 --memory 1GiB"] {
        let found = strip(&dir.run(&format!("{line} {resources}")).exits(0).out);
        assert!(found == first, "{resources}");
    }
}

/// A GGUF has the figures of the folder that it was made of, and quantized ones lose what their types lose.
#[test]
fn eval_gguf_equals_its_folder() {
    let dir = samples();
    dir.run("quantize m -o f.gguf --type bf16 --names gguf").exits(0);
    dir.run("quantize m -o q8.gguf --type q8_0").exits(0);
    dir.run("quantize m -o q4.gguf --recipe q4_k_m").exits(0);
    let kl = |model: &str| {
        let line = format!("eval {model} --against m --ids ids.txt --context 96 --tokens 96 --json");
        let report = json(&dir.run(&line).exits(0).out);
        (report["kl_mean"].as_f64().expect("a number"), report["top1"].as_f64().expect("a number"))
    };
    assert_eq!(kl("f.gguf"), (0.0, 1.0));
    assert_eq!(kl("m"), (0.0, 1.0));
    let (q8, q4) = (kl("q8.gguf").0, kl("q4.gguf").0);
    assert!(q8 > 0.0 && q8 < 1e-3 && q4 > 10.0 * q8 && q4 < 0.1, "{q8} and {q4}");
}

#[test]
fn eval_text_is_encoded_by_the_tokenizer() {
    let dir = samples();
    dir.write("t.txt", b"/// Returns the number of elements in the vector.\npub fn len(&self) -> usize {");
    dir.run("quantize m -o f.gguf --type bf16 --names gguf").exits(0);
    let of = |model: &str| json(&dir.run(&format!("eval {model} --text t.txt --json")).exits(0).out);
    let (folder, gguf) = (of("m"), of("f.gguf"));
    assert_eq!((&folder["tokens"], &folder["nll"]), (&gguf["tokens"], &gguf["nll"]));
    assert!(folder["perplexity"].as_f64().is_some_and(|p| p > 1.0 && p < 30.0), "{folder}");
    assert_eq!(folder["context"], 256);
}

#[test]
fn eval_report_for_people_explains_its_figures() {
    let dir = samples();
    let text = dir.run("eval q --against m --ids ids.txt --tokens 20").exits(0).out;
    for part in [
        "perplexity",
        "± ",
        "mean KL divergence",
        "same top token",
        "on the processor",
        "20 tokens predicted",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
}

#[test]
fn eval_impossible_requests_are_refused_with_a_reason() {
    let dir = samples();
    dir.write("high.txt", b"1 2 4096");
    dir.write("word.txt", b"1 2 x");
    dir.write("one.txt", b"7");
    dir.write("empty.txt", b"");
    dir.write("bad.txt", &[0xFF, 0xFE, 0xFD]);
    dir.write("t.txt", b"some text");
    std::fs::create_dir(dir.at("bare")).expect("a directory");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(dir.at("m").join(file), dir.at("bare").join(file)).expect("a copy");
    }
    let config = String::from_utf8(dir.read("m/config.json")).expect("text");
    std::fs::create_dir(dir.at("t5")).expect("a directory");
    std::fs::copy(dir.at("m/model.safetensors"), dir.at("t5/model.safetensors")).expect("a copy");
    dir.write("t5/config.json", config.replace("\"llama\"", "\"t5\"").as_bytes());
    for (line, code, part) in [
        ("eval m --ids high.txt", 4, "4096 (number 2, counted from 0) is not in the vocabulary of 4096"),
        ("eval m --ids word.txt", 4, "decimal numbers, blanks"),
        ("eval m --ids one.txt", 6, "leave none to predict"),
        ("eval m --ids empty.txt", 6, "is empty"),
        ("eval m --text empty.txt", 6, "is empty"),
        ("eval m --text bad.txt", 4, "is not UTF-8 text"),
        ("eval m --text none.txt", 3, "cannot read none.txt"),
        ("eval bare --text t.txt", 6, "has no tokenizer"),
        ("eval m --ids ids.txt --context 257", 2, "longer than the 256 positions"),
        ("eval m --ids ids.txt --llama-windows --context 3", 2, "at least 4 tokens"),
        ("eval m --ids ids.txt --memory 1MiB", 2, "--context"),
        ("eval t5 --ids ids.txt", 6, "no forward pass for the architecture \"t5\""),
        ("eval m", 2, "--text"),
        ("eval m --ids ids.txt --per-position", 2, "--json"),
    ] {
        let ended = dir.run(line).exits(code);
        assert!(ended.err.contains(part), "{line}: {}", ended.err);
    }
}

/// Models with vocabularies of different lengths are not compared.
#[test]
fn eval_other_vocabulary_is_refused() {
    let dir = samples();
    let family = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families/llama");
    std::fs::create_dir(dir.at("f")).expect("a directory");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(family.join(file), dir.at("f").join(file)).expect("a copy");
    }
    let ended = dir.run("eval f --against m --ids ids.txt").exits(2);
    assert!(ended.err.contains("f has 64 entries, m has 4096"), "{}", ended.err);
}
