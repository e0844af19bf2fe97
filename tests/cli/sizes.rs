//! What a dry run says is what a real run writes: the sizes of the files on disk are summed, not a formula.

use crate::support::Dir;
use serde_json::Value;
use std::path::Path;

/// Bytes of a file, or of all files of a directory.
fn on_disk(path: &Path) -> u64 {
    let meta = std::fs::metadata(path).expect("an output");
    if meta.is_file() {
        return meta.len();
    }
    std::fs::read_dir(path).expect("a directory").map(|e| on_disk(&e.expect("an entry").path())).sum()
}

fn totals(report: &Value) -> &Value {
    &report["result"]["totals"]
}

fn check(dir: &Dir, input: &str, output: &str, options: &str) {
    let line = format!("quantize {input} -o {output} {options} --json");
    let before = dir.names();
    let planned = dir.run(&format!("{line} --dry-run")).exits(0).json();
    assert_eq!(dir.names(), before, "a dry run leaves everything as it was");
    let done = dir.run(&line).exits(0).json();
    let bytes = on_disk(&dir.at(output));
    assert_eq!(totals(&planned)["total_bytes_out"], bytes, "{line}");
    assert_eq!(totals(&planned), totals(&done), "{line}");
    let tensors = |r: &Value| {
        let one =
            |t: &Value| (t["name"].clone(), t["action"].clone(), t["bytes_out"].clone(), t["reason"].clone());
        r["result"]["tensors"].as_array().expect("tensors").iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(tensors(&planned), tensors(&done));
    assert_eq!((&planned["dry_run"], &done["dry_run"]), (&Value::Bool(true), &Value::Bool(false)));
    assert!(planned.get("run").is_none(), "nothing ran");
    assert!(done["run"]["seconds"].is_number());
}

#[test]
fn every_type_and_container_tied_and_untied() {
    for tied in [false, true] {
        let dir = Dir::with_model_directory(tied);
        for dtype in ["f32", "f16", "BF16", "q8_0", "Q5_1", "q5_0", "q4_1", "q4_0"] {
            for pure in ["", "--pure"] {
                check(&dir, "m", &format!("{dtype}{pure}.gguf"), &format!("--type {dtype} {pure}"));
            }
        }
        for dtype in ["f32", "f16", "bf16"] {
            check(&dir, "m", &format!("{dtype}.safetensors"), &format!("--type {dtype}"));
        }
        check(&dir, "m", "asym", "--to q4");
        check(&dir, "m", "sym", "--to q4 --q4-scheme sym");
        check(&dir, "m/model.safetensors", "bare", "--to q4");
    }
}

#[test]
fn from_every_container() {
    let dir = Dir::with_model_directory(false);
    dir.run("quantize m -o f.gguf --type f16").exits(0);
    dir.run("quantize m -o q --to q4").exits(0);
    check(&dir, "f.gguf", "a.gguf", "--type q5_0");
    check(&dir, "f.gguf", "b", "--to q4");
    check(&dir, "q", "c.gguf", "--type q4_1");
    check(&dir, "c.gguf", "d", "--to q4");
    check(&dir, "q", "e.safetensors", "--type f32 --allow-requantize");
}

#[test]
fn the_sample_model() {
    let dir = Dir::new();
    let sample = quantoscope_tests::binary::sample();
    let sample = sample.to_str().expect("a path of text");
    check(&dir, sample, "a.gguf", "--type q4_0");
    check(&dir, sample, "a", "--to q4");
}

#[test]
fn plan_says_what_a_dry_run_says() {
    let dir = Dir::with_model_directory(true);
    let plan = dir.run("plan m --type q4_1 --json").exits(0).json();
    let dry = dir.run("quantize m -o x.gguf --type q4_1 --json --dry-run").exits(0).json();
    assert_eq!(plan["result"], dry["result"]);
    assert!(dir.run("plan m --to q4").exits(0).out.contains("norm"));
}

#[test]
fn threads_and_memory_change_neither_bytes_nor_report() {
    let dir = Dir::with_model_directory(false);
    let sample = quantoscope_tests::binary::sample();
    let mut first = None;
    for (threads, memory) in (1..=8).flat_map(|t| [(t, "2MB"), (t, "64MiB")]) {
        let run = |options: &str, out: &str| {
            let line = format!(
                "quantize {} {options} -o {out} --json --force --threads {threads} --memory {memory}",
                sample.display()
            );
            dir.run(&line).exits(0).json()["result"].take()
        };
        let reports = [run("--type q4_1", "x.gguf"), run("--to q4", "x")];
        let made = (reports, dir.read("x.gguf"), quantoscope_tests::binary::tree(&dir.at("x")));
        let first = first.get_or_insert_with(|| made.clone());
        assert!(*first == made, "{threads} threads, {memory}");
    }
}
