//! Nothing is ever lost: not the input, not what stood there before, and no half-written artefact stays behind.

use crate::errors::fails;
use crate::support::Dir;
use quantoscope_core::Code;

const Q: &str = "--type q4_0 --json";

#[cfg(unix)]
pub(crate) fn link(dir: &Dir, to: &str, name: &str) {
    std::os::unix::fs::symlink(dir.at(to), dir.at(name)).expect("a link");
}

/// Runs something that must be refused as `code`, and leave everything as it was.
#[track_caller]
pub(crate) fn refused(dir: &Dir, line: &str, code: Code) {
    let before = quantoscope_tests::binary::tree(dir.path());
    fails(dir.run(line), code);
    assert!(
        quantoscope_tests::binary::tree(dir.path()) == before,
        "{line} changed something: {:?}",
        dir.names()
    );
}

#[cfg(unix)]
#[test]
fn a_file_is_never_its_own_output() {
    let dir = Dir::with_model();
    std::fs::create_dir(dir.at("sub")).expect("a directory");
    link(&dir, "m.safetensors", "link.safetensors");
    link(&dir, "", "here");
    dir.run("quantize m.safetensors -o m.gguf --type f16").exits(0);
    for force in ["", "--force"] {
        for (input, output) in [
            ("m.gguf", "m.gguf"),
            ("m.gguf", "./m.gguf"),
            ("m.gguf", "sub/../m.gguf"),
            ("here/m.gguf", "m.gguf"),
            ("m.gguf", "here/m.gguf"),
        ] {
            refused(&dir, &format!("quantize {input} -o {output} {Q} {force}"), Code::SameFile);
        }
        let absolute = dir.at("m.gguf");
        refused(&dir, &format!("quantize m.gguf -o {} {Q} {force}", absolute.display()), Code::SameFile);
        let line = format!("quantize link.safetensors -o m.safetensors --type f32 --json {force}");
        refused(&dir, &line, Code::SameFile);
        let line = format!("quantize m.safetensors -o link.safetensors --type f32 --json {force}");
        refused(&dir, &line, Code::SameFile);
    }
}

#[test]
fn a_directory_is_never_its_own_output() {
    let dir = Dir::with_model_directory(false);
    dir.run("quantize m -o q --to q4").exits(0);
    for force in ["", "--force"] {
        for (input, output) in
            [("m", "m"), ("m", "./m/"), ("m", "q/../m"), ("m/model.safetensors", "m"), ("q", "q")]
        {
            refused(&dir, &format!("quantize {input} -o {output} --to q4 --json {force}"), Code::SameFile);
        }
        let line = format!("quantize m -o m/model.safetensors --type f32 --json {force}");
        refused(&dir, &line, Code::SameFile);
    }
}

/// The names that a run writes under before it is done are outputs as well.
#[test]
fn an_input_under_the_partial_name_is_not_touched() {
    for name in ["x.gguf.partial", "x.gguf.partial.journal"] {
        let dir = Dir::with_model();
        std::fs::rename(dir.at("m.safetensors"), dir.at(name)).expect("renamed");
        for options in ["", "--force", "--resume", "--force --resume"] {
            refused(&dir, &format!("quantize {name} -o x.gguf {Q} {options}"), Code::SameFile);
        }
    }
    let dir = Dir::with_model_directory(false);
    std::fs::rename(dir.at("m"), dir.at("x.partial")).expect("renamed");
    for options in ["--force", "--resume"] {
        refused(&dir, &format!("quantize x.partial -o x --to q4 --json {options}"), Code::SameFile);
    }
}

#[test]
fn what_exists_is_replaced_only_by_force() {
    let dir = Dir::with_model();
    dir.write("x.gguf", b"precious");
    refused(&dir, &format!("quantize m.safetensors -o x.gguf {Q}"), Code::Exists);
    dir.run(&format!("quantize m.safetensors -o x.gguf {Q} --force")).exits(0);
    dir.run("verify x.gguf --against m.safetensors").exits(0);
    std::fs::create_dir(dir.at("d.gguf")).expect("a directory");
    for force in ["", "--force"] {
        refused(&dir, &format!("quantize m.safetensors -o d.gguf {Q} {force}"), Code::Exists);
        refused(&dir, &format!("quantize m.safetensors -o x.gguf --to q4 --json {force}"), Code::Exists);
    }
}

/// By rename: who has the old file open, or linked, keeps it.
#[cfg(unix)]
#[test]
fn force_replaces_by_rename() {
    use std::os::unix::fs::MetadataExt;
    let dir = Dir::with_model();
    dir.write("x.gguf", b"precious");
    std::fs::hard_link(dir.at("x.gguf"), dir.at("kept")).expect("a link");
    let inode = |name: &str| std::fs::metadata(dir.at(name)).expect("a file").ino();
    let old = inode("x.gguf");
    dir.run(&format!("quantize m.safetensors -o x.gguf {Q} --force")).exits(0);
    assert_eq!((inode("kept"), dir.read("kept").as_slice()), (old, b"precious".as_slice()));
    assert_ne!(inode("x.gguf"), old);
}

/// A failed run with --force leaves the old output as it was.
#[test]
fn a_failed_run_replaces_nothing() {
    let dir = Dir::new();
    let mut values = vec![0.5; 64 * 64];
    values[99] = f32::NAN;
    dir.write("m.safetensors", &crate::support::one("a.weight", &[64, 64], &values));
    dir.write("x.gguf", b"precious");
    refused(&dir, &format!("quantize m.safetensors -o x.gguf {Q} --force"), Code::NonFinite);
}

#[test]
fn directories_are_written_to_when_empty_or_ours() {
    let dir = Dir::with_model_directory(false);
    std::fs::create_dir(dir.at("empty")).expect("a directory");
    dir.run("quantize m -o empty --to q4").exits(0);
    dir.run("verify empty --against m").exits(0);
    refused(&dir, "quantize m -o empty --to q4 --json", Code::Exists);
    std::fs::create_dir(dir.at("theirs")).expect("a directory");
    dir.write("theirs/thesis.tex", b"years of work");
    for force in ["", "--force"] {
        refused(&dir, &format!("quantize m -o theirs --to q4 --json {force}"), Code::Exists);
    }
    // Ours: only the files that we write are replaced.
    dir.write("empty/note.txt", b"mine");
    dir.run("quantize m -o empty --to q4 --q4-scheme sym --force").exits(0);
    assert_eq!(dir.read("empty/note.txt"), b"mine");
    let verified = dir.run("verify empty --against m --json").exits(0).json();
    let sym = |t: &&serde_json::Value| t["encoding"] == "q4_sym";
    assert!(verified["tensors"].as_array().expect("rows").iter().any(|t| sym(&t)), "{verified}");
}

/// After every way to fail, nothing lies about.
#[test]
fn no_partial_stays() {
    let dir = Dir::with_model();
    let mut values = vec![0.5; 64 * 64];
    values[4095] = f32::INFINITY;
    dir.write("bad.safetensors", &crate::support::one("a.weight", &[64, 64], &values));
    let before = dir.names();
    for line in [
        "quantize bad.safetensors -o x.gguf --type q8_0",
        "quantize bad.safetensors -o x --to q4",
        "quantize bad.safetensors -o x --to q4 --resume",
        "quantize m.safetensors -o x.gguf --type q4_0 --memory 1",
        "quantize m.safetensors -o x.gguf --type q4_0 --engine none",
        "quantize m.safetensors -o x.gguf --type q4_0 --dry-run",
    ] {
        dir.run(line);
        assert_eq!(dir.names(), before, "{line}");
    }
}

#[test]
fn a_name_that_ends_like_a_directory_is_none_for_a_file() {
    let dir = Dir::with_model();
    for output in ["x.gguf/", "x.gguf/."] {
        refused(&dir, &format!("quantize m.safetensors -o {output} {Q}"), Code::Usage);
    }
    for output in ["q/", "r/."] {
        dir.run(&format!("quantize m.safetensors -o {output} --to q4")).exits(0);
        dir.run(&format!("verify {output} --against m.safetensors")).exits(0);
    }
}

#[cfg(unix)]
#[test]
fn a_directory_may_be_a_link() {
    let dir = Dir::with_model();
    std::fs::create_dir_all(dir.at("far/q")).expect("a directory");
    link(&dir, "far/q", "q");
    dir.run("quantize m.safetensors -o q --to q4").exits(0);
    dir.run("quantize m.safetensors -o q --to q4 --force").exits(0);
    assert!(dir.at("q").is_symlink());
    dir.run("verify far/q --against m.safetensors").exits(0);
    assert!(dir.names().iter().all(|n| !n.contains("partial")), "{:?}", dir.names());
}

/// The configuration and the tokenizer belong to the input as much as the weights do.
#[test]
fn what_goes_with_the_input_is_not_replaced() {
    let dir = Dir::with_model_directory(false);
    dir.write("m/tokenizer.json", b"{}");
    for name in ["config.json", "tokenizer.json"] {
        refused(
            &dir,
            &format!("quantize m -o m/{name} --to gguf --names source --force {Q}"),
            Code::SameFile,
        );
    }
    refused(
        &dir,
        &format!("quantize m/model.safetensors -o m/config.json --to gguf --names source --force {Q}"),
        Code::SameFile,
    );
}

/// A sparse file of 8 TiB makes an output for which hardly a disk has room. Nothing is enumerated to find that out: the
/// run writes no journal, and plans no window.
#[test]
fn too_little_room_is_told_before_the_start() {
    let dir = Dir::new();
    let header = r#"{"a.weight":{"dtype":"F32","shape":[1048576,2097152],"data_offsets":[0,8796093022208]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    dir.write("m.safetensors", &bytes);
    let file = std::fs::OpenOptions::new().write(true).open(dir.at("m.safetensors")).expect("a file");
    file.set_len(bytes.len() as u64 + (8 << 40)).expect("a sparse file of 8 TiB in the temporary directory");
    for options in ["-o x.gguf --type q8_0", "-o x --to q4"] {
        fails(dir.run(&format!("quantize m.safetensors {options} --json")), Code::NoSpace);
        assert_eq!(dir.names(), ["m.safetensors"]);
    }
    dir.run("quantize m.safetensors -o x.gguf --type q8_0 --dry-run").exits(0);
}

/// A model of links, as the Hugging Face cache is, is read through them.
#[cfg(unix)]
#[test]
fn links_are_followed() {
    let dir = Dir::with_model_directory(false);
    std::fs::create_dir(dir.at("cache")).expect("a directory");
    link(&dir, "m/model.safetensors", "cache/model.safetensors");
    link(&dir, "m/config.json", "cache/config.json");
    dir.run("quantize cache -o x --to q4").exits(0);
    dir.run("verify x --against m").exits(0);
    assert!(dir.at("x/config.json").is_file());
    refused(&dir, "quantize cache -o m/model.safetensors --type f32 --json --force", Code::SameFile);
    refused(&dir, "quantize cache -o m --to q4 --json --force", Code::SameFile);
}
