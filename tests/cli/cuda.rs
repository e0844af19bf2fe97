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

/// A directory with the driver of `driver.c`, built with these settings.
fn driver(settings: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/cli/driver.c");
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-ffp-contract=off", source, "-o"])
        .arg(dir.path().join("libcuda.so"))
        .arg("-lm")
        .args(settings)
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

/// What is asked for by name ends with 7; without asking all goes on.
#[cfg(target_os = "linux")]
fn refused(settings: &[&str], message: &str) {
    let (dir, driver) = (Dir::with_model(), driver(settings));
    let line = "quantize m.safetensors -o x.gguf --type q4_0";
    let ended = run_beside(&dir, driver.path(), &format!("{line} --engine cuda"));
    assert!(ended.err.contains(message), "{}", ended.err);
    ended.exits(7);
    run_beside(&dir, driver.path(), line).exits(0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_driver_without_a_device_is_told_from_no_driver() {
    refused(&["-DCOUNT=0"], "no CUDA-capable device is detected");
}

/// A function that is missing is looked for before it is called: calling it would end the program without a
/// word.
#[cfg(target_os = "linux")]
#[test]
fn a_driver_that_is_too_old_says_so() {
    refused(&["-DOLD"], "too old: it has no cuMemHostAlloc");
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_that_is_wrong_is_not_used() {
    refused(&["-DBROKEN=0"], "wrong bytes");
}

/// One matrix that a window of is several slices.
#[cfg(target_os = "linux")]
fn large() -> Dir {
    let (rows, width) = (1200, 4096);
    let header = format!(
        r#"{{"w":{{"dtype":"F32","shape":[{rows},{width}],"data_offsets":[0,{}]}}}}"#,
        4 * rows * width
    );
    let mut raw = (header.len() as u64).to_le_bytes().to_vec();
    raw.extend(header.as_bytes());
    let value = |i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 * 1e-9 - 0.008;
    raw.extend((0..rows * width).flat_map(|i| value(i).to_le_bytes()));
    let dir = Dir::new();
    dir.write("f.safetensors", &raw);
    dir
}

/// The same bytes as without, however many devices share the work and whichever of them is wrong.
#[cfg(target_os = "linux")]
#[test]
fn devices_with_two_exact_kernels_write_the_same() {
    let dir = large();
    dir.run("quantize f.safetensors -o q8.gguf --type q8_0 --pure").exits(0);
    dir.run("quantize q8.gguf -o f32.gguf --type f32 --pure --allow-requantize").exits(0);
    for (n, settings) in
        [&["-DCOUNT=1"][..], &["-DCOUNT=3"], &["-DCOUNT=3", "-DBROKEN=1"]].into_iter().enumerate()
    {
        let driver = driver(settings);
        for (line, want) in
            [("f.safetensors --type q8_0", "q8.gguf"), ("q8.gguf --type f32 --allow-requantize", "f32.gguf")]
        {
            let line = format!("quantize {line} --pure -o {n}-{want} --engine cuda -j 2 --memory 400M");
            run_beside(&dir, driver.path(), &line).exits(0);
            assert!(dir.read(&format!("{n}-{want}")) == dir.read(want), "{settings:?}: {line}");
        }
    }
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
    let (dir, driver) = (Dir::with_model(), driver(&[]));
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
    let (dir, driver) = (Dir::with_model(), driver(&["-DSPOILS=3"]));
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
        ended.err.contains("a stand-in (CUDA) returned wrong bytes; the conversion restarts"),
        "{}",
        ended.err
    );
    assert!(ended.out.contains("the processor did everything"), "{}", ended.out);
}
