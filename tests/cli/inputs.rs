//! Inputs as file systems have them: very many files, names that are no Unicode, things that are no files.

#![cfg(unix)]

use crate::support::Dir;
#[cfg(target_os = "linux")]
use crate::support::one;
use quantoscope_core::DType;
use quantoscope_tests::binary;
use quantoscope_tests::models::{Rng, Tensor, safetensors};
use std::process::Command;
#[cfg(target_os = "linux")]
use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

/// A lattice directory has a file for each tensor; systems let a process open few.
#[test]
fn more_files_than_may_be_open() {
    let dir = Dir::new();
    let tensor =
        |i: u32| Tensor::random(&format!("layers.{i}.weight"), DType::F32, &[2, 32], &mut Rng(i.into()));
    dir.write("m.safetensors", &safetensors(&(0..400).map(tensor).collect::<Vec<_>>()));
    dir.run("quantize m.safetensors -o q --to q4").exits(0);
    for verb in ["inspect q --stats", "compare m.safetensors q", "verify q --against m.safetensors"] {
        let script = format!("ulimit -n 160 && exec {} {verb}", binary::path().display());
        let mut command = Command::new("sh");
        binary::ended(command.current_dir(dir.path()).args(["-c", &script])).exits(0);
    }
}

/// The file systems of macOS have no such names.
#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_unicode() {
    let dir = Dir::new();
    let name = |bytes: &'static [u8]| dir.path().join(OsStr::from_bytes(bytes));
    let (input, output) = (name(b"in\xff.safetensors"), name(b"out\xfe.gguf"));
    let written = std::fs::write(&input, one("a.weight", &[2, 32], &[0.5; 64]));
    written.expect("TMPDIR is on a file system that has every name");
    let run = |args: &[&OsStr]| binary::run(dir.path(), args).exits(0);
    let [quantize, verify] = ["quantize", "verify"].map(OsStr::new);
    run(&[quantize, input.as_os_str(), OsStr::new("-o"), output.as_os_str(), OsStr::new("--type=q8_0")]);
    run(&[verify, output.as_os_str(), OsStr::new("--against"), input.as_os_str()]);
}

/// Opening a pipe waits for its other end, for ever.
#[test]
fn a_pipe_beside_the_weights_is_not_waited_for() {
    let dir = Dir::with_model();
    let made = Command::new("mkfifo").arg(dir.at("config.json")).status();
    assert!(made.expect("mkfifo").success());
    dir.run("inspect m.safetensors").exits(0);
}
