//! `quantize --to mlx`: the folder, its size before and after, verification, resumption, refusals.

use crate::errors::fails;
use crate::resume::{begun, signalled};
use crate::support::Dir;
use quantoscope_core::{Code, DType};
use quantoscope_tests::binary;
use quantoscope_tests::models::{Rng, Tensor, safetensors};
use std::time::Duration;

#[test]
fn mlx_folder_has_the_planned_bytes_and_is_identical_to_its_source() {
    let dir = Dir::with_model_directory(false);
    dir.write("m/tokenizer.json", b"{}");
    for (name, options) in [
        ("a", "--type mlx_q4_g32"),
        ("b", "--recipe mixed_3_6"),
        ("c", "--type bf16"),
        ("d", "--type mlx_q8 --rotate quarot --allow-unprobed"),
    ] {
        // The mixed recipe needs the number of layers.
        let config = r#"{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}"#;
        dir.write("m/config.json", config.as_bytes());
        let line = format!("quantize m -o {name} --to mlx {options} --json");
        let dry = dir.run(&format!("{line} --dry-run")).exits(0).json();
        dir.run(&line).exits(0);
        let files = dir.names_in(name);
        assert_eq!(
            files,
            ["config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json"]
        );
        let sizes: u64 = files.iter().map(|f| dir.read(&format!("{name}/{f}")).len() as u64).sum();
        assert_eq!(dry["result"]["totals"]["total_bytes_out"], sizes, "{options}");
        dir.run(&format!("verify {name} --against m")).exits(0);
        dir.run(&format!("verify {name}")).exits(0);
        dir.run(&format!("quantize m -o {name}2 --to mlx {options} --threads 1 --memory 1MB")).exits(0);
        for file in &files {
            assert!(dir.read(&format!("{name}/{file}")) == dir.read(&format!("{name}2/{file}")), "{file}");
        }
    }
}

#[test]
fn verify_names_the_weight_of_a_changed_code_scale_or_bias() {
    let dir = Dir::with_model_directory(false);
    dir.run("quantize m -o x --to mlx --type mlx_q4_g32").exits(0);
    let whole = dir.read("x/model.safetensors");
    let header = String::from_utf8_lossy(&whole).into_owned();
    let length = u64::from_le_bytes(whole[..8].try_into().expect("8 bytes"));
    for part in ["weight", "scales", "biases"] {
        let name = format!("model.layers.1.mlp.up_proj.{part}");
        let entry = header.split(&format!("\"{name}\"")).nth(1).expect("an entry");
        let offset =
            entry.split("\"data_offsets\":[").nth(1).and_then(|s| s.split(',').next()).expect("offsets");
        let at = 8 + length as usize + offset.parse::<usize>().expect("a number") + 1;
        let mut changed = whole.clone();
        changed[at] ^= 1;
        dir.write("x/model.safetensors", &changed);
        let report = dir.run("verify x --against m --json").exits(5).json();
        let rows = report["tensors"].as_array().expect("tensors");
        let bad: Vec<&str> =
            rows.iter().filter(|t| t["identical"] == false).filter_map(|t| t["tensor"].as_str()).collect();
        assert_eq!(bad, ["model.layers.1.mlp.up_proj.weight"], "{part}");
    }
}

#[test]
fn compare_of_an_mlx_folder_measures_its_values() {
    let dir = Dir::with_model_directory(false);
    dir.run("quantize m -o x --to mlx --type mlx_q8_g32").exits(0);
    let report = dir.run("compare m x --json").exits(0).json();
    let rows = report["tensors"].as_array().expect("tensors");
    let inspected = dir.run("inspect m --json").exits(0).json();
    assert_eq!(Some(rows.len()), inspected["tensors"].as_array().map(Vec::len));
    // Decoded to F32, the values are the same.
    dir.run("quantize x -o y.safetensors --type f32 --pure --allow-requantize").exits(0);
    let again = dir.run("compare x y.safetensors --json").exits(0).json();
    let rows = again["tensors"].as_array().expect("tensors");
    assert!(rows.iter().all(|t| t["rmse"] == 0.0), "{again}");
}

#[test]
fn interrupted_mlx_folder_is_continued_with_the_same_bytes() {
    let dir = Dir::with_model_directory(false);
    let config = r#"{"model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 1}"#;
    dir.write("m/config.json", config.as_bytes());
    // Zeros, which take no room on the disk.
    let (rows, cols) = (64 << 10, 1024);
    let header = format!(
        r#"{{"model.embed_tokens.weight":{{"dtype":"BF16","shape":[{rows},{cols}],"data_offsets":[0,{}]}}}}"#,
        rows * cols * 2
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    dir.write("m/model.safetensors", &bytes);
    let file = std::fs::File::options().write(true).open(dir.at("m/model.safetensors")).expect("the file");
    file.set_len(bytes.len() as u64 + rows * cols * 2).expect("a length");
    dir.run("quantize m -o whole --to mlx --type mlx_q3").exits(0);
    let line = "quantize m -o x --to mlx --type mlx_q3 --threads 1 --memory 1MB --resume --json";
    let noted = || std::fs::metadata(dir.at("x.partial.journal")).is_ok_and(|m| m.len() > 100);
    let interrupted = (0..10).any(|_| {
        let mut child = begun(&dir, "x", binary::command(dir.path(), line.split_whitespace()));
        while !noted() && child.try_wait().expect("a status").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let ended = signalled(child, "INT").code;
        if ended == Some(0) {
            std::fs::remove_dir_all(dir.at("x")).expect("removed");
        }
        ended == Some(130)
    });
    assert!(interrupted, "every run ended before it could be interrupted");
    let report = dir.run(line).exits(0).json();
    assert!(report["run"]["resumed_windows"].as_u64() > Some(0), "{}", report["run"]);
    for file in dir.names_in("whole") {
        assert!(dir.read(&format!("whole/{file}")) == dir.read(&format!("x/{file}")), "{file}");
    }
}

#[test]
fn mlx_recipes_that_contradict_themselves_or_the_source_are_refused() {
    let dir = Dir::with_model_directory(false);
    for (options, words) in [
        ("", "a type is needed"),
        ("--type q4_0", "not Q4_0"),
        ("--recipe q4_k_m", "recipes for MLX are mixed_4_6"),
        ("--type mlx_q4 --keep-split", "--split-max-size"),
        ("--type mlx_q4 --tensor-type q_proj=q8_0", "not Q8_0"),
        ("--type mlx_q4_g32_f16", "give mlx_q4_g32 instead"),
    ] {
        let error = fails(dir.run(&format!("quantize m -o x --to mlx {options} --json")), Code::Usage);
        assert!(error["message"].as_str().is_some_and(|m| m.contains(words)), "{options}: {error}");
    }
    for options in
        ["--type mlx_q4", "--to hf --type mlx_q4", "--recipe mixed_4_6", "--to q4 --recipe mixed_4_6"]
    {
        let line = format!("quantize m -o x.gguf {options} --json");
        fails(dir.run(&line), Code::Usage);
    }
    dir.run("quantize m -o m.gguf --type q8_0 --names source").exits(0);
    fails(dir.run("quantize m.gguf -o x --to mlx --type mlx_q4 --json"), Code::UnsupportedContainer);
    dir.run("quantize m -o x --to mlx --type mlx_q4").exits(0);
    fails(dir.run("quantize x -o y --to mlx --type mlx_q8 --json"), Code::Requantize);
    fails(dir.run("quantize m -o x --to mlx --type mlx_q4 --json"), Code::Exists);
}

/// A folder of mlx-lm computes with the embedding or with a head of its own, as its class says, so other models are refused.
#[test]
fn mlx_head_that_the_class_of_mlx_lm_does_not_have_is_refused() {
    let dir = Dir::with_model_directory(false);
    let refused = |model_type: &str, tied: bool| {
        let config = format!(
            r#"{{"model_type": "{model_type}", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2,
                "tie_word_embeddings": {tied}}}"#
        );
        dir.write("m/config.json", config.as_bytes());
        let run = dir.run("quantize m -o x --to mlx --type mlx_q4_g32 --dry-run --json");
        match run.code {
            Some(0) => None,
            _ => Some(run.exits(6).error()["message"].as_str().unwrap_or_default().to_string()),
        }
    };
    for (model_type, tied, words) in
        [("gemma", false, "gemma has none"), ("glm4", true, "always has a head of its own")]
    {
        let why = refused(model_type, tied).unwrap_or_default();
        assert!(why.contains(words), "{model_type}: {why}");
    }
    for (model_type, tied) in [("llama", false), ("llama", true), ("gemma", true)] {
        assert_eq!(refused(model_type, tied), None, "{model_type} {tied}");
    }
}

/// Names under `model.` are not taken for granted: mlx-lm refuses to load weights that its class does not have.
#[test]
fn mlx_names_that_the_class_of_mlx_lm_does_not_have_are_refused() {
    for (name, words) in [
        ("model.vision_tower.proj.weight", "leave it out with --exclude"),
        ("model.layers.7.mlp.up_proj.weight", "leave it out with --exclude"),
        ("model.layers.0.mlp.experts.gate_up_proj", "separate experts"),
        ("model.layers.0.mlp.switch_mlp.up_proj.weight", "separate experts"),
    ] {
        let dir = Dir::with_model_directory(false);
        let of = |name: &str, shape: &[u64]| Tensor::random(name, DType::F32, shape, &mut Rng(1));
        let tensors = [of("model.norm.weight", &[64]), of(name, &[64, 64])];
        dir.write("m/model.safetensors", &safetensors(&tensors));
        let config = br#"{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}"#;
        dir.write("m/config.json", config);
        let error =
            fails(dir.run("quantize m -o x --to mlx --type mlx_q4 --json"), Code::UnsupportedContainer);
        assert!(error["message"].as_str().is_some_and(|m| m.contains(words)), "{name}: {error}");
    }
}
