//! The recorded variants of llama.cpp's converter, made by the command line: whole files, byte for byte.

use crate::support::Dir;
use quantoscope_tests::binary;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/conversion/corpus")
}

/// Copies the checkpoint of `case` into a folder of the name that the converter saw.
pub fn present(dir: &Dir, case: &str, name: &str) {
    copy(&corpus().join(case).join("hf"), &dir.at(name));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &to),
            false => _ = fs::copy(&path, &to).expect("a copy"),
        }
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The options of ours that are the recorded arguments of the converter.
fn options(dir: &Dir, arguments: &Value) -> Vec<String> {
    let mut options = Vec::new();
    for (name, value) in arguments.as_object().expect("arguments") {
        let text = value.as_str().map_or_else(|| value.to_string(), String::from);
        match name.as_str() {
            "split_max_tensors" => options.extend(["--split-max-tensors".to_string(), text]),
            "split_max_size" => options.extend(["--split-max-size".to_string(), text]),
            "small_first_shard" => options.push("--no-tensor-first-split".into()),
            "vocab_only" => options.push("--vocab-only".into()),
            "no_mtp" => options.push("--no-mtp".into()),
            "fuse_qkv" => options.push("--fuse-qkv".into()),
            "fuse_gate_up_exps" => options.push("--fuse-gate-up-exps".into()),
            "model_name" => options.extend(["--model-name".to_string(), text]),
            "metadata_override" => {
                dir.write("override.json", value.to_string().as_bytes());
                options.extend(["--metadata".to_string(), "override.json".to_string()]);
            }
            other => panic!("the test does not know the argument {other}"),
        }
    }
    options
}

#[test]
fn every_recorded_variant_equals_the_converters_files() {
    let mut variants = 0;
    for case in ["qwen2", "qwen3-next"] {
        for entry in fs::read_dir(corpus().join(case)).expect("a case") {
            let path = entry.expect("an entry").path();
            let file = path.file_name().and_then(|n| n.to_str()).expect("a name");
            if file == "expected.json" || !file.starts_with("expected.") {
                continue;
            }
            variants += 1;
            let expected: Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
            let folder = expected["input_folder_name"].as_str().expect("a name");
            let dir = Dir::new();
            present(&dir, case, folder);
            let files = expected["files"].as_array().expect("files");
            let mut args: Vec<String> = ["quantize", folder, "-o", "out.gguf", "--compat", "llama.cpp"]
                .map(String::from)
                .into_iter()
                .chain(["--pre-tokenizer", "qwen2", "--recipe"].map(String::from))
                .collect();
            args.push(expected["outtype"].as_str().expect("a type").into());
            args.extend(options(&dir, &expected["arguments"]));
            binary::run(dir.path(), &args).exits(0);
            for (i, recorded) in files.iter().enumerate() {
                let name = match files.len() {
                    1 => "out.gguf".to_string(),
                    n => format!("out-{:05}-of-{n:05}.gguf", i + 1),
                };
                let made = dir.read(&name);
                assert_eq!(made.len() as u64, recorded["file_bytes"], "{file} {name}");
                assert_eq!(sha256(&made), recorded["file_sha256"].as_str().expect("a hash"), "{file} {name}");
            }
            let left: Vec<String> = dir.names().into_iter().filter(|n| n.contains("partial")).collect();
            assert_eq!(left, Vec::<String>::new(), "{file}");
        }
    }
    assert_eq!(variants, 8);
}

/// The types that the converter recorded, through the command line.
#[test]
fn recorded_types_equal_the_converters_files() {
    let mut made = 0;
    for (case, pre) in [("qwen2", "qwen2"), ("llama3-bpe", "llama-bpe"), ("gemma2", "default")] {
        let expected = fs::read(corpus().join(case).join("expected.json")).expect("a file");
        let expected: Value = serde_json::from_slice(&expected).expect("JSON");
        let folder = expected["input_folder_name"].as_str().expect("a name");
        let dir = Dir::new();
        present(&dir, case, folder);
        for (outtype, run) in expected["runs"].as_object().expect("runs") {
            let out = format!("{outtype}.gguf");
            let fixed = ["--compat", "llama.cpp", "--pre-tokenizer", pre, "--recipe", outtype];
            let args = ["quantize", folder, "-o", &out].into_iter().chain(fixed);
            binary::run(dir.path(), args).exits(0);
            assert_eq!(
                sha256(&dir.read(&out)),
                run["file_sha256"].as_str().expect("a hash"),
                "{case} {outtype}"
            );
            made += 1;
        }
    }
    assert!(made >= 10, "{made}");
}
