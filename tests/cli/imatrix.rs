//! `--imatrix`: from the command line to the file, and what is refused.

use crate::resume::{signalled, started};
use crate::support::{Dir, big};
use quantoscope_core::DType;
use quantoscope_tests::models::{Rng, Tensor, imatrix, safetensors};

const V: &str = "model.layers.0.self_attn.v_proj.weight";

/// With a model of two matrices, weights for them, and other weights.
fn dir() -> Dir {
    let dir = Dir::new();
    let rng = &mut Rng(71);
    let tensors = [
        Tensor::random(V, DType::F32, &[64, 512], rng),
        Tensor::random("model.layers.0.self_attn.k_proj.weight", DType::BF16, &[64, 256], rng),
    ];
    dir.write("m.safetensors", &safetensors(&tensors));
    let mut weights = |name: &str| {
        let mut sums = |n| vec![rng.weights(n).iter().map(|w| w * w * 1e6).collect::<Vec<f32>>()];
        let (v, k) = (sums(512), sums(256));
        dir.write(
            name,
            &imatrix(&[("blk.0.attn_v.weight", v, vec![5.0]), ("blk.0.attn_k.weight", k, vec![5.0])]),
        );
    };
    weights("i.gguf");
    weights("j.gguf");
    dir
}

#[test]
fn weights_change_the_bytes_and_are_told() {
    let dir = dir();
    let plain = dir.run("quantize m.safetensors -o plain.gguf --recipe q4_k_m --json").exits(0).json();
    let with = dir
        .run("quantize m.safetensors -o with.gguf --recipe q4_k_m --imatrix i.gguf --json")
        .exits(0)
        .json();
    assert_ne!(dir.read("plain.gguf"), dir.read("with.gguf"));
    assert!(plain["result"].get("importance").is_none());
    // Only with the same weights the source makes these bytes.
    let verify = "verify with.gguf --against m.safetensors";
    dir.run(&format!("{verify} --imatrix i.gguf")).exits(0);
    dir.run(&format!("{verify} --imatrix j.gguf")).exits(5);
    assert!(dir.run(verify).exits(5).err.contains("was made with --imatrix i.gguf"));
    let importance = &with["result"]["importance"];
    assert_eq!((&importance["file"], &importance["used"]), (&"i.gguf".into(), &2.into()));
    assert_eq!(importance["sha256"].as_str().map(str::len), Some(64));
    let planned = dir.run("plan m.safetensors --recipe q4_k_m --imatrix i.gguf --json").exits(0).json();
    assert_eq!(&planned["result"]["importance"], importance);
    let text = dir.run("plan m.safetensors --recipe q4_k_m --imatrix i.gguf").exits(0).out;
    assert!(text.contains("importance   i.gguf for 2 tensors, 7 chunks of one.txt"), "{text}");
    let swept =
        |weights: &str| dir.run(&format!("sweep m.safetensors --types q4_k {weights} --json")).exits(0).out;
    assert_ne!(swept(""), swept("--imatrix i.gguf"));
}

/// Neither threads nor memory show in the bytes.
#[test]
fn threads_and_memory_change_nothing() {
    let dir = dir();
    for (recipe, n) in [("q4_0", 1), ("q5_1", 2), ("q3_k_m", 3)] {
        let line =
            format!("quantize m.safetensors -o {n}.gguf --recipe {recipe} --imatrix i.gguf --threads 1");
        dir.run(&line).exits(0);
        for more in ["--threads 5", "--threads 2 --memory 100kB"] {
            dir.run(&format!(
                "quantize m.safetensors -o again.gguf --force --recipe {recipe} --imatrix i.gguf {more}"
            ))
            .exits(0);
            assert!(dir.read("again.gguf") == dir.read(&format!("{n}.gguf")), "{recipe} {more}");
        }
    }
}

/// What was begun with some weights is not gone on with others.
#[test]
fn an_interrupted_run_goes_on_with_the_same_weights_only() {
    let dir = Dir::new();
    let weights = |name: &str, seed: u64| {
        let rng = &mut Rng(seed);
        let names: Vec<String> = (0..8).map(|i| format!("layers.{i}.proj.weight")).collect();
        let mut sums = || vec![rng.weights(2048).iter().map(|w| w * w).collect()];
        let all: Vec<_> = names.iter().map(|n| (n.as_str(), sums(), vec![1.0])).collect();
        dir.write(name, &imatrix(&all));
    };
    weights("i.gguf", 1);
    weights("j.gguf", 2);
    let options = |weights: &str| format!("--type q4_0 --imatrix {weights} --resume");
    let journal = || std::fs::metadata(dir.at("x.gguf.partial.journal")).map_or(0, |m| m.len());
    let interrupted = (0..10).any(|_| {
        let mut child = started(&dir, "x.gguf", &options("i.gguf"));
        while journal() <= 100 && child.try_wait().expect("a status").is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let code = signalled(child, "INT").code;
        if code == Some(0) {
            std::fs::remove_file(dir.at("x.gguf")).expect("removed");
        }
        code == Some(130)
    });
    assert!(interrupted, "every run ended before it could be interrupted");
    let go = |out: &str, options: &str| {
        dir.run(&format!("quantize {} -o {out} {options} --json", big().display()))
    };
    let error = go("x.gguf", &options("j.gguf")).exits(2).error();
    assert_eq!(error["code"], "resume_mismatch");
    let done = go("x.gguf", &options("i.gguf")).exits(0).json();
    assert!(done["run"]["resumed_windows"].as_u64() > Some(0), "{}", done["run"]);
    go("y.gguf", "--type q4_0 --imatrix i.gguf").exits(0);
    assert!(dir.read("x.gguf") == dir.read("y.gguf"));
}

#[test]
fn what_cannot_be_weights_is_refused() {
    let dir = dir();
    let code = |line: &str, exit: i32| {
        dir.run(line).exits(exit).error()["code"].as_str().expect("a code").to_string()
    };
    let plan = "plan m.safetensors --recipe q4_k_m --json --imatrix";
    assert_eq!(code(&format!("{plan} missing.gguf"), 3), "not_found");
    assert_eq!(code(&format!("{plan} m.safetensors"), 4), "bad_magic");
    dir.run("quantize m.safetensors -o m.gguf --type q8_0").exits(0);
    assert_eq!(code(&format!("{plan} m.gguf"), 6), "empty");
    dir.write("short.gguf", &imatrix(&[("blk.0.attn_v.weight", vec![vec![1.0; 256]], vec![1.0])]));
    let error = dir.run(&format!("{plan} short.gguf")).exits(4).error();
    assert_eq!(
        (&error["code"], &error["tensor"], &error["file"]),
        (&"size_mismatch".into(), &V.into(), &"short.gguf".into())
    );
    let over = "quantize m.safetensors -o i.gguf --force --recipe q4_k_m --json --imatrix i.gguf";
    assert_eq!(code(over, 2), "same_file");
    let told = dir.run("plan m.safetensors --type q8_0 --imatrix i.gguf").exits(0).err;
    assert!(told.contains("no tensor is encoded with the weights"), "{told}");
}
