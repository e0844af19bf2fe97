//! `--engine cuda` with and without a driver: what is missing is said, and what is written never differs.

use crate::support::Dir;
use quantoscope_tests::binary::{self, Ended};
use std::path::Path;
use std::process::Command;

/// Runs with a driver in this directory, if any is there, before those of the machine.
fn run_beside(dir: &Dir, driver: &Path, line: &str) -> Ended {
    let mut command = binary::command(dir.path(), line.split_whitespace());
    command.env("LD_LIBRARY_PATH", driver);
    binary::ended(&mut command)
}

/// A directory with the driver of `driver.c`.
fn driver(devices: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/cli/driver.c");
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-ffp-contract=off", source, "-o"])
        .arg(dir.path().join("libcuda.so"))
        .arg(format!("-DCOUNT={devices}"))
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
    let (dir, driver) = (Dir::with_model(), driver(0));
    let line = "quantize m.safetensors -o x.gguf --type q4_0";
    let ended = run_beside(&dir, driver.path(), &format!("{line} --engine cuda"));
    assert!(ended.err.contains("no CUDA-capable device is detected"), "{}", ended.err);
    ended.exits(7);
    run_beside(&dir, driver.path(), line).exits(0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_with_one_exact_kernel_writes_the_same() {
    let (dir, driver) = (Dir::with_model(), driver(1));
    dir.run("quantize m.safetensors -o q.gguf --type q8_0 --pure").exits(0);
    let line = "quantize q.gguf --type q4_0 --pure --allow-requantize";
    dir.run(&format!("{line} -o want.gguf")).exits(0);
    run_beside(&dir, driver.path(), &format!("{line} -o got.gguf --engine cuda -j 3")).exits(0);
    assert!(dir.read("got.gguf") == dir.read("want.gguf"));
    // What else there is says so.
    let ended = run_beside(&dir, driver.path(), "sweep q.gguf --engine quantum");
    assert!(ended.err.contains("cuda"), "{}", ended.err);
}
