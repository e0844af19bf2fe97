//! `rotate`, and `quantize --rotate`: what is written, what is told, and what is refused.

use crate::errors::fails;
use crate::support::Dir;
use quantoscope_core::Code;
use quantoscope_tests::binary::{sample, tree};
use quantoscope_tests::forward::TestModel;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

fn family(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families").join(name)
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// What depends on headers only.
fn planned(mut report: Value) -> Value {
    let result = report["result"].as_object_mut().expect("a result");
    result.remove("gate");
    result.remove("source_sha256");
    for tensor in result["tensors"].as_array_mut().expect("tensors") {
        tensor.as_object_mut().expect("a tensor").remove("error");
    }
    report["result"].take()
}

#[test]
fn a_rotated_folder_is_the_same_model() {
    for (name, what) in
        [("llama_tied", "quarot,r2"), ("qwen2", "quarot"), ("qwen3_5", "quarot"), ("starcoder2", "r2,quarot")]
    {
        let dir = Dir::with_family(name);
        let line = format!("rotate m -o r --rotate {what} --type f32");
        dir.run(&line).exits(0);
        let before = tree(dir.path());
        fails(dir.run(&format!("{line} --json")), Code::Exists);
        assert_eq!(tree(dir.path()), before);
        let expected = json(&std::fs::read(family(name).join("expected.json")).expect("a file"));
        let ids: Vec<u32> =
            expected["tokens"].as_array().expect("ids").iter().map(|i| i.as_u64().unwrap() as u32).collect();
        let (source, rotated) = (TestModel::read(&dir.at("m")), TestModel::read(&dir.at("r")));
        let (a, b) = (source.logits(&ids).expect("logits"), rotated.logits(&ids).expect("logits"));
        let largest = a.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
        let off = a.iter().zip(&b).fold(0.0_f64, |m, (x, y)| m.max((x - y).abs()));
        assert!(off < 6e-6 * largest, "{name}: {off} of {largest}");
        assert!(off > 0.0, "{name}: something was rotated");
    }
}

/// Tied and untied: the plan tells the head that is made, and the real run is what was planned.
#[test]
fn dry_runs_are_real_runs() {
    for (name, tied) in [("llama_tied", true), ("llama", false)] {
        let dir = Dir::with_family(name);
        for line in [
            "rotate m -o r",
            "quantize m -o r.gguf --type q8_0 --rotate quarot,r2",
            "quantize m -o q --to q4 --rotate quarot --seed 42",
            "quantize m -o r.safetensors --type bf16 --rotate block:12",
        ] {
            let before = tree(dir.path());
            let dry = dir.run(&format!("{line} --dry-run --json")).exits(0).json();
            assert_eq!(tree(dir.path()), before, "{line}");
            let real = dir.run(&format!("{line} --json")).exits(0).json();
            assert_eq!(dry["result"].get("gate"), None);
            let gate = &real["result"]["gate"];
            assert!(gate["probe"]["max"].as_f64() <= gate["probe"]["limit"].as_f64(), "{gate}");
            let elements = real["result"]["rotation"]["elements"].as_u64();
            assert_eq!(gate["algebra_elements"].as_u64(), elements);
            let hashed = &real["result"]["source_sha256"][0];
            let weights = std::fs::read(dir.at("m").join("model.safetensors")).expect("the source");
            let sha256: String = Sha256::digest(weights).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!((hashed[0].as_str(), hashed[1].as_str()), (Some("model.safetensors"), Some(&*sha256)));
            let made = real["result"]["rotation"].get("made_head");
            assert_eq!(made, tied.then(|| Value::from("lm_head.weight")).as_ref(), "{line}");
            let totals = &real["result"]["totals"];
            let tensors = real["result"]["tensors"].as_array().expect("tensors");
            let float = |t: &&Value| ["F32", "F16", "BF16"].iter().any(|f| t["dtype_out"] == *f);
            let kept = tensors.iter().filter(float).count();
            let counts = (totals["kept"].as_u64(), totals["planned_quantized"].as_u64());
            assert_eq!(counts, (Some(kept as u64), Some((tensors.len() - kept) as u64)), "{line}");
            let written: u64 = match totals["total_bytes_out"].as_u64() {
                Some(bytes) => bytes,
                None => panic!("{totals}"),
            };
            let name = line.split_whitespace().nth(3).expect("a name");
            let at = dir.at(name);
            let on_disk: u64 = match at.is_dir() {
                true => std::fs::read_dir(&at)
                    .expect("a folder")
                    .map(|e| e.unwrap().metadata().unwrap().len())
                    .sum(),
                false => at.metadata().expect("a file").len(),
            };
            assert_eq!(written, on_disk, "{line}");
            assert_eq!(planned(dry), planned(real), "{line}");
        }
    }
}

#[test]
fn a_folder_is_whole_and_replaced_only_when_it_is_ours() {
    let dir = Dir::new();
    let line = format!("rotate {} -o r", sample().display());
    dir.run(&line).exits(0);
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    ] {
        assert!(dir.at("r").join(name).exists(), "{name}");
    }
    let tokenizer = |at: PathBuf| std::fs::read(at.join("tokenizer.json")).expect("a tokenizer");
    assert_eq!(tokenizer(dir.at("r")), tokenizer(sample()));
    let first = std::fs::read(dir.at("r").join("model.safetensors")).expect("weights");
    dir.run(&format!("{line} --force --seed 7")).exits(0);
    let second = std::fs::read(dir.at("r").join("model.safetensors")).expect("weights");
    assert_ne!(first, second, "another seed");
    let header = String::from_utf8_lossy(&second[8..2000]).into_owned();
    for recorded in ["0x0000000000000007", r#"rules\":1"#, "header_sha256", r#"family\":\"llama"#] {
        assert!(header.contains(recorded), "{recorded} in {header}");
    }
    std::fs::create_dir(dir.at("theirs")).expect("a directory");
    std::fs::write(dir.at("theirs").join("notes.txt"), "mine").expect("a file");
    fails(dir.run(&format!("rotate {} -o theirs --force --json", sample().display())), Code::Exists);
    assert_eq!(std::fs::read(dir.at("theirs").join("notes.txt")).expect("a file"), b"mine");
}

#[test]
fn the_bytes_depend_on_nothing_but_the_wish() {
    let dir = Dir::with_family("mixtral");
    let mut all = Vec::new();
    for (n, options) in ["", "-j 1", "-j 5 --memory 4MiB", "--engine scalar", "--no-measure", "--memory 1GiB"]
        .iter()
        .enumerate()
    {
        dir.run(&format!("quantize m -o {n}.gguf --type q8_0 --rotate quarot,r2 {options}")).exits(0);
        all.push(std::fs::read(dir.at(&format!("{n}.gguf"))).expect("a file"));
    }
    assert!(all.windows(2).all(|w| w[0] == w[1]));
}

#[test]
fn what_is_not_exact_is_refused_by_name() {
    let refusals = |name: &str, line: &str, words: &[&str]| {
        let dir = Dir::with_family(name);
        let before = tree(dir.path());
        let ended = dir.run(&format!("{line} --json")).exits(6);
        let message = ended.error().to_string();
        assert_eq!(ended.error()["code"], "unsupported_rotation", "{message}");
        words.iter().for_each(|w| assert!(message.contains(w), "{w:?} in {message}"));
        assert_eq!(tree(dir.path()), before);
    };
    refusals("gemma3", "rotate m -o r", &["R1", "gemma3", "gains on the outputs of the branches"]);
    refusals("qwen3_5", "rotate m -o r --rotate quarot,r2", &["R2", "sigmoid gate"]);
    refusals("starcoder2", "rotate m -o r --rotate block:8", &["subtract the mean"]);
    refusals("llama", "rotate m -o r --rotate block:7", &["does not divide"]);
    refusals("llama", "quantize m -o r.gguf --type q8_0 --rotate block:10", &["does not divide"]);
}

/// Where no forward pass covers a model, nothing is written without `--allow-unprobed`.
#[test]
fn a_family_that_cannot_be_tried_needs_leave() {
    let dir = Dir::with_family("falcon");
    let config = String::from_utf8(dir.read("m/config.json")).expect("text");
    dir.write("m/config.json", config.replace("\"alibi\": false", "\"alibi\": true").as_bytes());
    let before = tree(dir.path());
    let ended = dir.run("rotate m -o r --rotate r2 --json").exits(6);
    assert!(ended.error().to_string().contains("--allow-unprobed"), "{}", ended.error());
    assert_eq!(tree(dir.path()), before);
    let report = dir.run("rotate m -o r --rotate r2 --allow-unprobed --json").exits(0).json();
    assert!(report["result"]["gate"]["unprobed"].is_string(), "{}", report["result"]["gate"]);
}

#[test]
fn a_gate_that_fails_writes_nothing() {
    let dir = Dir::with_family("llama");
    let before = tree(dir.path());
    let ended = dir.run("rotate m -o r --tolerance 1e-12 --json").exits(5);
    assert_eq!(ended.error()["code"], "rotation_off");
    assert_eq!(tree(dir.path()), before);
    for bad in ["--tolerance 0", "--tolerance nan", "--probe-tokens 0", "--seed 0x", "--rotate spin"] {
        dir.run(&format!("rotate m -o r {bad} --json")).exits(2);
    }
    dir.run("quantize m -o r.gguf --type q8_0 --rotate quarot --imatrix none.gguf --json").exits(3);
}

#[test]
fn a_model_without_a_configuration_is_refused() {
    let dir = Dir::with_family("llama");
    std::fs::remove_file(dir.at("m").join("config.json")).expect("removed");
    let ended = dir.run("rotate m -o r --json").exits(6);
    assert!(ended.error().to_string().contains("config.json"), "{}", ended.error());
}

/// A rotated artefact says by which recipe it was made, and is held against its source by it.
#[test]
fn rotated_artefacts_are_verified_against_their_source() {
    let dir = Dir::with_family("qwen3_moe");
    for line in [
        "rotate m -o r --rotate quarot,r2 --seed 5",
        "quantize m -o r.gguf --type q8_0 --rotate quarot",
        "quantize m -o q --to q4 --rotate quarot --q4-scheme sym",
        "quantize m -o both --to q4 --rotate quarot,r2",
        "quantize m -o values --to q4 --rotate r2",
        "quantize m -o r.safetensors --type f16 --rotate block:8",
    ] {
        dir.run(line).exits(0);
        let name = line.split_whitespace().nth(3).expect("a name");
        let verify = format!("verify {name} --against m --json");
        let report = dir.run(&verify).exits(0).json();
        assert_eq!(report["verified"], true, "{line}");
        let at = match dir.at(name).is_dir() {
            false => name.to_string(),
            true => dir
                .names()
                .into_iter()
                .find(|n| {
                    n.starts_with(&format!("{name}/")) && n.contains("down_proj")
                        || name == "r" && n == "r/model.safetensors"
                })
                .expect("a file"),
        };
        let mut bytes = dir.read(&at);
        let last = bytes.len() * 3 / 4;
        bytes[last] ^= 0x11; // not at the end, where padding is
        dir.write(&at, &bytes);
        dir.run(&verify).exits(5);
    }
}
