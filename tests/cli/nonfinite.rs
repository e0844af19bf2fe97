//! NaN and infinities in what is copied: by every verb that converts, and across an interruption.

use crate::errors::fails;
use crate::support::Dir;
use quantoscope_core::{Code, DType};
use quantoscope_tests::models::{Rng, Tensor, safetensors};
use std::path::Path;

/// Writes a NaN over element `at` of an F32 or BF16 tensor of the checkpoint `path`.
fn spoil(dir: &Dir, path: &str, tensor: &str, at: usize) {
    let report = dir.run(&format!("inspect {path} --json")).exits(0).json();
    let tensors = report["tensors"].as_array().expect("tensors");
    let found = tensors.iter().find(|t| t["name"] == tensor).expect("a tensor of that name");
    let nan = f32::NAN.to_le_bytes();
    let nan = match found["dtype"].as_str() {
        Some("F32") => &nan[..],
        Some("BF16") => &nan[2..],
        _ => panic!("{found}"),
    };
    let offset = found["offset"].as_u64().expect("an offset") as usize + nan.len() * at;
    let mut bytes = dir.read(path);
    bytes[offset..offset + nan.len()].copy_from_slice(nan);
    dir.write(path, &bytes);
}

fn with_family(name: &str) -> Dir {
    let dir = Dir::new();
    std::fs::create_dir(dir.at("m")).expect("a directory");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families").join(name);
    for file in ["model.safetensors", "config.json"] {
        std::fs::copy(from.join(file), dir.at("m").join(file)).expect("a copy");
    }
    dir
}

/// Folded gains, biases beside the rotation and rotated weights: each is named before anything is written.
#[test]
fn a_rotation_names_it() {
    for tensor in
        ["model.norm.weight", "model.layers.0.self_attn.q_proj.bias", "model.layers.1.mlp.down_proj.weight"]
    {
        let dir = with_family("qwen2");
        spoil(&dir, "m/model.safetensors", tensor, 3);
        for line in [
            "rotate m -o r --json",
            "rotate m -o r --allow-nonfinite --json",
            "quantize m -o r.gguf --type q8_0 --rotate quarot --json",
        ] {
            let error = fails(dir.run(line), Code::NonFinite);
            assert_eq!((&error["tensor"], &error["element"]), (&tensor.into(), &3.into()), "{line}");
            assert_eq!(dir.names(), ["m/config.json", "m/model.safetensors"], "nothing is left");
        }
        dir.run("rotate m -o r --dry-run").exits(0);
    }
}

/// What lies beside the rotation is copied from an adapter too.
#[test]
fn an_adapter_names_it() {
    let dir = with_family("mixtral");
    std::fs::create_dir(dir.at("a")).expect("a directory");
    let name = |half: &str| format!("base_model.model.model.layers.1.self_attn.v_proj.lora_{half}.weight");
    let mut rng = Rng(5);
    let tensors = [
        Tensor::random(&name("A"), DType::F32, &[2, 24], &mut rng),
        Tensor::random(&name("B"), DType::F32, &[8, 2], &mut rng),
    ];
    dir.write("a/adapter_model.safetensors", &safetensors(&tensors));
    dir.write("a/adapter_config.json", br#"{"peft_type": "LORA", "r": 2}"#);
    spoil(&dir, "a/adapter_model.safetensors", &name("B"), 5);
    let error = fails(dir.run("rotate m --adapter a -o ra --json"), Code::NonFinite);
    assert_eq!((&error["tensor"], &error["element"]), (&name("B").into(), &5.into()));
    dir.run("rotate m --adapter a -o ra --allow-nonfinite")
        .exits(0)
        .says("NaN or infinity in 1 of 16 elements");
}

/// The windows of an interrupted run are counted in the report of the run that went on.
#[cfg(target_os = "linux")]
#[test]
fn they_are_counted_across_an_interruption() {
    let dir = Dir::new();
    let norm = Tensor::of("model.norm.weight", DType::F32, &[64], &[1.0; 64]);
    let head = Tensor::random("lm_head.weight", DType::F32, &[1200, 256], &mut Rng(1));
    let weight = Tensor::random("model.layers.0.mlp.down_proj.weight", DType::F32, &[1200, 256], &mut Rng(2));
    dir.write("m.safetensors", &safetensors(&[norm, head, weight]));
    spoil(&dir, "m.safetensors", "model.norm.weight", 7);
    spoil(&dir, "m.safetensors", "lm_head.weight", 1000);
    let line = |out: &str| format!("quantize m.safetensors -o {out} --type q4_k --allow-nonfinite --json");
    let whole = dir.run(&line("whole.gguf")).exits(0).json();
    crate::naming::killed_before_naming(&dir, &line("x.gguf"));
    let resumed = dir.run(&line("x.gguf --resume")).exits(0).json();
    assert!(resumed["run"]["resumed_windows"].as_u64() > Some(0), "{}", resumed["run"]);
    assert_eq!(resumed["result"], whole["result"]);
    let warned = whole["result"]["warnings"].as_array().expect("warnings");
    assert_eq!(warned.iter().filter(|w| w["code"] == "non_finite").count(), 2, "{warned:?}");
    assert!(dir.read("x.gguf") == dir.read("whole.gguf"));
}
