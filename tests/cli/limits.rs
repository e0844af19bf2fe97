//! Signals, and limits that the system sets: an end with an exit code, and nothing left over.

use crate::resume::{paused_by, resumed, signal};
use crate::support::{Dir, big};
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
        "rotate m.safetensors -o x --rotate block:32 --allow-unprobed",
        "quantize m.safetensors -o x.gguf --type q8_0 --resume",
    ] {
        // In units of 512 bytes: less than the output, or than one of its files; and less than a header.
        for limit in [300, 1] {
            let dir = with_model();
            let ended = shell(&dir, &format!("ulimit -f {limit}"), &format!("{line} --json"));
            if line.starts_with("rotate") && ended.code == Some(6) {
                continue;
            }
            let error = ended.exits(3).error();
            assert!(error["message"].as_str().is_some_and(|m| m.contains("too large")), "{error}");
            if !line.contains("--resume") {
                assert_eq!(dir.names(), ["m.safetensors"], "{line}, {limit}");
            }
        }
    }
}

#[test]
fn thread_that_cannot_be_started_is_an_error() {
    for (limit, threads) in [("-v 400000", 1024), ("-v 300000", 256), ("-v 1000000", 4000)] {
        let dir = with_model();
        let line = format!("quantize m.safetensors -o x.gguf --type q4_k --threads {threads} --json");
        let ended = shell(&dir, &format!("ulimit {limit}"), &line);
        match ended.code {
            Some(0) => {}
            Some(2 | 3) => {
                ended.error();
                assert_eq!(dir.names(), ["m.safetensors"], "{limit}: {}", ended.err);
            }
            _ => panic!("{limit}: {:?}: {}", ended.code, ended.err),
        }
    }
}
