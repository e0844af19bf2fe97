//! What goes to a terminal, and what does not.

use crate::support::Dir;
use quantoscope_core::DType;
#[cfg(target_os = "linux")]
use quantoscope_tests::binary;
use quantoscope_tests::models::{Kv, Rng, Tensor, gguf, safetensors};
#[cfg(target_os = "linux")]
use std::process::Command;

const HOSTILE: &str = "a\u{1b}[31m\u{7}\r\n\tb\u{202e}c\u{9b}\u{7f}.weight";

fn hostile() -> Dir {
    let dir = Dir::new();
    let tensors = [Tensor::random(HOSTILE, DType::F32, &[32, 32], &mut Rng(1))];
    dir.write("m.safetensors", &safetensors(&tensors));
    dir.write(
        "m.gguf",
        &gguf(&[("general.name", Kv::Text("\u{1b}]0;owned\u{7}")), ("x\u{1b}y", Kv::U32(1))], &tensors),
    );
    let other = [Tensor::random(&format!("{HOSTILE}2"), DType::F32, &[32, 32], &mut Rng(1))];
    dir.write("n.safetensors", &safetensors(&other));
    dir.write("bad.safetensors", &safetensors(&[Tensor::of(HOSTILE, DType::F32, &[32], &[f32::NAN; 32])]));
    dir
}

/// Neither stream may carry a control character but newline (and tab, between cells).
#[track_caller]
fn harmless(text: &str) {
    let bad = |c: &char| (c.is_control() && !"\n\t".contains(*c)) || ('\u{202a}'..='\u{202e}').contains(c);
    assert_eq!(text.chars().find(bad), None, "{text:?}");
}

#[test]
fn names_from_files_cannot_drive_a_terminal() {
    let dir = hostile();
    for line in [
        "inspect m.safetensors",
        "inspect m.safetensors --stats",
        "inspect m.gguf",
        "plan m.safetensors --type q4_0",
        "quantize m.safetensors -o x.gguf --type q4_0",
        "quantize m.safetensors -o y --to q4",
        "sweep m.safetensors",
        "sweep m.safetensors --format table",
        "compare m.safetensors m.gguf",
        "compare m.safetensors m.gguf --format table",
        "compare m.safetensors n.safetensors",
        "compare m.safetensors n.safetensors --format table",
        "verify x.gguf --against n.safetensors",
        "verify bad.safetensors",
        "quantize bad.safetensors -o z --to q4",
        "inspect no\u{1b}file",
    ] {
        let ended = dir.run(line);
        harmless(&ended.out);
        harmless(&ended.err);
    }
    let out = dir.run("compare m.safetensors m.gguf").exits(0).out;
    assert_eq!(out.lines().count(), 2, "one line for a tensor: {out}");
    assert_eq!(out.lines().nth(1).map(|l| l.split('\t').count()), Some(7));
}

#[test]
fn json_carries_names_as_they_are() {
    let dir = hostile();
    let json = dir.run("inspect m.safetensors --json").exits(0).json();
    assert_eq!(json["tensors"][0]["name"], HOSTILE);
}

#[test]
fn what_is_no_terminal_gets_no_colours_and_no_bar() {
    let dir = Dir::with_model();
    for line in [
        "inspect m.safetensors --stats",
        "quantize m.safetensors -o x.gguf --type q4_0",
        "compare m.safetensors x.gguf",
        "compare m.safetensors x.gguf --format table",
        "sweep m.safetensors --format table",
    ] {
        let ended = dir.run(line).exits(0);
        harmless(&ended.out);
        harmless(&ended.err);
    }
}

#[cfg(target_os = "linux")]
/// Runs in a pseudo terminal, made by `script` of util-linux: `tests/setup.sh rust` installs it.
fn in_terminal(dir: &Dir, line: &str, no_color: Option<&str>) -> String {
    let mut command = Command::new("script");
    command.current_dir(dir.path()).args([
        "-qec",
        &format!("'{}' {line}", binary::path().display()),
        "/dev/null",
    ]);
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
    no_color.map(|v| command.env("NO_COLOR", v));
    binary::ended(&mut command).out
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_a_table_with_colours_unless_it_wants_none() {
    let dir = Dir::with_model();
    dir.run("quantize m.safetensors -o x.gguf --type q4_0").exits(0);
    let line = "compare m.safetensors x.gguf 2>/dev/null";
    let colourful = in_terminal(&dir, line, None);
    assert!(colourful.contains("\u{1b}[") && colourful.contains("verdict"), "{colourful:?}");
    assert!(!colourful.contains("tensor\tqtype"), "a table, not TSV");
    let plain = in_terminal(&dir, line, Some("1"));
    assert!(plain.contains("verdict") && !plain.contains('\u{1b}'), "{plain:?}");
    let empty = in_terminal(&dir, line, Some(""));
    assert!(empty.contains("\u{1b}["), "an empty NO_COLOR is none");
    let sweep = in_terminal(&dir, "sweep m.safetensors 2>/dev/null", Some("1"));
    assert!(sweep.contains("SQNR") && !sweep.contains('\u{1b}'), "{sweep:?}");
}

/// Words that cannot be written change neither the work nor the exit code.
#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_error_changes_nothing() {
    let dir = Dir::with_model();
    for (line, code) in [
        ("quantize m.safetensors -o x.gguf --type q4_0", 0),
        ("compare m.safetensors x.gguf --threshold 1", 5),
        ("inspect no", 3),
        ("inspect no --json", 3),
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device");
        let mut command = binary::command(dir.path(), line.split(' '));
        assert_eq!(binary::ended(command.stderr(full)).code, Some(code), "{line}");
    }
}
