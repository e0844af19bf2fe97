//! Checkpoints whose weights are stored as several tensors, from `inspect` to `rotate`.

use crate::support::Dir;
use std::path::Path;

/// A copy of a case of the conversion corpus in `m`.
fn case(name: &str) -> Dir {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/conversion/corpus").join(name).join("hf");
    let dir = Dir::new();
    std::fs::create_dir(dir.at("m")).expect("a directory");
    for entry in std::fs::read_dir(folder).expect("a case") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, dir.at("m").join(path.file_name().expect("a name"))).expect("a copy");
    }
    dir
}

const FP8: &str = "deepseek-v3-fp8";
const MXFP4: &str = "gpt-oss-mxfp4";

#[test]
fn inspect_packed_weights_shows_one_tensor_with_its_parts() {
    for (name, tensor, label, shape, parts) in [
        (
            FP8,
            "model.layers.0.mlp.down_proj.weight",
            "FP8 E4M3, 16x16 scales",
            [32, 48].to_vec(),
            ["weight", "weight_scale_inv"],
        ),
        (
            MXFP4,
            "model.layers.0.mlp.experts.gate_up_proj",
            "MXFP4 (gpt-oss)",
            [4, 64, 64].to_vec(),
            ["gate_up_proj_blocks", "gate_up_proj_scales"],
        ),
    ] {
        let dir = case(name);
        let json = dir.run("inspect m --json").exits(0).json();
        let all = json["tensors"].as_array().expect("tensors");
        let row = all.iter().find(|t| t["name"] == tensor).expect("the weight");
        assert_eq!((row["dtype"].as_str(), &row["shape"]), (Some(label), &serde_json::json!(shape)));
        let named: Vec<&str> =
            row["parts"].as_array().expect("parts").iter().filter_map(|p| p["name"].as_str()).collect();
        assert!(named.iter().zip(parts).all(|(name, part)| name.ends_with(part)), "{named:?}");
        let bytes = |v: &serde_json::Value| v["bytes"].as_u64().expect("bytes");
        assert_eq!(bytes(row), row["parts"].as_array().expect("parts").iter().map(bytes).sum::<u64>());
        let elements: u64 = all.iter().map(|t| t["numel"].as_u64().expect("a number")).sum();
        assert_eq!(json["parameters"].as_u64(), Some(elements), "{json}");
        let text = dir.run("inspect m").exits(0).out;
        assert!(text.contains(label) && text.contains(&format!("part {}", parts[1])), "{text}");
        dir.run("inspect m --stats --json").exits(0);
    }
}

#[test]
fn every_verb_takes_packed_weights() {
    for (name, more) in [(FP8, ""), (MXFP4, " --allow-requantize")] {
        let dir = case(name);
        let pre = " --names gguf --pre-tokenizer llama-bpe";
        dir.run(&format!("plan m --recipe q4_k_m{more}{pre}")).exits(0);
        dir.run("sweep m --json").exits(0);
        dir.run(&format!("quantize m -o a.gguf --type q8_0 --pure{more}{pre}")).exits(0);
        for threads in [1, 3] {
            let line = format!(
                "quantize m -o b.gguf --type q8_0 --pure --threads {threads} --memory 1M{more}{pre} --force"
            );
            dir.run(&line).exits(0);
            assert!(dir.read("a.gguf") == dir.read("b.gguf"), "{threads} threads");
        }
        dir.run("verify a.gguf --against m").exits(0);
        let json = dir.run("compare m a.gguf --json").exits(0).json();
        assert_eq!(json["findings"].as_array().map(Vec::len), Some(0), "{}", json["findings"]);
        dir.run(&format!("quantize m -o f --to hf --type bf16{more}")).exits(0);
        let json = dir.run("inspect f --json").exits(0).json();
        assert!(json["tensors"].as_array().expect("tensors").iter().all(|t| t["parts"].is_null()));
        let config = String::from_utf8(dir.read("f/config.json")).expect("text");
        assert!(!config.contains("quantization_config"), "{config}");
        dir.run(&format!("quantize m -o r.gguf --type bf16 --rotate quarot{more}{pre}")).exits(0);
        dir.run("verify r.gguf --against m").exits(0);
        // A folder of rotated weights holds plain ones.
        let folder = dir.run("rotate m -o r --type bf16");
        if name == FP8 {
            folder.exits(0);
            dir.run("verify r --against m").exits(0);
        } else {
            assert!(folder.exits(6).err.contains("MXFP4 (gpt-oss)"));
        }
    }
}

#[test]
fn four_bits_are_not_quantized_again_without_a_flag() {
    let dir = case(MXFP4);
    let told =
        dir.run("quantize m -o a.gguf --recipe q4_k_m --names gguf --pre-tokenizer gpt-4o").exits(6).err;
    assert!(told.contains("--allow-requantize"), "{told}");
    dir.run("quantize m -o a.gguf --recipe bf16 --names gguf --pre-tokenizer gpt-4o").exits(0);
    let json = dir.run("inspect a.gguf --json").exits(0).json();
    let experts =
        json["tensors"].as_array().expect("tensors").iter().filter(|t| t["dtype"] == "MXFP4").count();
    assert_eq!(experts, 6);
}

/// Splitting and merging copies the parts as they are.
#[test]
fn split_and_merge_keep_the_parts() {
    for name in [FP8, MXFP4] {
        let dir = case(name);
        dir.run("split m -o s --split-max-tensors 7").exits(0);
        dir.run("merge s -o t").exits(0);
        let tensors =
            |path: &str| dir.run(&format!("inspect {path} --json")).exits(0).json()["tensors"].clone();
        let (a, b) = (tensors("m"), tensors("t"));
        let named = |v: &serde_json::Value| {
            let all = v.as_array().expect("tensors").iter();
            let mut all: Vec<(String, usize)> =
                all.map(|t| (t["name"].to_string(), t["parts"].as_array().map_or(0, Vec::len))).collect();
            all.sort();
            all
        };
        let (a, b) = (named(&a), named(&b));
        let names = |all: &[(String, usize)]| all.iter().map(|t| t.0.clone()).collect::<Vec<_>>();
        assert_eq!(names(&a), names(&b));
        assert!(b.iter().any(|t| t.1 == 2), "{b:?}");
        let json = dir.run("compare m t --json").exits(0).json();
        assert_eq!(json["findings"].as_array().map(Vec::len), Some(0), "{}", json["findings"]);
    }
}

#[test]
fn missing_scale_is_named_by_every_command() {
    let dir = case(FP8);
    let bytes = dir.read("m/model.safetensors");
    // The name of a scale in the header, changed to one of the same length.
    let name = b"model.layers.0.mlp.up_proj.weight_scale_inv";
    let at = bytes.windows(name.len()).position(|w| w == name).expect("the scale");
    let mut spoiled = bytes.clone();
    spoiled[at + name.len() - 1] = b'w';
    dir.write("m/model.safetensors", &spoiled);
    for line in ["plan m --type q8_0", "sweep m", "compare m m", "quantize m -o o.gguf --type q8_0"] {
        let told = dir.run(line).exits(4).err;
        assert!(told.contains("model.layers.0.mlp.up_proj.weight: its scale is missing"), "{line}: {told}");
    }
    dir.run("inspect m").exits(0);
}
