//! Measuring with a journal: a run that was stopped goes on to the same report.

use crate::support::Dir;
#[cfg(target_os = "linux")]
use crate::support::with_faults;
use quantoscope_core::{Code, DType};
use quantoscope_tests::models::{Rng, Tensor, safetensors};
#[cfg(unix)]
use std::time::Duration;

/// The verbs that measure, with options that make many small windows.
#[cfg(unix)]
const LINES: [&str; 6] = [
    "inspect m.safetensors --stats --json -j 1 --memory 150KB",
    "sweep m.safetensors --types q4_0,q8_0 --json -j 1 --memory 150KB",
    "sweep m.safetensors --types q4_0 --rotate block:32 --sample 512 --json -j 1 --memory 150KB",
    "compare m.safetensors q.gguf --json -j 1 --memory 150KB",
    "verify q.gguf --json -j 1 --memory 150KB",
    "verify q.gguf --against m.safetensors --json -j 1 --memory 150KB",
];

fn with_model() -> Dir {
    let dir = Dir::new();
    let tensors: Vec<Tensor> = (0..4)
        .map(|i| Tensor::random(&format!("layers.{i}.up.weight"), DType::BF16, &[1024, 1024], &mut Rng(i)))
        .collect();
    dir.write("m.safetensors", &safetensors(&tensors));
    dir.run("quantize m.safetensors -o q.gguf --type q5_1").exits(0);
    dir
}

/// Windows that a run took over from a journal, as it says.
#[cfg(unix)]
fn taken_over(err: &str) -> u64 {
    let words = err.split("goes on after ").nth(1).unwrap_or_else(|| panic!("{err:?}"));
    words.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{err:?}"))
}

/// Ends a run with the journal `j` by a failing read, as early as some windows are recorded.
#[cfg(target_os = "linux")]
fn stopped(dir: &Dir, line: &str) {
    // The reads of each thread are counted: the first one's are those of headers and of the source's identity.
    for read in (16..).step_by(8) {
        let fault = format!("inject=pread64:error=EIO:when={read}");
        let ended = with_faults(dir, &[&fault], line);
        assert_eq!(ended.code, Some(3), "{}", ended.err);
        if dir.at("j").metadata().map_or(0, |m| m.len()) > 500 {
            return;
        }
        drop(std::fs::remove_file(dir.at("j")));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn measuring_that_failed_on_a_read_goes_on_to_the_same_report() {
    let dir = with_model();
    for line in LINES {
        let whole = dir.run(line).exits(0).out;
        let line = format!("{line} --journal j");
        stopped(&dir, &line);
        assert!(dir.read("j").starts_with(b"QSJRNL"), "{line}");
        let again = dir.run(&line).exits(0);
        assert!(taken_over(&again.err) > 0, "{line}: {}", again.err);
        assert_eq!(again.out, whole, "{line}");
        assert_eq!(dir.names(), ["m.safetensors", "q.gguf"], "{line}");
    }
}

#[cfg(unix)]
#[test]
fn measuring_that_was_killed_goes_on_to_the_same_report() {
    let dir = with_model();
    let line = LINES[1];
    let whole = dir.run(line).exits(0).out;
    let line = format!("{line} --journal j");
    for attempt in 0.. {
        assert!(attempt < 10, "every run ended before it could be killed");
        let mut command = quantoscope_tests::binary::command(dir.path(), line.split_whitespace());
        let mut child = command.stdout(std::process::Stdio::null()).spawn().expect("the binary starts");
        // The header alone has 52 bytes.
        let noted = || dir.at("j").metadata().map_or(0, |m| m.len()) > 52;
        while !noted() && child.try_wait().expect("a status").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().expect("killed");
        child.wait().expect("an end");
        if dir.at("j").exists() {
            break;
        }
    }
    let again = dir.run(&line).exits(0);
    assert!(taken_over(&again.err) > 0, "{}", again.err);
    assert_eq!(again.out, whole);
}

#[cfg(target_os = "linux")]
#[test]
fn journal_of_another_run_is_refused_and_kept() {
    let dir = with_model();
    stopped(&dir, "sweep m.safetensors --types q4_0 -j 1 --memory 150KB --journal j");
    let kept = dir.read("j");
    for line in [
        "sweep m.safetensors --types q8_0 --json --journal j",
        "sweep m.safetensors --types q4_0 --sample 64 --json --journal j",
        "sweep q.gguf --types q4_0 --json --journal j",
        "inspect m.safetensors --stats --json --journal j",
    ] {
        dir.run(line).exits(2);
        assert!(dir.read("j") == kept, "{line}");
    }
    // A source that changed is another source.
    let mut model = dir.read("m.safetensors");
    let last = model.len() - 1;
    model[last] ^= 1;
    dir.write("m.safetensors", &model);
    let error =
        dir.run("sweep m.safetensors --types q4_0 -j 1 --memory 150KB --json --journal j").exits(2).error();
    assert_eq!(error["code"], Code::PartialExists.as_str());
    assert!(dir.read("j") == kept);
}

#[test]
fn foreign_file_under_the_journals_name_is_untouched() {
    let dir = with_model();
    dir.write("notes.txt", b"mine");
    dir.write("QSJRNL99", b"QSJRNL99 of a later version");
    std::fs::create_dir(dir.at("d")).expect("a directory");
    for name in ["notes.txt", "m.safetensors", "q.gguf", "d", "QSJRNL99"] {
        let read = |name: &str| std::fs::read(dir.at(name)).ok();
        let before = read(name);
        dir.run(&format!("sweep m.safetensors --types q4_0 --journal {name}")).exits(2);
        assert!(read(name) == before, "{name}");
    }
    assert_eq!(dir.names(), ["QSJRNL99", "m.safetensors", "notes.txt", "q.gguf"]);
    let error = dir.run("inspect m.safetensors --json --journal j").exits(2).error();
    assert!(error["message"].as_str().is_some_and(|m| m.contains("--stats")), "{error}");
    dir.run("sweep m.safetensors --types q4_0 --journal missing/j").exits(3);
}
