//! The recorded variants of llama.cpp's converter, made by the command line: whole files, byte for byte.

use crate::support::Dir;
use quantoscope_core::tensor::MetaValue;
use quantoscope_tests::binary;
use quantoscope_tests::memory::MemoryModel;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/conversion/corpus")
}

/// Copies the checkpoint of `case` into a folder of the name that the converter saw.
pub(crate) fn present(dir: &Dir, case: &str, name: &str) {
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

pub(crate) fn sha256(bytes: &[u8]) -> String {
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

/// The metadata of a GGUF in the directory.
fn keys(dir: &Dir, name: &str) -> Vec<(String, MetaValue)> {
    MemoryModel::file(name, dir.read(name)).expect("a sound GGUF").checkpoint.metadata.0
}

#[test]
fn options_that_an_architecture_has_nothing_for_are_refused_or_named() {
    for (case, pre, option, code, words) in [
        ("qwen2", "qwen2", "--no-mtp", 6, "no multi-token predictor"),
        ("qwen2", "qwen2", "--fuse-gate-up-exps", 6, "no tensor ffn_gate_up_exps"),
        ("qwen3-moe", "qwen2", "--fuse-gate-up-exps", 6, "\"qwen3moe\""),
        ("deepseek-v3", "deepseek-v3", "--fuse-qkv", 0, "--fuse-qkv has no effect"),
        ("qwen2", "qwen2", "--metadata none.json", 3, "none.json"),
        ("qwen2", "qwen2", "--override-kv a=int:x", 2, "\"x\" is not a value of the type int"),
        ("qwen2", "qwen2", "--override-kv split.no=u16:1", 2, "belongs to the layout"),
    ] {
        let dir = Dir::new();
        present(&dir, case, "m");
        let line = format!("quantize m -o o.gguf --recipe bf16 --pre-tokenizer {pre} {option}");
        dir.run(&line).exits(code).says(words);
    }
}

/// Fused tensors hold the rows of their parts.
#[test]
fn fused_tensors_hold_the_rows_of_their_parts() {
    for (case, pre, option, fused, parts) in [
        ("llama3-bpe", "llama-bpe", "--fuse-qkv", "attn_qkv", &["attn_q", "attn_k", "attn_v"][..]),
        ("qwen3-next", "qwen2", "--fuse-gate-up-exps", "ffn_gate_up_exps", &["ffn_gate_exps", "ffn_up_exps"]),
    ] {
        let dir = Dir::new();
        present(&dir, case, "m");
        let line = format!("quantize m --recipe f32 --pre-tokenizer {pre}");
        dir.run(&format!("{line} -o plain.gguf")).exits(0);
        dir.run(&format!("{line} -o fused.gguf {option}")).exits(0);
        dir.run("verify fused.gguf --against m").exits(0);
        let open = |name: &str| MemoryModel::file(name, dir.read(name)).expect("a sound GGUF");
        let (plain, made) = (open("plain.gguf"), open("fused.gguf"));
        let name = |part: &str| format!("blk.1.{part}.weight");
        let stack =
            made.checkpoint.tensors.iter().find(|t| *t.name == name(fused)).expect("the fused tensor");
        let experts = if stack.shape.axes().len() == 3 { stack.shape.axes()[0] as usize } else { 1 };
        let mut joined = Vec::new();
        for expert in 0..experts {
            for part in parts {
                let bytes = plain.tensor(&name(part));
                let each = bytes.len() / experts;
                joined.extend_from_slice(&bytes[expert * each..(expert + 1) * each]);
            }
        }
        assert!(made.tensor(&name(fused)) == joined, "{case}");
        assert!(made.checkpoint.tensors.iter().all(|t| parts.iter().all(|p| *t.name != name(p))), "{case}");
    }
}

#[test]
fn overridden_keys_are_the_last_ones() {
    let dir = Dir::new();
    present(&dir, "qwen2", "m");
    let line = "quantize m -o a.gguf --recipe f16 --pre-tokenizer qwen2 --compat llama.cpp";
    dir.run(line).exits(0);
    let overrides = "--override-kv qwen2.context_length=int:4096 --override-kv general.name=str:New \
                     --override-kv own.list=[i16]:[1,-2] --override-kv own.f=float:0.5";
    let check = |name: &str, before: usize| {
        let keys = keys(&dir, name);
        let count = |key: &str| keys.iter().filter(|(k, _)| k == key).count();
        assert_eq!((count("qwen2.context_length"), count("general.name")), (1, 1));
        let last: Vec<&str> = keys[keys.len() - 4..].iter().map(|(k, _)| k.as_str()).collect();
        assert_eq!(last, ["qwen2.context_length", "general.name", "own.list", "own.f"]);
        assert_eq!(keys[keys.len() - 4].1, MetaValue::U32(4096));
        assert_eq!(keys[keys.len() - 1].1, MetaValue::F32(0.5));
        assert_eq!(keys.len(), before + 2);
    };
    let before = keys(&dir, "a.gguf").len();
    dir.run(&format!("{} {overrides} --force", line.replace("f16", "f32"))).exits(0);
    check("a.gguf", before);
    // A GGUF of any architecture.
    dir.run(&format!("quantize a.gguf -o b.gguf --type q8_0 --compat llama.cpp {overrides}")).exits(0);
    check("b.gguf", before);
    // The vocabulary of a GGUF alone.
    dir.run("quantize a.gguf -o v.gguf --vocab-only").exits(0);
    let vocabulary = MemoryModel::file("v.gguf", dir.read("v.gguf")).expect("a sound GGUF");
    assert!(vocabulary.checkpoint.tensors.is_empty());
    assert!(keys(&dir, "v.gguf").iter().any(|(k, _)| k == "tokenizer.ggml.tokens"));
}

/// The tensors of a vision tower are left out and named; their projector is refused with the option's word.
#[test]
fn vision_tower_is_left_out_by_name_and_its_projector_refused() {
    let dir = Dir::new();
    present(&dir, "qwen3.5", "m");
    let line = "quantize m -o o.gguf --recipe bf16 --pre-tokenizer qwen35";
    dir.run(&format!("{line} --mmproj")).exits(6).says("--mmproj is not supported");
    assert!(!dir.names().contains(&"o.gguf".to_string()));
    let made = dir.run(line).exits(0);
    let said = made.err.lines().find(|l| l.contains("vision or audio towers")).expect("a warning");
    assert!(said.contains("(first: model.visual."), "{said}");
    let model = MemoryModel::file("o.gguf", dir.read("o.gguf")).expect("a sound GGUF");
    assert!(model.checkpoint.tensors.iter().all(|t| !t.name.contains("visual")));
}
