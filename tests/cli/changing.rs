//! Inputs that change while they are read: no output is made of them, whatever their length and time say.

use crate::errors::fails;
use crate::resume::{interrupt_with_something_done, paused, resumed};
use crate::support::{Dir, big};
use quantoscope_core::Code;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// Writes another byte in the middle of a file, and sets its time of modification back.
fn change_silently(path: &Path) {
    let modified = path.metadata().and_then(|m| m.modified()).expect("a time");
    let mut file = File::options().write(true).open(path).expect("a file");
    file.seek(SeekFrom::Start(path.metadata().expect("a file").len() / 2 + 12_345)).expect("there");
    file.write_all(&[0x3c]).expect("written");
    file.set_modified(modified).expect("set back");
}

/// The same by another file under the same name.
fn replace_silently(path: &Path) {
    let modified = path.metadata().and_then(|m| m.modified()).expect("a time");
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).expect("copied");
    change_silently(&copy);
    File::options().write(true).open(&copy).and_then(|f| f.set_modified(modified)).expect("set back");
    fs::rename(copy, path).expect("renamed");
}

fn with_big() -> Dir {
    let dir = Dir::new();
    fs::create_dir(dir.at("m")).expect("a directory");
    fs::copy(big(), dir.at("m/model.safetensors")).expect("copied");
    dir.write("m/config.json", b"{}");
    dir
}

/// What changes, and how.
type Change = (&'static str, fn(&Path));

#[test]
fn input_that_changes_during_a_run_makes_no_output() {
    let touch: fn(&Path) = |path| {
        let file = File::options().write(true).open(path).expect("a file");
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("set");
    };
    let changes: [Change; 5] = [
        ("m/model.safetensors", change_silently),
        ("m/model.safetensors", replace_silently),
        ("m/model.safetensors", touch),
        ("m/config.json", |path| fs::write(path, b"[]").expect("written")),
        ("m/config.json", |path| fs::remove_file(path).expect("removed")),
    ];
    for (name, change) in changes {
        let dir = with_big();
        let child = paused(&dir, "m", "x", "--to gguf --type q5_1");
        change(&dir.at(name));
        let error = fails(resumed(child), Code::Io);
        let message = error["message"].as_str().expect("words");
        assert!(message.contains(name) && message.contains("changed"), "{message}");
        assert!(!dir.at("x").exists() && !dir.at("x.partial").exists(), "{:?}", dir.names());
    }
}

#[test]
fn input_that_changed_between_two_runs_is_not_gone_on_with() {
    let changes: [fn(&Path); 2] = [change_silently, replace_silently];
    for change in changes {
        let dir = with_big();
        interrupt_with_something_done(&dir, &dir.at("m"));
        change(&dir.at("m/model.safetensors"));
        let line = "quantize m -o x.gguf --type q5_1 --json --resume";
        fails(dir.run(line), Code::ResumeMismatch);
        assert!(dir.at("x.gguf.partial").exists() && !dir.at("x.gguf").exists());
        dir.run("quantize m -o x.gguf --type q5_1 --force").exits(0);
        dir.run("verify x.gguf --against m").exits(0);
    }
}
