//! `--engine cuda` with and without a driver: what is missing is said, and what is written never differs.

use crate::support::Dir;
use quantoscope_core::DType;
use quantoscope_tests::binary::{self, Ended};
use quantoscope_tests::models::{Rng, Tensor, safetensors};
use std::path::Path;
use std::process::Command;

/// Runs with a driver in this directory, if any is there, before those of the machine.
fn run_beside(dir: &Dir, driver: &Path, line: &str) -> Ended {
    let mut command = binary::command(dir.path(), line.split_whitespace());
    command.env("LD_LIBRARY_PATH", driver);
    binary::ended(&mut command)
}

/// A directory with the driver of `driver.c`.
fn driver(setting: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/cli/driver.c");
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-ffp-contract=off", source, "-o"])
        .arg(dir.path().join("libcuda.so"))
        .arg(format!("-D{setting}"))
        .status();
    assert!(made.expect("the C compiler that links Rust").success());
    dir
}

#[test]
fn asked_for_without_a_device() {
    let dir = Dir::with_model();
    let ended = dir.run("quantize m.safetensors -o cuda.gguf --type q4_0 --engine cuda");
    dir.run("quantize m.safetensors -o auto.gguf --type q4_0").exits(0);
    if ended.code == Some(0) {
        assert!(dir.read("cuda.gguf") == dir.read("auto.gguf"));
    } else {
        ended.exits(7);
        assert_eq!(dir.names(), ["auto.gguf", "m.safetensors"]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_driver_without_a_device_is_told_from_no_driver() {
    let (dir, driver) = (Dir::with_model(), driver("COUNT=0"));
    let line = "quantize m.safetensors -o x.gguf --type q4_0";
    let ended = run_beside(&dir, driver.path(), &format!("{line} --engine cuda"));
    assert!(ended.err.contains("no CUDA-capable device is detected"), "{}", ended.err);
    ended.exits(7);
    run_beside(&dir, driver.path(), line).exits(0);
}

/// A file with one tensor of Q8_0 that a device decodes, in this directory.
fn packed(dir: &Dir) {
    let tensor = Tensor::random("model.layers.0.mlp.up_proj.weight", DType::F32, &[512, 256], &mut Rng(5));
    dir.write("large.safetensors", &safetensors(&[tensor]));
    dir.run("quantize large.safetensors -o q.gguf --type q8_0 --pure").exits(0);
    dir.run("quantize q.gguf -o want.gguf --type f32 --pure --allow-requantize").exits(0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_with_one_exact_kernel_writes_the_same() {
    let (dir, driver) = (Dir::with_model(), driver("COUNT=1"));
    packed(&dir);
    let line = "quantize q.gguf --type f32 --pure --allow-requantize --engine cuda -j 3 --json -o got.gguf";
    let ended = run_beside(&dir, driver.path(), line).exits(0);
    assert!(dir.read("got.gguf") == dir.read("want.gguf"));
    let run = &ended.json()["run"];
    assert_eq!(run["device"]["name"], "a stand-in (CUDA)");
    assert_eq!((&run["device"]["blocks"], &run["device"]["differing"]), (&4096.into(), &0.into()));
    assert!(run["device"]["checked"].as_u64().is_some_and(|n| n > 0 && n < 100), "{run}");
    // What else there is says so.
    let ended = run_beside(&dir, driver.path(), "sweep q.gguf --engine quantum");
    assert!(ended.err.contains("cuda"), "{}", ended.err);
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_that_is_caught_leaves_nothing_behind() {
    let (dir, driver) = (Dir::with_model(), driver("SPOILS=3"));
    packed(&dir);
    let line = "quantize q.gguf --type f32 --pure --allow-requantize --engine cuda --resume";
    let ended = run_beside(&dir, driver.path(), &format!("{line} --events -o got.gguf")).exits(0);
    assert!(dir.read("got.gguf") == dir.read("want.gguf"));
    assert!(
        ended.out.contains("\"event\":\"quant_device_ended\",\"device\":\"a stand-in (CUDA)\""),
        "{}",
        ended.out
    );
    let ended = run_beside(&dir, driver.path(), &format!("{line} -o again.gguf")).exits(0);
    assert!(dir.read("again.gguf") == dir.read("want.gguf"));
    assert!(
        ended.err.contains("a stand-in (CUDA) made wrong bytes; everything begins anew"),
        "{}",
        ended.err
    );
    assert!(ended.out.contains("the processor did everything"), "{}", ended.out);
}
