//! `--to hf`: a GGUF becomes a Hugging Face folder again.

use crate::support::Dir;
use serde_json::Value;
use std::path::Path;

/// The checkpoint of a case of the corpus.
fn case(name: &str) -> String {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/conversion/corpus");
    corpus.join(name).join("hf").to_str().expect("a path").to_string()
}

/// Metadata and tensors of a file, without the record of its recipe.
fn inspected(dir: &Dir, file: &str) -> (Value, Value) {
    let mut report = dir.run(&format!("inspect {file} --json")).exits(0).json();
    let keys = report["metadata"].as_object_mut().expect("metadata");
    keys.remove("quantoscope.recipe");
    (report["metadata"].take(), report["tensors"].take())
}

#[test]
fn gguf_becomes_a_folder_and_the_same_gguf_again() {
    for (name, pre, tokenizer) in [
        ("llama3-bpe", "--pre-tokenizer llama-bpe", "tokenizer.json"),
        ("gemma3", "", "tokenizer.model"),
        ("phi3-longrope", "", "tokenizer.model"),
    ] {
        let dir = Dir::new();
        dir.run(&format!("quantize {} -o a.gguf {pre}", case(name))).exits(0);
        dir.run("quantize a.gguf -o back --to hf").exits(0);
        for file in
            ["back/config.json", "back/tokenizer_config.json", "back/README.md", "back/model.safetensors"]
        {
            assert!(!dir.read(file).is_empty(), "{name}: {file}");
        }
        assert!(!dir.read(&format!("back/{tokenizer}")).is_empty(), "{name}");
        dir.run("quantize back -o b.gguf").exits(0);
        let (one, two) = (inspected(&dir, "a.gguf"), inspected(&dir, "b.gguf"));
        assert_eq!(one.0, two.0, "{name}");
        let held = |tensors: &Value| -> Vec<(String, String, String)> {
            let of = |t: &Value| (t["name"].to_string(), t["dtype"].to_string(), t["shape"].to_string());
            let mut all: Vec<_> = tensors.as_array().expect("tensors").iter().map(of).collect();
            all.sort();
            all
        };
        assert_eq!(held(&one.1), held(&two.1), "{name}");
        dir.run("compare a.gguf back --threshold 0.999999").exits(0);
        dir.run("compare back b.gguf --threshold 0.999999").exits(0);
    }
}

#[test]
fn what_cannot_be_given_back_is_refused_before_anything_is_written() {
    let dir = Dir::new();
    dir.run(&format!("quantize {} -o a.gguf --pre-tokenizer llama4", case("llama4"))).exits(0);
    let ended = dir.run("quantize a.gguf -o back --to hf").exits(6);
    ended.says("model.layers.1.feed_forward.experts.gate_up_proj").says("model.layers.3.feed_forward");
    assert_eq!(dir.names(), ["a.gguf"]);
    dir.run("quantize a.gguf -o own --to hf --names source --type f32").exits(0);
    assert_eq!(dir.names(), ["a.gguf", "own/model.safetensors"]);
}

#[test]
fn one_type_for_all_tensors_where_it_is_asked_for() {
    let dir = Dir::new();
    dir.run(&format!("quantize {} -o a.gguf --recipe q8_0 --pre-tokenizer qwen2", case("qwen2"))).exits(0);
    for (options, expected) in [("", "BF16"), ("--type f32", "F32"), ("--type f16", "F16")] {
        dir.run(&format!("quantize a.gguf -o back --to hf --force {options}")).exits(0);
        let (_, tensors) = inspected(&dir, "back");
        let all = tensors.as_array().expect("tensors");
        let other = all.iter().find(|t| t["dtype"] != expected && t["dtype"] != "F16");
        assert!(other.is_none(), "{options}: {other:?}");
    }
    dir.run(&format!("quantize {} -o folder --to hf", case("qwen2"))).exits(2).says("a type is needed");
    dir.run("quantize a.gguf -o back --to hf --type q4_0 --force").exits(2);
    dir.run("quantize a.gguf -o back --to hf --force --exclude blk.0.*").exits(2).says("--names source");
}

/// A second run replaces what the first one wrote, except for a model card that was edited.
#[test]
fn edited_model_card_is_never_replaced() {
    let dir = Dir::new();
    dir.run(&format!("quantize {} -o a.gguf --pre-tokenizer qwen2", case("qwen2"))).exits(0);
    dir.run("quantize a.gguf -o back --to hf").exits(0);
    let card = dir.read("back/README.md");
    dir.run("quantize a.gguf -o back --to hf --force").exits(0);
    assert!(dir.read("back/README.md") == card);
    for edited in [[&card[..], b"mine\n"].concat(), [b"mine\n", &card[..]].concat(), b"mine\n".to_vec()] {
        dir.write("back/README.md", &edited);
        dir.run("quantize a.gguf -o back --to hf --force").exits(2).says("README.md");
        assert!(dir.read("back/README.md") == edited);
    }
}
