//! Interrupting and going on: what stays, what is refused, and that the bytes are the same.

use crate::errors::fails;
use crate::support::{Dir, big};
use quantoscope_core::Code;
use quantoscope_tests::binary::{self, Ended};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The command of a slow run.
fn slow(dir: &Dir, input: &Path, output: &str, options: &str) -> Command {
    let line = format!(
        "quantize {} -o {output} {options} --engine scalar --threads 1 --memory 1MB --json",
        input.display()
    );
    binary::command(dir.path(), line.split_whitespace())
}

/// Starts a run on the large model and waits until it has begun to write, or has ended.
pub(crate) fn started(dir: &Dir, output: &str, options: &str) -> Child {
    begun(dir, output, slow(dir, &big(), output, options))
}

pub(crate) fn begun(dir: &Dir, output: &str, mut command: Command) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let journal = dir.at(&format!("{output}.partial.journal"));
    while journal.metadata().map_or(0, |m| m.len()) == 0 && child.try_wait().expect("a status").is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

/// A run to `output` that is stopped in the middle of its work, until [`resumed`].
#[cfg(unix)]
pub(crate) fn paused(dir: &Dir, input: &str, output: &str, options: &str) -> Child {
    assert_eq!(output, "x");
    paused_by(dir, || slow(dir, Path::new(input), output, options))
}

/// The same of any command that writes `x`. A run that was too fast for that is tried again.
#[cfg(unix)]
pub(crate) fn paused_by(dir: &Dir, command: impl Fn() -> Command) -> Child {
    for _ in 0..10 {
        let mut child = begun(dir, "x", command());
        signal(&child, "STOP");
        let state = |child: &Child| {
            let pid = child.id().to_string();
            let shown = Command::new("ps").args(["-o", "state=", "-p", &pid]).output().expect("ps");
            String::from_utf8_lossy(&shown.stdout).trim().to_string()
        };
        while !state(&child).starts_with(['T', 'Z']) && child.try_wait().expect("a status").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !dir.at("x").exists() && dir.at("x.partial.journal").exists() {
            return child;
        }
        signal(&child, "CONT");
        child.wait().expect("an end");
        std::fs::remove_file(dir.at("x")).expect("removed");
    }
    panic!("every run ended before it could be stopped");
}

/// Lets a stopped run go on to its end.
#[cfg(unix)]
pub(crate) fn resumed(child: Child) -> Ended {
    signalled(child, "CONT")
}

/// Sends a signal. That fails where the process has just ended, which its exit code then says.
pub(crate) fn signal(child: &Child, name: &str) {
    drop(Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status());
}

pub(crate) fn signalled(child: Child, name: &str) -> Ended {
    signal(&child, name);
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
pub(crate) fn interrupt_with_something_done(dir: &Dir, input: &Path) {
    let noted = || std::fs::metadata(dir.at("x.gguf.partial.journal")).is_ok_and(|m| m.len() > 100);
    for _ in 0..10 {
        let mut child = begun(dir, "x.gguf", slow(dir, input, "x.gguf", "--type q5_1 --resume"));
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
    interrupt_with_something_done(&dir, &big());
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
    let dir = Dir::new();
    interrupt_with_something_done(&dir, &big());
    fails(
        dir.run(&format!("quantize {} -o x.gguf --type q4_0 --json", big().display())),
        Code::PartialExists,
    );
    dir.run(&format!("quantize {} -o x.gguf --type q4_0 --force", big().display())).exits(0);
    assert_eq!(dir.names(), ["x.gguf"]);
    dir.run(&format!("verify x.gguf --against {}", big().display())).exits(0);
}

/// Whatever a crash may have left in the journal, `--resume` makes the right bytes or refuses, and then `--force` does.
#[test]
fn damaged_journal_costs_time_at_most() {
    let dir = Dir::new();
    dir.run(&format!("quantize {} -o whole.gguf --type q5_1", big().display())).exits(0);
    interrupt_with_something_done(&dir, &big());
    let (partial, journal) = (dir.read("x.gguf.partial"), dir.read("x.gguf.partial.journal"));
    let mut flipped = journal.clone();
    *flipped.last_mut().expect("a byte") ^= 1;
    let mut headless = journal.clone();
    headless[60] ^= 1;
    for (damaged, gone_on) in [
        (flipped.as_slice(), true),
        (&journal[..journal.len() - 3], true),
        (headless.as_slice(), true),
        (&journal[..52], true),
        (&journal[..30], false),
        (b"QSJRNL01", false),
        (b"", false),
    ] {
        // In place: another file would not be the one that the journal speaks of.
        std::fs::write(dir.at("x.gguf.partial"), &partial).expect("written");
        dir.write("x.gguf.partial.journal", damaged);
        let line = format!("quantize {} -o x.gguf --type q5_1 --resume --json", big().display());
        if gone_on {
            dir.run(&line).exits(0);
            assert!(dir.read("x.gguf") == dir.read("whole.gguf"));
            std::fs::rename(dir.at("x.gguf"), dir.at("x.gguf.partial")).expect("renamed");
        } else {
            fails(dir.run(&line), Code::PartialExists);
            assert!(dir.read("x.gguf.partial") == partial && dir.read("x.gguf.partial.journal") == damaged);
        }
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
#[cfg(unix)]
#[test]
fn one_output_has_one_writer() {
    let dir = Dir::new();
    let input = big();
    let first = paused(&dir, input.to_str().expect("a name"), "x", "--to gguf --type q5_1");
    let line = format!("quantize {} -o x --to gguf --type q8_0 --json", input.display());
    for options in ["", "--force", "--resume", "--resume --force"] {
        fails(dir.run(&format!("{line} {options}")), Code::PartialExists);
    }
    resumed(first).exits(0);
    assert_eq!(dir.names(), ["x"]);
    dir.run(&format!("verify x --against {}", input.display())).exits(0);
}

/// What comes to stand under the final name during a run is not replaced; the work is not lost either.
#[cfg(unix)]
#[test]
fn what_was_made_meanwhile_is_kept() {
    for (output, options) in [("x", "--to gguf --type q5_1"), ("x", "--to q4")] {
        let dir = Dir::new();
        let input = big();
        let child = paused(&dir, input.to_str().expect("a name"), output, options);
        dir.write("x", b"years of work");
        let error = fails(resumed(child), Code::Exists);
        assert!(error["message"].as_str().is_some_and(|m| m.contains("appeared")), "{error}");
        assert_eq!(dir.read("x"), b"years of work");
        if options.contains("gguf") {
            dir.run(&format!("quantize {} -o x {options} --resume --force", input.display())).exits(0);
        } else {
            std::fs::remove_file(dir.at("x")).expect("removed");
            dir.run(&format!("quantize {} -o x {options} --resume", input.display())).exits(0);
        }
        dir.run(&format!("verify x --against {}", input.display())).exits(0);
        assert!(dir.names().iter().all(|n| !n.contains("partial")), "{:?}", dir.names());
    }
}
