//! Outputs of several files: GGUF splits and safetensors shards, written whole or not at all, read back, merged.

use crate::support::Dir;
use crate::variants::{present, sha256};
use quantoscope_core::tensor::MetaValue;
use quantoscope_tests::memory::MemoryModel;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const QWEN: &str = "Qwen2.5-0.5B-Instruct";

/// A directory with the recorded Qwen2 checkpoint as `q.gguf`.
fn with_gguf(recipe: &str) -> Dir {
    let dir = Dir::new();
    present(&dir, "qwen2", QWEN);
    let line = format!(
        "quantize {QWEN} -o q.gguf --recipe {recipe} --compat llama.cpp --pre-tokenizer qwen2 --no-measure"
    );
    dir.run(&line).exits(0);
    dir
}

/// The names, lengths and hashes that the converter recorded.
fn recorded(variant: &str) -> Vec<(u64, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/conversion/corpus/qwen2");
    let text = std::fs::read(path.join(format!("expected.{variant}.json"))).expect("a file");
    let expected: Value = serde_json::from_slice(&text).expect("JSON");
    let files = expected["files"].as_array().expect("files").iter();
    let one = |f: &Value| {
        (f["file_bytes"].as_u64().expect("bytes"), f["file_sha256"].as_str().expect("a hash").to_string())
    };
    files.map(one).collect()
}

fn split_name(stem: &str, index: usize, count: usize) -> String {
    format!("{stem}-{:05}-of-{count:05}.gguf", index + 1)
}

#[track_caller]
fn check_recorded(dir: &Dir, stem: &str, variant: &str) {
    let recorded = recorded(variant);
    for (index, (bytes, hash)) in recorded.iter().enumerate() {
        let made = dir.read(&split_name(stem, index, recorded.len()));
        assert_eq!((made.len() as u64, &sha256(&made)), (*bytes, hash), "{variant} {index}");
    }
}

#[test]
fn split_of_one_file_equals_the_converters_files_and_merges_back() {
    for (recipe, options, variant) in [
        ("bf16", "--split-max-tensors 8", "split8"),
        ("bf16", "--split-max-tensors 8 --no-tensor-first-split", "split8-no-tensor-first"),
        ("f32", "--split-max-size 40K", "split-size"),
    ] {
        let dir = with_gguf(recipe);
        dir.run(&format!("split q.gguf -o s.gguf {options}")).exits(0);
        check_recorded(&dir, "s", variant);
        let count = recorded(variant).len();
        let any = split_name("s", count - 1, count);
        dir.run(&format!("merge {any} -o back.gguf")).exits(0);
        assert!(dir.read("back.gguf") == dir.read("q.gguf"), "{variant}");
        dir.run(&format!("verify {any} --against q.gguf")).exits(0);
        dir.run(&format!("merge {any} -o again.gguf --json")).exits(0);
        assert!(dir.names().iter().all(|n| !n.contains("partial")), "{:?}", dir.names());
    }
}

#[test]
fn limits_of_a_split_hold_for_every_file() {
    let dir = with_gguf("f32");
    let one = MemoryModel::file("q.gguf", dir.read("q.gguf")).expect("a sound GGUF");
    for (options, tensors, bytes) in [
        ("--split-max-tensors 1", 1, u64::MAX),
        ("--split-max-tensors 5 --split-max-size 9K", 5, 9_000),
        ("--split-max-size 7000", 99, 7_000),
        // Every tensor is larger than this.
        ("--split-max-size 1", 1, 1),
    ] {
        let dry = dir.run(&format!("split q.gguf -o s.gguf {options} --dry-run --json")).exits(0).json();
        let report = dir.run(&format!("split q.gguf -o s.gguf {options} --force --json")).exits(0).json();
        let files = report["result"]["split_files"].as_array().expect("files");
        assert_eq!(dry["result"]["split_files"], report["result"]["split_files"]);
        let mut seen = BTreeSet::new();
        for (index, file) in files.iter().enumerate() {
            let name = split_name("s", index, files.len());
            assert_eq!(file["name"], name);
            assert_eq!(file["bytes"].as_u64(), Some(dir.read(&name).len() as u64));
        }
        let sizes: Vec<(u64, u64)> = files
            .iter()
            .map(|f| f["name"].as_str().expect("a name"))
            .map(|name| {
                // A file of a split alone is refused; its name without the numbers is read as one file.
                let mut header = dir.read(name);
                let count = header.windows(11).position(|w| w == b"split.count").expect("the key");
                header[count + 15..count + 17].fill(0);
                let part = MemoryModel::file("part.gguf", header).expect("a sound GGUF");
                part.checkpoint.tensors.iter().for_each(|t| assert!(seen.insert(t.name.clone())));
                let sizes = part.checkpoint.tensors.iter().map(|t| t.bytes.len());
                (part.checkpoint.tensors.len() as u64, sizes.sum())
            })
            .collect();
        assert_eq!(seen.len(), one.checkpoint.tensors.len());
        for (n, size) in &sizes {
            assert!(*n <= tensors && (*size <= bytes || *n == 1), "{options}: {sizes:?}");
        }
        files
            .iter()
            .for_each(|f| std::fs::remove_file(dir.at(f["name"].as_str().expect("a name"))).expect("gone"));
    }
}

/// The values of the keys of a split file.
fn split_keys(bytes: Vec<u8>) -> Vec<(String, MetaValue)> {
    let count = bytes.windows(11).position(|w| w == b"split.count").expect("the key");
    let mut plain = bytes.clone();
    plain[count + 15..count + 17].fill(0);
    let model = MemoryModel::file("part.gguf", plain).expect("a sound GGUF");
    model.checkpoint.metadata.0.into_iter().filter(|(k, _)| k.starts_with("split.")).collect()
}

#[test]
fn kept_split_has_the_files_of_the_input() {
    let dir = with_gguf("bf16");
    for options in ["--split-max-tensors 8", "--split-max-tensors 8 --no-tensor-first-split"] {
        dir.run(&format!("split q.gguf -o s.gguf {options}")).exits(0);
        let count = dir.names().iter().filter(|n| n.starts_with("s-")).count();
        let input = split_name("s", 0, count);
        let line = format!("quantize {input} -o k.gguf --recipe q8_0 --compat llama.cpp --keep-split --json");
        let report = dir.run(&line).exits(0).json();
        let tensors = |report: &Value| -> Vec<u64> {
            let files = report["result"]["split_files"].as_array().expect("files");
            files.iter().map(|f| f["tensors"].as_u64().expect("a count")).collect()
        };
        let source = dir.run(&format!("split q.gguf -o t.gguf {options} --dry-run --json")).exits(0).json();
        assert_eq!(tensors(&report), tensors(&source), "{options}");
        for index in 0..count {
            let keys = split_keys(dir.read(&split_name("k", index, count)));
            let no = MetaValue::U16(u16::try_from(index).expect("a few files"));
            assert_eq!(keys.first(), Some(&("split.no".to_string(), no)), "{options}");
        }
        // One file has the same tensors, and no key of the split.
        dir.run(&format!("quantize {input} -o whole.gguf --recipe q8_0 --compat llama.cpp --force")).exits(0);
        dir.run(&format!("merge {} -o merged.gguf --force", split_name("k", 0, count))).exits(0);
        assert!(dir.read("merged.gguf") == dir.read("whole.gguf"), "{options}");
        assert!(!dir.read("whole.gguf").windows(6).any(|w| w == b"split."));
        for name in dir.names().iter().filter(|n| n.starts_with("s-") || n.starts_with("k-")) {
            std::fs::remove_file(dir.at(name)).expect("removed");
        }
    }
    // The input is one file, and so is the output.
    dir.run("quantize q.gguf -o one.gguf --type q8_0 --keep-split").exits(0).says("the input is one file");
    assert!(dir.names().contains(&"one.gguf".to_string()));
}

#[test]
fn shards_of_safetensors_have_an_index_and_merge_back() {
    let dir = Dir::with_model_directory(false);
    dir.run("quantize m -o whole.safetensors --type f16").exits(0);
    for (line, first) in [
        ("quantize m -o part.safetensors --type f16 --split-max-size 20K", "part-00001-of-"),
        ("quantize m -o shards --to safetensors --type f16 --split-max-tensors 3", "model-00001-of-"),
        ("split whole.safetensors -o cut.safetensors --split-max-tensors 4", "cut-00001-of-"),
        ("split whole.safetensors -o cuts --split-max-size 30K", "model-00001-of-"),
    ] {
        let report = dir.run(&format!("{line} --json")).exits(0).json();
        let out = line.split_whitespace().skip_while(|w| *w != "-o").nth(1).expect("an output");
        let (folder, stem) = match out.strip_suffix(".safetensors") {
            Some(stem) => (dir.path().to_path_buf(), stem),
            None => (dir.at(out), "model"),
        };
        let index = std::fs::read(folder.join(format!("{stem}.safetensors.index.json"))).expect("the index");
        let index: Value = serde_json::from_slice(&index).expect("JSON");
        let map = index["weight_map"].as_object().expect("a map");
        let files: BTreeSet<&str> = map.values().map(|f| f.as_str().expect("a name")).collect();
        assert!(files.len() > 1 && files.first().is_some_and(|f| f.starts_with(first)), "{files:?}");
        let tensor_bytes = report["result"]["totals"]["tensor_bytes_out"].as_u64();
        assert_eq!(index["metadata"]["total_size"].as_u64(), tensor_bytes);
        let total: u64 =
            files.iter().map(|f| std::fs::metadata(folder.join(f)).expect("a shard").len()).sum();
        assert!(report["result"]["totals"]["total_bytes_out"].as_u64() > Some(total), "the index counts too");
        let any = folder.join(files.last().expect("a shard"));
        let any = any.to_str().expect("a path");
        dir.run(&format!("verify {any} --against whole.safetensors")).exits(0);
        dir.run(&format!("merge {any} -o back.safetensors --force")).exits(0);
        dir.run("compare whole.safetensors back.safetensors --threshold 1").exits(0);
        let back = MemoryModel::file("b.safetensors", dir.read("back.safetensors")).expect("a sound file");
        let whole = MemoryModel::file("w.safetensors", dir.read("whole.safetensors")).expect("a sound file");
        for tensor in &whole.checkpoint.tensors {
            assert!(whole.tensor(&tensor.name) == back.tensor(&tensor.name), "{}", tensor.name);
        }
    }
    // Shards of a folder keep their files.
    let line = "quantize shards -o kept --to safetensors --type bf16 --keep-split";
    let kept = dir.run(&format!("{line} --json")).exits(0).json();
    let shards = dir.names_in("shards");
    assert_eq!(dir.names_in("kept"), shards);
    let files = kept["result"]["split_files"].as_array().expect("files");
    assert!(files.iter().any(|f| f["tensors"] == 3), "{files:?}");
}

#[test]
fn outputs_that_cannot_be_split_are_refused() {
    let dir = Dir::with_model_directory(false);
    dir.run("quantize m/model.safetensors -o one.gguf --type f16").exits(0);
    for (line, words) in [
        ("quantize m -o x --to q4 --split-max-size 1M", "one file for each tensor"),
        ("quantize m -o x.gguf --type f16 --split-max-tensors 0", "0 is not in 1.."),
        ("quantize m -o x.gguf --type f16 --split-max-size 1X", "not a unit of size"),
        ("quantize one.gguf -o x.gguf --type f32 --keep-split --split-max-size 1M", "leave out the limits"),
        ("quantize m -o x.safetensors --type f32 --no-tensor-first-split", "option of GGUF output"),
        ("quantize one.gguf -o x.gguf --vocab-only --split-max-size 1M", "cannot be split"),
        ("quantize one.gguf -o x.gguf --no-mtp", "Hugging Face folder"),
        ("quantize m -o x.gguf --type f16 --mmproj", "--mmproj is not supported"),
        ("merge one.gguf -o x.gguf", "one file already"),
        ("split one.gguf -o .", "is no name"),
    ] {
        let ended = dir.run(line);
        assert!(matches!(ended.code, Some(2 | 6)), "{line}: {:?} {}", ended.code, ended.err);
        assert!(ended.err.contains(words), "{line}: {}", ended.err);
    }
    assert_eq!(dir.run("quantize m -o x.gguf --type f16 --mmproj").code, Some(6));
    assert_eq!(dir.names(), ["m/config.json", "m/model.safetensors", "one.gguf"]);
}

#[test]
fn files_of_a_split_are_replaced_only_by_force() {
    let dir = with_gguf("bf16");
    let line = "split q.gguf -o s.gguf --split-max-tensors 8";
    dir.write("s-00003-of-00004.gguf", b"foreign");
    dir.run(line).exits(2).says("s-00003-of-00004.gguf exists; --force replaces it");
    assert_eq!(dir.names().iter().filter(|n| n.starts_with("s-")).count(), 1);
    dir.run(&format!("{line} --force")).exits(0);
    check_recorded(&dir, "s", "split8");
    // An input is never replaced.
    let input = "split s-00001-of-00004.gguf -o s.gguf --split-max-tensors 8 --force";
    dir.run(input).exits(2).says("the output is the input");
    check_recorded(&dir, "s", "split8");
    // The name of one file stands for the set.
    std::fs::create_dir(dir.at("d")).expect("a directory");
    dir.run("split q.gguf -o d/s-00001-of-00009.gguf --split-max-tensors 8").exits(0);
    assert_eq!(dir.names_in("d").len(), 4);
    assert_eq!(dir.names_in("d")[0], "s-00001-of-00004.gguf");
    #[cfg(unix)]
    {
        dir.write("foreign", b"foreign");
        std::os::unix::fs::symlink("foreign", dir.at("l-00002-of-00004.gguf")).expect("a link");
        dir.run("split q.gguf -o l.gguf --split-max-tensors 8 --force").exits(2).says("is a link");
    }
}

/// A run that is killed at any step of the naming leaves the old set, the new one, or a set without its first file, which is
/// refused; the next run completes or reverts it.
#[cfg(target_os = "linux")]
#[test]
fn set_killed_at_any_step_of_its_naming_is_never_a_mixture() {
    use crate::support::with_faults;
    const NAMES: &str = "rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat";
    let dir = with_gguf("bf16");
    dir.run("quantize q.gguf -o other.gguf --type q8_0 --pure --compat llama.cpp").exits(0);
    let files = |dir: &Dir| -> Vec<Option<Vec<u8>>> {
        (0..4).map(|i| std::fs::read(dir.at(&split_name("s", i, 4))).ok()).collect()
    };
    let line = "split other.gguf -o s.gguf --split-max-tensors 8 --force --threads 1";
    dir.run(line).exits(0);
    let new = files(&dir);
    let start = |dir: &Dir| {
        dir.names().iter().for_each(|n| assert!(!n.contains("partial"), "{n} is left"));
        dir.run("split q.gguf -o s.gguf --split-max-tensors 8 --force").exits(0);
    };
    start(&dir);
    let old = files(&dir);
    assert!(old != new && old.iter().chain(&new).all(Option::is_some));
    let mut kills = 0;
    for step in 1.. {
        start(&dir);
        let kill = format!("inject={NAMES}:signal=SIGKILL:when={step}");
        let ended = with_faults(&dir, &["trace=all", &kill], line);
        if ended.code == Some(0) {
            break;
        }
        assert_eq!(ended.code, None, "step {step}: {}", ended.err);
        kills += 1;
        let now = files(&dir);
        assert!(now == old || now == new || now[0].is_none(), "a mixture after a kill at step {step}");
        let read = dir.run("inspect s-00001-of-00004.gguf");
        assert_eq!(read.code == Some(0), now == old || now == new, "step {step}: {}", read.err);
        match step % 3 {
            0 => _ = dir.run(&format!("{line} --resume")).exits(0),
            1 => _ = dir.run(line).exits(0),
            _ => {
                // Without permission to replace, a set is complete or reverted at the least.
                let refused = dir.run(line.replace(" --force", "").as_str());
                assert_eq!(refused.code, Some(2), "step {step}: {}", refused.err);
                let settled = files(&dir);
                assert!(settled == old || settled == new, "step {step}: {}", refused.err);
                dir.run(line).exits(0);
            }
        }
        assert!(files(&dir) == new, "step {step}");
    }
    assert!(kills >= 8, "{kills} steps only");
}

/// The same for calls that fail: the message says so, and nothing is mixed.
#[cfg(target_os = "linux")]
#[test]
fn set_whose_naming_fails_at_any_step_is_never_a_mixture() {
    use crate::support::with_faults;
    const NAMES: &str = "rename,renameat,renameat2,mkdir,mkdirat";
    let dir = with_gguf("bf16");
    dir.run("quantize q.gguf -o other.gguf --type q8_0 --pure --compat llama.cpp").exits(0);
    let files = |dir: &Dir| -> Vec<Option<Vec<u8>>> {
        (0..4).map(|i| std::fs::read(dir.at(&split_name("s", i, 4))).ok()).collect()
    };
    let line = "split other.gguf -o s.gguf --split-max-tensors 8 --force --threads 1";
    dir.run(line).exits(0);
    let new = files(&dir);
    for step in 1.. {
        dir.run("split q.gguf -o s.gguf --split-max-tensors 8 --force").exits(0);
        let old = files(&dir);
        let fail = format!("inject={NAMES}:error=EIO:when={step}");
        let ended = with_faults(&dir, &["trace=all", &fail], line);
        if ended.code == Some(0) {
            assert!(step > 5, "{step}");
            break;
        }
        assert_eq!(ended.code, Some(3), "step {step}: {}", ended.err);
        let now = files(&dir);
        assert!(now == old || now == new, "a mixture after a failure at step {step}: {}", ended.err);
        dir.run(line).exits(0);
        assert!(files(&dir) == new, "step {step}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn killed_split_goes_on_where_it_was() {
    use crate::naming::killed_before_naming;
    use crate::support::big;
    let dir = Dir::new();
    let input = big();
    let line = format!(
        "quantize {} -o b.gguf --type q8_0 --no-measure --split-max-tensors 3 --threads 1 --memory 4MB",
        input.display()
    );
    dir.run(&line).exits(0);
    let names: Vec<String> = dir.names();
    assert_eq!(names.len(), 3, "{names:?}");
    let whole: Vec<Vec<u8>> = names.iter().map(|n| dir.read(n)).collect();
    names.iter().for_each(|n| std::fs::remove_file(dir.at(n)).expect("removed"));
    killed_before_naming(&dir, &format!("{line} --resume"));
    assert!(dir.names().iter().all(|n| n.starts_with("b.gguf.partial")), "{:?}", dir.names());
    dir.run(&line).exits(2).says("--resume goes on with it");
    let report = dir.run(&format!("{line} --resume --json")).exits(0).json();
    assert!(report["run"]["resumed_windows"].as_u64() > Some(0), "{report}");
    assert_eq!(dir.names(), names);
    assert!(names.iter().zip(&whole).all(|(n, w)| dir.read(n) == *w));
}
