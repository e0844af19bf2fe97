//! `rotate --adapter`: what is written, what goes with it, and what is refused.

use crate::errors::fails;
use crate::support::Dir;
use quantoscope_core::{Code, DType};
use quantoscope_tests::binary::tree;
use quantoscope_tests::models::{Rng, Tensor, safetensors};
use std::path::{Path, PathBuf};

const CONFIG: &str = r#"{"peft_type": "LORA", "r": 2, "base_model_name_or_path": "somebody/model"}"#;
const LAYER: &str = "base_model.model.model.layers.1";

/// Mixtral's fixture in `m`, an adapter of some of its modules in `a`.
fn with_adapter() -> Dir {
    let dir = Dir::new();
    for name in ["m", "a"] {
        std::fs::create_dir(dir.at(name)).expect("a directory");
    }
    let family: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families/mixtral");
    for file in ["model.safetensors", "config.json"] {
        std::fs::copy(family.join(file), dir.at("m").join(file)).expect("a copy");
    }
    dir.write("a/adapter_model.safetensors", &safetensors(&tensors()));
    dir.write("a/adapter_config.json", CONFIG.as_bytes());
    dir.write("a/README.md", b"what it was trained on");
    dir.write("a/tokenizer.json", b"{}");
    dir.write("a/optimizer.pt", b"no part of an adapter");
    dir
}

fn tensors() -> Vec<Tensor> {
    let mut rng = Rng(5);
    let mut all = Vec::new();
    for (module, inputs, outputs) in [
        ("self_attn.v_proj", 24, 8),
        ("self_attn.o_proj", 16, 24),
        ("block_sparse_moe.gate", 24, 4),
        ("block_sparse_moe.experts.3.w2", 12, 24),
    ] {
        all.push(Tensor::random(
            &format!("{LAYER}.{module}.lora_A.weight"),
            DType::BF16,
            &[2, inputs],
            &mut rng,
        ));
        all.push(Tensor::random(
            &format!("{LAYER}.{module}.lora_B.weight"),
            DType::BF16,
            &[outputs, 2],
            &mut rng,
        ));
    }
    all
}

#[test]
fn an_adapter_is_turned_with_its_model() {
    let dir = with_adapter();
    dir.run("rotate m -o r --rotate quarot,r2 --seed 7").exits(0);
    let line = "rotate m --adapter a --rotated r -o ra";
    let before = tree(dir.path());
    let dry = dir.run(&format!("{line} --dry-run --json")).exits(0).json();
    assert_eq!(tree(dir.path()), before);
    let mut real = dir.run(&format!("{line} --json")).exits(0).json();
    let result = real["result"].as_object_mut().expect("a result");
    let gate = result.remove("gate").expect("a gate");
    let hashed = result.remove("source_sha256").expect("the adapter's hash");
    assert_eq!(hashed[0][0], "adapter_model.safetensors");
    assert_eq!(dry["result"], real["result"]);
    let rotation = &real["result"]["rotation"];
    assert_eq!(rotation["seed"], "0x0000000000000007");
    assert_eq!(gate["algebra_elements"], rotation["elements"]);
    // Both of the values and of what reads them, else the side on the stream.
    assert_eq!(rotation["tensors"], 6);
    assert_eq!(rotation["sources"].as_array().map(Vec::len), Some(2));
    assert_eq!(real["result"]["warnings"][0]["code"], "base_not_renamed");
    let mut names: Vec<String> = std::fs::read_dir(dir.at("ra"))
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    assert_eq!(names, ["README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"]);
    for name in ["README.md", "adapter_config.json", "tokenizer.json"] {
        assert_eq!(dir.read(&format!("ra/{name}")), dir.read(&format!("a/{name}")), "{name}");
    }
    // The same by typing what is recorded, on any engine, with any number of threads.
    dir.run("rotate m --adapter a -o rb --rotate quarot,r2 --seed 7 -j 1 --engine scalar").exits(0);
    assert_eq!(dir.read("ra/adapter_model.safetensors"), dir.read("rb/adapter_model.safetensors"));
    dir.run("rotate m --adapter a -o rc --rotate quarot,r2 --seed 8").exits(0);
    assert_ne!(dir.read("ra/adapter_model.safetensors"), dir.read("rc/adapter_model.safetensors"));
    let text = dir.run("rotate m --adapter a -o rd --type f32").exits(0);
    assert!(text.out.contains("an adapter alone computes nothing"), "{}", text.out);
    assert!(text.err.contains("somebody/model"), "{}", text.err);
}

#[test]
fn an_adapter_is_replaced_only_where_it_is_ours() {
    let dir = with_adapter();
    dir.run("rotate m --adapter a -o ra").exits(0);
    fails(dir.run("rotate m --adapter a -o ra --json"), Code::Exists);
    let first = dir.read("ra/adapter_model.safetensors");
    dir.run("rotate m --adapter a -o ra --seed 9 --force").exits(0);
    assert_ne!(dir.read("ra/adapter_model.safetensors"), first);
    dir.run("rotate m --adapter a -o ra --force").exits(0);
    assert_eq!(dir.read("ra/adapter_model.safetensors"), first);
    let before = tree(dir.path());
    for (output, code) in [("a", Code::SameFile), ("m", Code::SameFile), ("a/", Code::SameFile)] {
        fails(dir.run(&format!("rotate m --adapter a -o {output} --force --json")), code);
    }
    assert_eq!(tree(dir.path()), before);
    dir.run("rotate m -o r").exits(0);
    fails(dir.run("rotate m --adapter a --rotated r -o r --force --json"), Code::SameFile);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let dir = with_adapter();
    dir.run("rotate m -o r --seed 7").exits(0);
    dir.run("rotate m --adapter a -o ra --seed 7").exits(0);
    let before = tree(dir.path());
    for (line, code) in [
        ("rotate m --adapter a --rotated r --seed 8 -o x", Code::Usage),
        ("rotate m --adapter a --rotated r --rotate quarot,r2 -o x", Code::Usage),
        ("rotate m --rotated r -o x", Code::Usage),
        ("rotate m --adapter a --rotated m -o x", Code::UnsupportedRotation),
        ("rotate m --adapter m -o x", Code::NotFound),
        ("rotate r --adapter a -o x", Code::UnsupportedRotation),
        ("rotate m --adapter ra -o x", Code::UnsupportedRotation),
        ("rotate m --adapter nowhere -o x", Code::NotFound),
        ("rotate m --adapter a --rotate r3 -o x", Code::Usage),
        ("rotate m --adapter a --type q4_0 -o x", Code::Usage),
    ] {
        fails(dir.run(&format!("{line} --json")), code);
    }
    assert_eq!(tree(dir.path()), before);
    let mut more = tensors();
    let unknown = format!("{LAYER}.self_attn.qkv_proj.lora_A.weight");
    more.push(Tensor::random(&unknown, DType::BF16, &[2, 24], &mut Rng(1)));
    dir.write("a/adapter_model.safetensors", &safetensors(&more));
    let told = dir.run("rotate m --adapter a -o x").exits(6);
    assert!(told.err.contains(&unknown), "{}", told.err);
    assert!(!dir.at("x").exists() && !dir.at("x.partial").exists());
}
