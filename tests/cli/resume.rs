//! Interrupting and going on: what stays, what is refused, and that the bytes are the same.

use crate::errors::fails;
use crate::support::{Dir, big};
use quantoscope_core::Code;
use quantoscope_tests::binary::{self, Ended};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts a run on the large model and waits until it has begun to write.
pub fn started(dir: &Dir, output: &str, options: &str) -> Child {
    let input = big();
    let line = format!("quantize {} -o {output} {options} --threads 1 --memory 1MB --json", input.display());
    let mut command = binary::command(dir.path(), line.split_whitespace());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let journal = dir.at(&format!("{output}.partial.journal"));
    let begun = Instant::now();
    while journal.metadata().map_or(0, |m| m.len()) == 0 && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

pub fn signalled(child: Child, signal: &str) -> Ended {
    let status = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status();
    // It fails where the process has just ended, which its exit code then says.
    drop(status);
    let out = child.wait_with_output().expect("an end");
    let text = |b: Vec<u8>| String::from_utf8(b).expect("UTF-8");
    Ended { code: out.status.code(), out: text(out.stdout), err: text(out.stderr) }
}

fn exists(dir: &Dir, name: &str) -> bool {
    Path::new(&dir.at(name)).exists()
}

#[test]
fn an_interrupt_removes_the_partial_output() {
    for (output, options) in [("x.gguf", "--type q5_1"), ("x", "--to q4")] {
        for signal in ["INT", "TERM"] {
            let dir = Dir::new();
            // A run that ended before it could be interrupted is tried again.
            let attempt = || {
                let ended = signalled(started(&dir, output, options), signal);
                if ended.code == Some(0) {
                    let out = dir.at(output);
                    if out.is_dir() { std::fs::remove_dir_all(out) } else { std::fs::remove_file(out) }
                        .expect("removed");
                }
                (ended.code != Some(0)).then_some(ended)
            };
            let ended = (0..10).find_map(|_| attempt()).expect("an interrupted run").exits(130);
            assert_eq!(ended.error()["code"], "interrupted");
            assert_eq!(dir.names(), [""; 0], "{signal} of {output}");
        }
    }
}

/// Interrupts a run to `x.gguf` once its journal has records. A run that was too fast for that is tried again.
fn interrupt_with_something_done(dir: &Dir) {
    let noted = || std::fs::metadata(dir.at("x.gguf.partial.journal")).is_ok_and(|m| m.len() > 100);
    for _ in 0..10 {
        let mut child = started(dir, "x.gguf", "--type q5_1 --resume");
        while !noted() && child.try_wait().expect("a status").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let ended = signalled(child, "INT");
        if ended.code == Some(130) {
            return;
        }
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        std::fs::remove_file(dir.at("x.gguf")).expect("removed");
    }
    panic!("every run ended before it could be interrupted");
}

/// With `--resume` the partial output stays, is refused without it, and is gone on with in any other budget.
#[test]
fn an_interrupted_run_is_gone_on_with() {
    let dir = Dir::new();
    let input = big();
    let input = input.display();
    dir.run(&format!("quantize {input} -o whole.gguf --type q5_1")).exits(0);
    interrupt_with_something_done(&dir);
    assert!(
        exists(&dir, "x.gguf.partial") && exists(&dir, "x.gguf.partial.journal") && !exists(&dir, "x.gguf")
    );

    let line = format!("quantize {input} -o x.gguf --json");
    let error = fails(dir.run(&format!("{line} --type q5_1")), Code::PartialExists);
    let message = error["message"].as_str().expect("words");
    assert!(message.contains("--resume") && message.contains("--force"), "{message}");
    for other in ["--type q5_0", "--type q5_1 --pure", "--type q5_1 --no-measure"] {
        fails(dir.run(&format!("{line} {other} --resume")), Code::ResumeMismatch);
    }
    assert!(exists(&dir, "x.gguf.partial"), "a refusal removes nothing");

    let report = dir.run(&format!("{line} --type q5_1 --resume --threads 3 --memory 5MB")).exits(0).json();
    assert!(report["run"]["resumed_windows"].as_u64() > Some(0), "{}", report["run"]);
    assert!(dir.read("x.gguf") == dir.read("whole.gguf"), "other bytes");
    assert_eq!(dir.names(), ["whole.gguf", "x.gguf"]);
    let whole = dir.run(&format!("quantize {input} -o again.gguf --type q5_1 --json")).exits(0).json();
    assert_eq!(report["result"], whole["result"], "the report knows the windows of both runs");
}

#[test]
fn force_starts_again() {
    let dir = Dir::with_model();
    dir.write("x.gguf.partial", b"torn");
    fails(dir.run("quantize m.safetensors -o x.gguf --type q4_0 --json"), Code::PartialExists);
    dir.run("quantize m.safetensors -o x.gguf --type q4_0 --force").exits(0);
    assert_eq!(dir.names(), ["m.safetensors", "x.gguf"]);
    dir.run("verify x.gguf --against m.safetensors").exits(0);
}

/// Whatever a crash may have left in the journal, `--resume` makes the right bytes or refuses.
#[test]
fn a_damaged_journal_costs_time_at_most() {
    let dir = Dir::with_model();
    dir.run("quantize m.safetensors -o whole.gguf --type q4_0").exits(0);
    for journal in [&b""[..], b"QSJRNL01", b"nonsense", &[0xFF; 300]] {
        dir.write("x.gguf.partial", &dir.read("whole.gguf")[..77]);
        dir.write("x.gguf.partial.journal", journal);
        dir.run("quantize m.safetensors -o x.gguf --type q4_0 --resume").exits(0);
        assert!(dir.read("x.gguf") == dir.read("whole.gguf"));
        std::fs::remove_file(dir.at("x.gguf")).expect("removed");
        assert_eq!(dir.names(), ["m.safetensors", "whole.gguf"]);
    }
}

#[test]
fn resume_without_anything_to_resume_is_a_plain_run() {
    let dir = Dir::with_model();
    dir.run("quantize m.safetensors -o x.gguf --type q4_0 --resume").exits(0);
    dir.run("verify x.gguf --against m.safetensors").exits(0);
    assert_eq!(dir.names(), ["m.safetensors", "x.gguf"]);
    dir.run("quantize m.safetensors -o y.gguf --type q4_0 --resume --dry-run").exits(2);
}

/// Two runs never write the same output, whatever is forced.
#[test]
fn one_output_has_one_writer() {
    let dir = Dir::new();
    let mut first = started(&dir, "x.gguf", "--type q5_1");
    let line = format!("quantize {} -o x.gguf --type q8_0 --json", big().display());
    for options in ["", "--force", "--resume", "--resume --force"] {
        let ended = dir.run(&format!("{line} {options}"));
        if first.try_wait().expect("a status").is_some() {
            return; // far too fast a machine
        }
        fails(ended, Code::PartialExists);
    }
    first.wait().expect("an end");
    assert_eq!(dir.names(), ["x.gguf"]);
    dir.run(&format!("verify x.gguf --against {}", big().display())).exits(0);
}

/// What comes to stand under the final name during a run is not replaced; the work is not lost either.
#[test]
fn what_was_made_meanwhile_is_kept() {
    let dir = Dir::new();
    let child = started(&dir, "x.gguf", "--type q5_1");
    dir.write("x.gguf", b"years of work");
    let out = child.wait_with_output().expect("an end");
    if out.status.code() == Some(0) {
        return; // far too fast a machine
    }
    assert_eq!(out.status.code(), Some(2));
    assert_eq!(dir.read("x.gguf"), b"years of work");
    let line = format!("quantize {} -o x.gguf --type q5_1 --resume --force", big().display());
    dir.run(&line).exits(0);
    assert_eq!(dir.names(), ["x.gguf"]);
}

/// An input that is written to during the run makes no artefact: nobody knows which values were read.
#[test]
fn an_input_that_changes_makes_no_artefact() {
    let dir = Dir::new();
    std::fs::copy(big(), dir.at("m.safetensors")).expect("a copy");
    let line = "quantize m.safetensors -o x.gguf --type q5_1 --json --threads 1 --memory 1MB";
    let mut command = quantoscope_tests::binary::command(dir.path(), line.split_whitespace());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    while !dir.at("x.gguf.partial").exists() && !dir.at("x.gguf").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let touched = std::fs::OpenOptions::new().write(true).open(dir.at("m.safetensors")).expect("a file");
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("touched");
    let out = child.wait_with_output().expect("an end");
    assert_eq!(out.status.code(), Some(3), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(dir.names(), ["m.safetensors"]);
}
