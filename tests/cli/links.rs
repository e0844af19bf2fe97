//! Links among the files of a model: its own are followed, those that lead out of it are not copied.

use crate::errors::fails;
use crate::outputs::link;
use crate::support::Dir;
use quantoscope_core::Code;

/// A model whose tokenizer is a link to `target`.
fn with_tokenizer(target: &str) -> Dir {
    let dir = Dir::with_family("llama_tied");
    dir.write("secret.json", b"{\"token\": 1}");
    link(&dir, target, "m/tokenizer.json");
    dir
}

#[test]
fn companion_that_leads_out_of_the_model_is_not_copied() {
    for options in ["", "--dry-run", "--force"] {
        let dir = with_tokenizer("secret.json");
        let error = fails(dir.run(&format!("rotate m -o x --json {options}")), Code::BadName);
        assert_eq!(error["file"], "tokenizer.json");
        assert!(!dir.at("x").exists());
        fails(dir.run("quantize m -o x.gguf --type q8_0 --json"), Code::BadName);
        // A file without a tokenizer does not read it.
        dir.run("quantize m -o x.gguf --type q8_0 --names source").exits(0);
    }
    let dir = Dir::with_family("llama_tied");
    std::fs::rename(dir.at("m/config.json"), dir.at("config.json")).expect("renamed");
    link(&dir, "config.json", "m/config.json");
    for line in ["rotate m -o x --json", "quantize m -o x --to q4 --json"] {
        fails(dir.run(line), Code::BadName);
    }
}

#[test]
fn link_within_the_model_is_copied() {
    let dir = Dir::with_family("llama_tied");
    dir.write("m/t.json", b"{}");
    link(&dir, "m/t.json", "m/tokenizer.json");
    dir.run("rotate m -o x").exits(0);
    assert_eq!(dir.read("x/tokenizer.json"), b"{}");
}

/// The cache of the Hub: `snapshots/COMMIT` holds links into `blobs`.
#[test]
fn cache_of_the_hub_is_a_model() {
    let dir = Dir::with_family("llama_tied");
    std::fs::create_dir_all(dir.at("hub/snapshots/abc")).expect("a directory");
    std::fs::create_dir(dir.at("hub/blobs")).expect("a directory");
    dir.write("m/tokenizer.json", b"{}");
    for (i, name) in ["model.safetensors", "config.json", "tokenizer.json"].iter().enumerate() {
        std::fs::copy(dir.at(&format!("m/{name}")), dir.at(&format!("hub/blobs/{i}"))).expect("copied");
        std::os::unix::fs::symlink(format!("../../blobs/{i}"), dir.at(&format!("hub/snapshots/abc/{name}")))
            .expect("a link");
    }
    dir.run("rotate hub/snapshots/abc -o x").exits(0);
    assert_eq!(dir.read("x/tokenizer.json"), b"{}");
    dir.run("verify x --against m").exits(0);
}

/// Files beside the weights have one limit together, and none is read that is not copied.
#[test]
fn companions_have_one_limit_together() {
    let dir = Dir::with_family("llama_tied");
    for name in ["m/tokenizer.json", "m/vocab.json"] {
        let file = std::fs::File::create(dir.at(name)).expect("a file");
        file.set_len(200 << 20).expect("a sparse file");
    }
    for options in ["", "--dry-run"] {
        let error = fails(dir.run(&format!("rotate m -o x --json {options}")), Code::TooMany);
        assert_eq!(error["file"], "vocab.json");
    }
    assert!(!dir.at("x").exists() && !dir.at("x.partial").exists());
    fails(dir.run("quantize m -o x.gguf --type q8_0 --json"), Code::HeaderTooLarge);
    dir.run("quantize m -o x.gguf --type q8_0 --names source").exits(0);
    std::fs::remove_file(dir.at("m/vocab.json")).expect("removed");
    dir.run("rotate m -o x --dry-run").exits(0);
}
