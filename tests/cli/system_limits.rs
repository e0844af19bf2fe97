//! Signals, and limits that the system sets: an end with an exit code, and nothing left over.

use crate::resume::{paused_by, resumed, signal};
use crate::support::{Dir, big, with_faults};
use quantoscope_core::DType;
use quantoscope_tests::binary::{self, Ended};
use quantoscope_tests::models::{Rng, Tensor, safetensors};
use std::process::Command;

/// Runs in a shell that sets something up first.
fn shell(dir: &Dir, setup: &str, line: &str) -> Ended {
    let script = format!("{setup}; exec {} {line}", binary::path().display());
    binary::ended(Command::new("sh").args(["-c", &script]).current_dir(dir.path()))
}

/// A model of 4 MiB.
fn with_model() -> Dir {
    let dir = Dir::new();
    let tensors: Vec<Tensor> = (0..4)
        .map(|i| Tensor::random(&format!("layers.{i}.up.weight"), DType::BF16, &[512, 1024], &mut Rng(i)))
        .collect();
    dir.write("m.safetensors", &safetensors(&tensors));
    dir
}

#[test]
fn signal_that_was_ignored_stays_ignored() {
    for name in ["HUP", "INT", "TERM"] {
        for ignored in [true, false] {
            let dir = Dir::new();
            let setup = if ignored { format!("trap '' {name}") } else { "true".into() };
            let child = paused_by(&dir, || {
                let line = format!(
                    "{setup}; exec {} quantize {} -o x --to gguf --type q5_1 --threads 1 --memory 1MB --json",
                    binary::path().display(),
                    big().display()
                );
                let mut command = Command::new("sh");
                command.args(["-c", &line]).current_dir(dir.path());
                command
            });
            signal(&child, name);
            let ended = resumed(child);
            assert_eq!(ended.code, Some(if ignored { 0 } else { 130 }), "{name}, {ignored}: {}", ended.err);
            let left: &[&str] = if ignored { &["x"] } else { &[] };
            assert_eq!(dir.names(), left);
        }
    }
}

#[test]
fn file_size_limit_is_an_error() {
    for line in [
        "quantize m.safetensors -o x.gguf --type q8_0",
        "quantize m.safetensors -o x --to q4",
        "quantize m.safetensors -o x.gguf --type q8_0 --resume",
    ] {
        // In units of 512 bytes: less than the output, or than one of its files; and less than a header.
        for limit in [300, 1] {
            let dir = with_model();
            let ended = shell(&dir, &format!("ulimit -f {limit}"), &format!("{line} --json"));
            let error = ended.exits(3).error();
            assert!(error["message"].as_str().is_some_and(|m| m.contains("too large")), "{error}");
            if !line.contains("--resume") {
                assert_eq!(dir.names(), ["m.safetensors"], "{line}, {limit}");
            }
        }
    }
}

#[test]
fn file_size_limit_ends_a_rotation() {
    let dir = Dir::with_family("llama_tied");
    let before = dir.names();
    let error = shell(&dir, "ulimit -f 10", "rotate m -o x --json").exits(3).error();
    assert!(error["message"].as_str().is_some_and(|m| m.contains("too large")), "{error}");
    assert_eq!(dir.names(), before);
}

/// Whichever thread of a verb cannot be started: an end with an exit code, no panic, and nothing left.
#[test]
fn thread_that_cannot_be_started_is_an_error() {
    let dir = Dir::with_family("llama_tied");
    let before = dir.names();
    let mut failed = 0;
    for line in [
        "quantize m -o x.gguf --type q4_0 --threads 4",
        "quantize m -o x --to q4 --threads 4",
        "rotate m -o x --threads 4",
        "sweep m --types q4_0 --threads 3",
        "compare m m --threads 3",
        "bench rotation --rows 64 --threads 3",
        "inspect m --stats --threads 3",
    ] {
        for step in ["1", "2", "3", "4", "5", "1+"] {
            let fault = format!("inject=clone,clone3:error=EAGAIN:when={step}");
            let ended = with_faults(&dir, &["trace=clone,clone3", &fault], &format!("{line} --json"));
            match ended.code {
                Some(0) => ["x", "x.gguf"].iter().for_each(|name| {
                    let path = dir.at(name);
                    let _ = if path.is_dir() {
                        std::fs::remove_dir_all(path)
                    } else {
                        std::fs::remove_file(path)
                    };
                }),
                _ => {
                    failed += 1;
                    let error = ended.exits(3).error();
                    assert!(error["message"].as_str().is_some_and(|m| m.contains("thread")), "{error}");
                }
            }
            assert_eq!(dir.names(), before, "{line}, {step}");
        }
    }
    assert!(failed > 20, "{failed} of the faults hit a thread");
}

/// A directory of more files than a process may open is read and written all the same.
#[test]
fn open_file_limit_is_kept_to() {
    let dir = Dir::new();
    let tensors: Vec<Tensor> = (0..90)
        .map(|i| Tensor::random(&format!("layers.{i}.up.weight"), DType::BF16, &[8, 64], &mut Rng(i)))
        .collect();
    dir.write("m.safetensors", &safetensors(&tensors));
    shell(&dir, "ulimit -n 24", "quantize m.safetensors -o x --to q4 --threads 4").exits(0);
    for limit in [24, 64, 100] {
        let line = "quantize x -o y.gguf --type q4_1 --threads 4 --force";
        shell(&dir, &format!("ulimit -n {limit}"), line).exits(0);
        shell(&dir, &format!("ulimit -n {limit}"), "compare m.safetensors x --threads 4").exits(0);
    }
}

/// As many workers as fit: an allocation that fails would end the process and leave the partial output.
#[test]
fn address_space_limit_reduces_the_workers() {
    let dir = with_model();
    dir.run("quantize m.safetensors -o whole --to gguf --type q4_k").exits(0);
    for limit in [150_000, 250_000, 400_000, 1_000_000] {
        for threads in [1, 16, 1024] {
            let line = format!("quantize m.safetensors -o x.gguf --type q4_k --threads {threads}");
            shell(&dir, &format!("ulimit -v {limit}"), &line).exits(0);
            assert!(dir.read("x.gguf") == dir.read("whole"), "{limit}, {threads}");
            std::fs::remove_file(dir.at("x.gguf")).expect("removed");
        }
    }
    assert_eq!(dir.names(), ["m.safetensors", "whole"]);
}
