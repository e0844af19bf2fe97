//! Names beside an output that a run needs: what stands there and was not made by a run of ours is refused, and stays.

use crate::errors::fails;
use crate::outputs::link;
use crate::support::{Dir, snapshot};
use quantoscope_core::Code;
use std::process::Command;

/// What can stand under a name.
const KINDS: [&str; 9] = [
    "the input by a second name",
    "a text",
    "a text of another magic",
    "a text with a second name",
    "an empty file with a second name",
    "a link to a text",
    "a link to nothing",
    "a directory",
    "a pipe",
];

fn place(dir: &Dir, kind: &str, name: &str) {
    let done = match kind {
        "the input by a second name" => std::fs::hard_link(dir.at("m/model.safetensors"), dir.at(name)),
        "a text" => std::fs::write(dir.at(name), "notes of three years"),
        "a text of another magic" => std::fs::write(dir.at(name), b"QSJRN\0\0\0 notes"),
        "a text with a second name" => std::fs::write(dir.at("notes"), "QSJRNL03 notes")
            .and_then(|()| std::fs::hard_link(dir.at("notes"), dir.at(name))),
        "an empty file with a second name" => std::fs::write(dir.at("empty"), "")
            .and_then(|()| std::fs::hard_link(dir.at("empty"), dir.at(name))),
        "a link to a text" => std::fs::write(dir.at("notes"), "notes").map(|()| link(dir, "notes", name)),
        "a link to nothing" => {
            link(dir, "nowhere", name);
            Ok(())
        }
        "a directory" => std::fs::create_dir(dir.at(name))
            .and_then(|()| std::fs::write(dir.at(name).join("thesis.tex"), "years of work")),
        _ => Command::new("mkfifo").arg(dir.at(name)).status().map(|s| assert!(s.success())),
    };
    done.expect(kind);
}

#[test]
fn foreign_scratch_name_is_refused_and_untouched() {
    for (output, options) in [("x.gguf", "--type q8_0"), ("x", "--to q4")] {
        for suffix in [".partial", ".partial.journal"] {
            for kind in KINDS {
                let dir = Dir::with_model_directory(false);
                place(&dir, kind, &format!("{output}{suffix}"));
                let before = snapshot(dir.path());
                for permission in ["", "--force", "--resume", "--force --resume"] {
                    let line = format!("quantize m -o {output} {options} --json {permission}");
                    let code = match kind {
                        "the input by a second name" | "a link to a text" | "a link to nothing" => None,
                        _ => Some(Code::PartialExists),
                    };
                    let ended = dir.run(&line).exits(2);
                    let told = ended.error()["code"].clone();
                    let expected = code.is_none_or(|code| told == code.as_str());
                    assert!(expected, "{kind} at {output}{suffix}, {permission}: {told}");
                    let after = snapshot(dir.path());
                    assert!(
                        after == before,
                        "{kind} at {output}{suffix} with {permission:?}: {:?}",
                        dir.names()
                    );
                }
            }
        }
    }
}

/// The files of a partial directory are opened for writing when a run goes on: none of them may be another's.
#[test]
fn foreign_file_in_a_partial_directory_is_refused_and_untouched() {
    for kind in ["the input by a second name", "a text with a second name", "a link to a text", "a pipe"] {
        let dir = Dir::with_model_directory(false);
        let line = "quantize m -o x --to q4 --resume --json";
        crate::naming::killed_before_naming(&dir, line);
        std::fs::remove_file(dir.at("x.partial/config.json")).expect("removed");
        place(&dir, kind, "x.partial/config.json");
        let before = snapshot(dir.path());
        // A second name changes the input too, which is found first.
        let code = if kind.starts_with("the input") { Code::ResumeMismatch } else { Code::PartialExists };
        fails(dir.run(line), code);
        assert!(snapshot(dir.path()) == before, "{kind}");
        if kind != "the input by a second name" && kind != "a text with a second name" {
            fails(dir.run("quantize m -o x --to q4 --force --json"), Code::PartialExists);
            assert!(snapshot(dir.path()) == before, "{kind}");
        }
    }
}

/// A partial output of ours that was swapped for another file is not ours any more.
#[test]
fn swapped_partial_is_refused() {
    let dir = Dir::with_model_directory(false);
    let line = "quantize m -o x.gguf --type q8_0 --json";
    crate::naming::killed_before_naming(&dir, line);
    std::fs::rename(dir.at("x.gguf.partial"), dir.at("kept")).expect("renamed");
    dir.write("x.gguf.partial", b"notes of three years");
    let before = snapshot(dir.path());
    for permission in ["", "--force", "--resume", "--force --resume"] {
        fails(dir.run(&format!("{line} {permission}")), Code::PartialExists);
        assert!(snapshot(dir.path()) == before, "{permission}");
    }
}

/// What a run leaves that is killed right after it created its files: a journal without a word, a file without a byte.
#[test]
fn empty_leftovers_of_a_killed_run_are_taken_over() {
    for permission in ["--force", "--resume"] {
        let dir = Dir::with_model();
        dir.write("x.gguf.partial", b"");
        dir.write("x.gguf.partial.journal", b"");
        dir.run(&format!("quantize m.safetensors -o x.gguf --type q4_0 {permission}")).exits(0);
        dir.run("verify x.gguf --against m.safetensors").exits(0);
        assert_eq!(dir.names(), ["m.safetensors", "x.gguf"]);
    }
    // Without a journal even that could be anybody's.
    let dir = Dir::with_model();
    dir.write("x.gguf.partial", b"");
    for permission in ["--force", "--resume"] {
        let line = format!("quantize m.safetensors -o x.gguf --type q4_0 --json {permission}");
        fails(dir.run(&line), Code::PartialExists);
    }
    assert_eq!(dir.names(), ["m.safetensors", "x.gguf.partial"]);
}

#[test]
fn long_output_name_gets_a_shorter_scratch_name() {
    for len in [238, 239, 240, 245, 246, 247, 248, 254, 255] {
        for letter in ["o", "\u{e9}"] {
            let dir = Dir::with_model();
            let name = letter.repeat(len / letter.len());
            let line = format!("quantize m.safetensors -o {name} --to gguf --type q4_0");
            dir.run(&line).exits(0);
            assert_eq!(dir.names().len(), 2, "{:?}", dir.names());
            dir.run(&format!("{line} --force")).exits(0);
            dir.run(&format!("verify {name} --against m.safetensors")).exits(0);
            std::fs::remove_file(dir.at(&name)).expect("removed");
            dir.run(&format!("quantize m.safetensors -o {name} --to q4")).exits(0);
            dir.run(&format!("quantize m.safetensors -o {name} --to q4 --force")).exits(0);
        }
    }
    // Two long names of the same beginning do not meet.
    let dir = Dir::with_model();
    let (a, b) = ("o".repeat(254), "o".repeat(255));
    crate::naming::killed_before_naming(
        &dir,
        &format!("quantize m.safetensors -o {a} --to gguf --type q4_0"),
    );
    dir.run(&format!("quantize m.safetensors -o {b} --to gguf --type q4_0")).exits(0);
    dir.run(&format!("quantize m.safetensors -o {a} --to gguf --type q4_0 --resume")).exits(0);
    assert!(dir.read(&a) == dir.read(&b));
    assert_eq!(dir.names().len(), 3);
}
