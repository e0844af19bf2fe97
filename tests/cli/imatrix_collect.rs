//! `imatrix`: sums against an independent program, what they depend on, merging, and what is refused.

use crate::eval::samples;
use crate::support::Dir;
use quantoscope_core::format::imatrix::Imatrix;
use quantoscope_tests::binary;
use quantoscope_tests::memory::imatrix as open;
use quantoscope_tests::models::{ImatrixSums, imatrix};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Counts and sums of the matrices of each entry.
type Sums = BTreeMap<String, Vec<(f64, Vec<f64>)>>;

fn opened(dir: &Dir, name: &str) -> (Imatrix, Sums) {
    let bytes = dir.read(name);
    let found = open(name, &bytes, u64::MAX).expect("an importance matrix");
    let sums = found.entries.iter().map(|(name, entry)| {
        let values = &bytes[entry.at as usize..(entry.at + 4 * entry.values) as usize];
        let values: Vec<f64> =
            values.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect();
        let each = values.len() / entry.counts.len();
        let parts = entry.counts.iter().zip(values.chunks(each));
        (name.clone(), parts.map(|(count, sums)| (f64::from(*count), sums.to_vec())).collect())
    });
    let sums = sums.collect();
    (found, sums)
}

fn assert_close(found: f64, expected: f64, bound: f64, what: &str) {
    assert!((found - expected).abs() <= bound * expected.abs(), "{what}: {found} and {expected}");
}

/// The same entries and counts; sums within `bound` relative to the largest of a matrix.
fn assert_equal(found: &Sums, expected: &Sums, bound: f64) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, expected) in expected {
        assert_eq!(found[name].len(), expected.len(), "{name}");
        for ((count, sums), (expected_count, expected)) in found[name].iter().zip(expected) {
            assert_eq!((count, sums.len()), (expected_count, expected.len()), "{name}");
            let largest = expected.iter().fold(0.0_f64, |m, v| m.max(*v));
            for (sum, expected) in sums.iter().zip(expected) {
                assert!((sum - expected).abs() <= bound * largest, "{name}: {sum} and {expected}");
            }
        }
    }
}

fn expected() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/eval/imatrix.json");
    serde_json::from_slice(&std::fs::read(path).expect("a fixture")).expect("JSON")
}

/// A family's checkpoint as `m`, and the ids of the fixture as `ids.txt`.
fn family(name: &str, expected: &Value) -> Dir {
    let dir = Dir::with_family(name);
    dir.write("ids.txt", expected["ids"].to_string().as_bytes());
    dir
}

/// Every entry, count and sum, under the names of llama.cpp.
#[test]
fn imatrix_sums_are_those_of_an_independent_program() {
    for (name, expected) in expected().as_object().expect("families") {
        let dir = family(name, expected);
        let context = &expected["context"];
        let line = format!("imatrix m --ids ids.txt --context {context} -o");
        for (options, bound) in [("--precision f64", 2e-7), ("", 1e-5)] {
            let report = dir.run(&format!("{line} i.gguf --force --json {options}")).exits(0).json();
            let (file, sums) = opened(&dir, "i.gguf");
            assert_eq!((report["chunks"].as_u64(), file.chunks), (Some(3), Some(3)), "{name}");
            let entries = expected["entries"].as_object().expect("entries");
            assert_eq!(sums.keys().collect::<Vec<_>>(), entries.keys().collect::<Vec<_>>(), "{name}");
            for (entry, matrices) in entries {
                let matrices = matrices.as_array().expect("matrices");
                let shared = ["attn_k_b", "attn_v_b"].iter().any(|part| entry.contains(part));
                assert_eq!(sums[entry].len(), if shared { 1 } else { matrices.len() }, "{name} {entry}");
                let flat: Vec<f64> = sums[entry].iter().flat_map(|(_, sums)| sums.clone()).collect();
                for (i, (matrix, found)) in
                    matrices.iter().zip(flat.chunks(flat.len() / matrices.len())).enumerate()
                {
                    let [count, total, weighted] = [0, 1, 2].map(|i| matrix[i].as_f64().expect("a number"));
                    let what = format!("{name} {entry} {i} {options}");
                    assert_eq!(sums[entry][if shared { 0 } else { i }].0, count, "{what}");
                    assert_close(found.iter().sum(), total, bound, &what);
                    let places = found.iter().zip(1..).map(|(sum, i)| sum * f64::from(i));
                    assert_close(places.sum(), weighted, bound, &what);
                }
            }
        }
    }
}

/// A GGUF has the sums of the folder that it was made of, also where the conversion moves channels and stacks experts.
#[test]
fn imatrix_of_a_gguf_equals_that_of_its_folder() {
    // A GGUF of Gemma 2 has no place for query_pre_attn_scalar, so its attention is another.
    for (name, expected) in expected().as_object().expect("families").iter().filter(|(n, _)| *n != "gemma2") {
        let dir = family(name, expected);
        dir.run("quantize m -o f.gguf --type f32 --names gguf").exits(0);
        for model in ["m", "f.gguf"] {
            dir.run(&format!("imatrix {model} --ids ids.txt --context 10 -o {model}.imatrix.gguf")).exits(0);
        }
        let (folder, gguf) = (opened(&dir, "m.imatrix.gguf").1, opened(&dir, "f.gguf.imatrix.gguf").1);
        assert_equal(&gguf, &folder, 1e-5);
    }
}

/// Bytes depend on neither threads nor memory: rounds of chunks add up in one order.
#[test]
fn imatrix_bytes_do_not_depend_on_resources() {
    let dir = samples();
    let line = "imatrix m --ids ids.txt --context 40 --process-output --precision f32 -o";
    dir.run(&format!("{line} a.gguf -j 1 --memory 1GiB")).exits(0);
    for resources in ["-j 1 --memory 14MiB", "-j 3 --memory 40MiB"] {
        dir.run(&format!("{line} b.gguf --force {resources}")).exits(0);
        assert!(dir.read("a.gguf") == dir.read("b.gguf"), "{resources}");
    }
    let refused = dir.run("imatrix m --ids ids.txt --context 40 -o c.gguf --memory 1MiB").exits(2);
    assert!(refused.err.contains("MiB of --memory"), "{}", refused.err);
}

#[test]
fn imatrix_output_head_is_collected_on_request() {
    let dir = samples();
    dir.run("imatrix m --ids ids.txt --context 40 -o a.gguf").exits(0);
    dir.run("imatrix m --ids ids.txt --context 40 -o b.gguf --process-output").exits(0);
    let (plain, mut with) = (opened(&dir, "a.gguf").1, opened(&dir, "b.gguf").1);
    assert_eq!(with.remove("output.weight").map(|m| (m[0].0, m[0].1.len())), Some((320.0, 256)));
    assert_equal(&with, &plain, 0.0);
    assert!(plain.keys().all(|name| name.starts_with("blk.")), "{:?}", plain.keys());
    let tied = Dir::with_family("qwen3_tied");
    tied.write("ids.txt", b"3 4 5 6 7 8");
    let line = "imatrix m --ids ids.txt --context 6 --process-output -o a.gguf";
    assert!(tied.run(line).exits(0).err.contains("the model's head is its embedding"));
    assert!(!opened(&tied, "a.gguf").1.contains_key("output.weight"));
}

/// Sums and counts of texts add up, in one run, by merging, and chunk by chunk.
#[test]
fn imatrix_merged_texts_equal_one_run() {
    let dir = samples();
    let ids = String::from_utf8(dir.read("ids.txt")).expect("text");
    let words: Vec<&str> = ids.split_whitespace().collect();
    dir.write("a.txt", words[..160].join(" ").as_bytes());
    dir.write("b.txt", words[160..].join(" ").as_bytes());
    let line = "imatrix m --context 40";
    dir.run(&format!("{line} --ids ids.txt -o all.gguf")).exits(0);
    dir.run(&format!("{line} --ids a.txt --ids b.txt -o both.gguf")).exits(0);
    let all = opened(&dir, "all.gguf").1;
    let (both, sums) = opened(&dir, "both.gguf");
    assert_equal(&sums, &all, 0.0);
    assert_eq!((both.chunks, &*both.datasets), (Some(8), &["a.txt".to_string(), "b.txt".into()][..]));
    dir.run(&format!("{line} --ids a.txt -o m.gguf")).exits(0);
    dir.run(&format!("{line} --ids b.txt --merge m.gguf -o m.gguf --force")).exits(0);
    let (merged, sums) = opened(&dir, "m.gguf");
    assert_equal(&sums, &all, 1e-6);
    assert_eq!((merged.chunks, merged.datasets), (both.chunks, both.datasets));
    dir.run(&format!("{line} --ids ids.txt --chunks 3 -o first.gguf")).exits(0);
    dir.run(&format!("{line} --ids ids.txt --from-chunk 3 -o rest.gguf")).exits(0);
    dir.run("imatrix m --context 40 --merge first.gguf --merge rest.gguf -o parts.gguf").exits(0);
    assert_equal(&opened(&dir, "parts.gguf").1, &all, 1e-6);
}

/// The legacy format has the means of the GGUF, and can be merged and turned into one.
#[test]
fn imatrix_legacy_format_has_the_same_means() {
    let expected = &expected()["qwen3_moe"];
    let dir = family("qwen3_moe", expected);
    let line = "imatrix m --ids ids.txt --context 10";
    for output in ["i.gguf", "i.dat", "i.imatrix", "again.gguf --format dat"] {
        dir.run(&format!("{line} -o {output}")).exits(0);
    }
    assert_eq!(dir.read("i.dat"), dir.read("i.imatrix"));
    assert_eq!(dir.read("i.dat"), dir.read("again.gguf"));
    assert_eq!(&dir.read("i.gguf")[..4], b"GGUF");
    let (gguf, legacy) = (opened(&dir, "i.gguf").1, opened(&dir, "i.dat"));
    assert_eq!((legacy.0.chunks, &*legacy.0.datasets), (Some(3), &["ids.txt".to_string()][..]));
    for (name, matrices) in &gguf {
        let (calls, values) = &legacy.1[name][0];
        let means = matrices.iter().flat_map(|(count, sums)| {
            let mean = |sum: &f64| if *count == 0.0 { 1.0 } else { sum / count };
            sums.iter().map(mean).collect::<Vec<_>>()
        });
        for (value, mean) in values.iter().zip(means) {
            assert!((value / calls - mean).abs() <= 1e-6 * mean, "{name}");
        }
    }
    dir.run("imatrix m --merge i.dat --context 10 -o back.gguf").exits(0);
    let back = opened(&dir, "back.gguf").1;
    assert_eq!(back.keys().collect::<Vec<_>>(), gguf.keys().collect::<Vec<_>>());
    let (down, made) = (&gguf["blk.0.ffn_down.weight"][0], &back["blk.0.ffn_down.weight"][0]);
    assert_eq!(down.0, made.0);
    down.1.iter().zip(&made.1).for_each(|(a, b)| assert_close(*b, *a, 1e-6, "merged"));
}

/// `quantize` takes the file at once, and uses all entries.
#[test]
fn imatrix_is_used_by_quantize() {
    let dir = samples();
    dir.run("quantize m -o q.gguf --recipe q4_k_m").exits(0);
    for (model, names) in [("m", "gguf"), ("q.gguf", "source")] {
        dir.run(&format!("imatrix {model} --ids ids.txt --context 40 -o i.gguf --force")).exits(0);
        let line = "quantize m -o o.gguf --force --names gguf --recipe iq2_xs --imatrix i.gguf --json";
        let report = dir.run(line).exits(0).json();
        let entries = opened(&dir, "i.gguf").1.len() as u64;
        let used = &report["result"]["importance"];
        assert_eq!((used["entries"].as_u64(), used["chunks"].as_u64()), (Some(entries), Some(8)), "{names}");
        let unmatched = report["result"]["warnings"].to_string();
        assert!(!unmatched.contains("importance_unmatched"), "{unmatched}");
        assert!(!unmatched.contains("importance_missing"), "{unmatched}");
    }
    let other = Dir::with_family("qwen3_moe");
    other.write("ids.txt", b"3 4 5 6 7 8 9 10");
    let report = other.run("imatrix m --ids ids.txt --context 2 --chunks 1 -o i.gguf --json").exits(0).json();
    let unreached = report["unreached"].as_array().expect("a list");
    assert!(!unreached.is_empty() && unreached.iter().all(|u| u["of"] == 4), "{report}");
    let text = other.run("imatrix m --ids ids.txt --context 2 --chunks 1 -o i.gguf --force").exits(0).out;
    assert!(text.contains("experts that no token reached"), "{text}");
}

/// A run that was killed goes on after the chunks that its journal has, to the same bytes.
#[test]
#[cfg(unix)]
fn imatrix_killed_run_goes_on_from_its_journal() {
    use std::time::Duration;
    let dir = samples();
    let ids = dir.read("ids.txt");
    dir.write("long.txt", &[&ids[..], b" "].concat().repeat(4));
    let line = "imatrix m --ids long.txt --context 16";
    dir.run(&format!("{line} -o whole.gguf --journal j")).exits(0);
    assert!(!dir.at("j").exists(), "the journal is removed at the end");
    let arguments = format!("{line} -o x.gguf --journal j");
    let mut child = binary::command(dir.path(), arguments.split(' '))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    while !dir.at("j").exists() && child.try_wait().expect("a status").is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("a signal");
    child.wait().expect("an end");
    assert!(dir.at("j").exists() && !dir.at("x.gguf").exists());
    let other = dir.run("imatrix m --ids long.txt --context 20 -o x.gguf --journal j").exits(2);
    assert!(other.err.contains("is the journal of another run"), "{}", other.err);
    let ended = dir.run(&format!("{line} -o x.gguf --journal j")).exits(0);
    assert!(ended.err.contains("goes on after 16 chunks"), "{}", ended.err);
    assert!(!dir.at("j").exists());
    // The name of the text is in both.
    assert!(dir.read("x.gguf") == dir.read("whole.gguf"));
    dir.write("j", b"my notes");
    assert!(dir.run(&format!("{line} -o y.gguf --journal j")).exits(2).err.contains("is not a journal"));
    assert_eq!(dir.read("j"), b"my notes");
}

#[test]
fn imatrix_impossible_requests_are_refused_with_a_reason() {
    let dir = samples();
    let other = Dir::with_family("llama");
    for file in ["config.json", "model.safetensors"] {
        std::fs::create_dir_all(dir.at("f")).expect("a directory");
        std::fs::copy(other.at("m").join(file), dir.at("f").join(file)).expect("a copy");
    }
    dir.write("few.txt", b"1 2 3");
    dir.write("there.gguf", b"something");
    dir.write("small.txt", b"3 4 5 6 7 8");
    dir.run("imatrix f --ids small.txt --context 6 -o f.gguf").exits(0);
    let config = String::from_utf8(dir.read("m/config.json")).expect("text");
    std::fs::create_dir(dir.at("t5")).expect("a directory");
    std::fs::copy(dir.at("m/model.safetensors"), dir.at("t5/model.safetensors")).expect("a copy");
    dir.write("t5/config.json", config.replace("\"llama\"", "\"t5\"").as_bytes());
    for (line, code, part) in [
        (
            "imatrix m --ids few.txt --context 4 -o o.gguf",
            6,
            "few.txt: 3 tokens are fewer than one chunk of 4",
        ),
        ("imatrix m --ids ids.txt --context 300 -o o.gguf", 2, "longer than the 256 positions"),
        (
            "imatrix m --ids ids.txt --context 100 --from-chunk 3 -o o.gguf",
            6,
            "3 chunks of 100 tokens, and 3 are",
        ),
        ("imatrix m --ids ids.txt -o there.gguf", 2, "--force replaces it"),
        ("imatrix m --ids ids.txt -o m", 2, "the output is the input"),
        ("imatrix m --ids ids.txt -o t5", 2, "is a directory"),
        ("imatrix m --ids ids.txt -o m/model.safetensors --force", 2, "the output is the input"),
        ("imatrix m --merge f.gguf -o o.gguf", 4, "f.gguf has 24 sums of this tensor, and 256 are expected"),
        ("imatrix m --merge ids.txt -o o.gguf", 4, "neither GGUF nor"),
        ("imatrix t5 --ids ids.txt -o o.gguf", 6, "no forward pass for the architecture \"t5\""),
        ("imatrix m -o o.gguf", 2, "--text"),
        ("imatrix m --ids ids.txt", 2, "--output"),
    ] {
        let ended = dir.run(line).exits(code);
        assert!(ended.err.contains(part), "{line}: {}", ended.err);
        assert!(!dir.at("o.gguf").exists() && dir.read("there.gguf") == b"something", "{line}");
    }
}

/// Nothing that is not a journal of the same run is replaced or removed, whatever the options.
#[test]
fn imatrix_leaves_files_of_others_alone() {
    let dir = samples();
    dir.run("imatrix m --ids ids.txt --context 40 -o a.gguf").exits(0);
    let before = binary::tree(&dir.at(""));
    for (line, code, part) in [
        ("imatrix m --merge a.gguf -o b.gguf --journal ids.txt", 2, "not a journal of an importance matrix"),
        ("imatrix m --merge a.gguf -o b.gguf --journal m/model.safetensors", 2, "a file that is read"),
        ("imatrix m --merge a.gguf -o b.gguf --journal a.gguf", 2, "a file that is read"),
        ("imatrix m --ids ids.txt --context 40 -o j.gguf --journal j.gguf", 2, "the journal"),
        ("imatrix m --ids ids.txt --context 40 -o j.gguf --journal ./m/../j.gguf", 2, "the journal"),
        ("imatrix m --ids ids.txt --context 40 -o j.gguf.new --journal j.gguf", 2, "the journal"),
        ("imatrix m --ids ids.txt --context 40 -o j.gguf --journal ids.txt", 2, "the journal"),
        ("imatrix m --ids ids.txt --context 40 -o ids.txt --force", 2, "the output is the text"),
        ("imatrix m --ids ids.txt --context 40 -o none/o.gguf", 3, "there is no directory none"),
        ("imatrix m --ids ids.txt --context 40 -o o.gguf --journal none/j", 3, "there is no directory none"),
    ] {
        let ended = dir.run(line).exits(code);
        assert!(ended.err.contains(part), "{line}: {}", ended.err);
        assert_eq!(binary::tree(&dir.at("")), before, "{line}");
    }
}

/// Without a text, chunks are as long as those of the merged files; experts that none of them reached are named.
#[test]
fn imatrix_merged_alone_keeps_its_chunks() {
    let dir = samples();
    let made = dir.run("imatrix m --ids ids.txt --context 40 -o a.gguf --json").exits(0).json();
    let merged = dir.run("imatrix m --merge a.gguf -o b.dat --json").exits(0).json();
    assert_eq!(merged["chunk_size"], made["chunk_size"]);
    assert_eq!(merged["chunks"], made["chunks"]);
    let again = dir.run("imatrix m --merge a.gguf --merge a.gguf -o c.gguf --json").exits(0).json();
    assert_eq!(again["chunk_size"], 40);
}

/// Sizes and counts of every entry are those of the model, head and embedding included, and sums need a count.
#[test]
fn imatrix_merged_file_with_wrong_sizes_or_counts_is_refused() {
    let dir = samples();
    let ones = |n: usize| vec![1.0; n];
    let down = "blk.0.ffn_down.weight";
    let inner = opened_size(&dir, down);
    for (name, sums, counts, part) in [
        ("output.weight", ones(100), ones(1), "has 100 sums of this tensor, and 256 are expected"),
        ("token_embd.weight", ones(4096), ones(1), "has 4096 sums of this tensor, and 256 are expected"),
        ("output.weight", ones(256), ones(2), "has 2 counts of this tensor, and 1 are expected"),
        (down, ones(inner), ones(2), "has 2 counts of this tensor, and 1 are expected"),
        (down, ones(inner), vec![0.0], "count 0 of this tensor is 0, and its sums are not"),
    ] {
        let entry: ImatrixSums = (name, vec![sums], counts);
        dir.write("x.gguf", &imatrix(&[entry]));
        let refused = dir.run("imatrix m --merge x.gguf -o o.gguf").exits(4).err;
        assert!(refused.contains(part) && refused.contains(name), "{refused}");
        assert!(!dir.at("o.gguf").exists());
    }
    let sound = [("output.weight", vec![ones(256)], ones(1)), (down, vec![vec![0.0; inner]], vec![0.0])];
    dir.write("x.gguf", &imatrix(&sound));
    dir.run("imatrix m --merge x.gguf -o o.gguf").exits(0);
}

/// The number of sums that the sample has for a tensor.
fn opened_size(dir: &Dir, name: &str) -> usize {
    dir.run("imatrix m --ids ids.txt --context 40 --chunks 1 -o size.gguf").exits(0);
    opened(dir, "size.gguf").1[name][0].1.len()
}

/// Activations depend on the length of a chunk, so that merging different ones is a warning.
#[test]
fn imatrix_merged_file_of_other_chunks_is_a_warning() {
    let dir = samples();
    dir.run("imatrix m --ids ids.txt --context 40 --chunks 1 -o a.gguf").exits(0);
    let warned = |line: &str| {
        let report = dir.run(&format!("imatrix m {line} --force -o b.gguf --json")).exits(0).json();
        let warnings = report["warnings"].as_array().expect("warnings").clone();
        warnings.iter().any(|w| w["code"] == "other_chunk_size")
    };
    assert!(warned("--ids ids.txt --context 20 --chunks 1 --merge a.gguf"));
    assert!(!warned("--ids ids.txt --context 40 --chunks 1 --merge a.gguf"));
    assert!(!warned("--merge a.gguf"));
}

/// The legacy format has means of 1 for experts that no token reached; they do not become activations.
#[test]
fn imatrix_merged_legacy_placeholders_stay_unreached() {
    let dir = Dir::with_family("qwen3_moe");
    dir.write("ids.txt", b"9");
    for output in ["i.gguf", "i.dat"] {
        dir.run(&format!("imatrix m --ids ids.txt --context 1 -o {output}")).exits(0);
    }
    let report = dir.run("imatrix m --merge i.dat --context 1 -o back.gguf --json").exits(0).json();
    assert!(report["unreached"].as_array().is_some_and(|u| !u.is_empty()), "{report}");
    let (gguf, back) = (opened(&dir, "i.gguf").1, opened(&dir, "back.gguf").1);
    let name = "blk.1.ffn_up_exps.weight";
    let reached = |sums: &Sums| sums[name].iter().map(|(count, _)| *count > 0.0).collect::<Vec<_>>();
    assert_eq!(reached(&gguf), reached(&back));
    assert!(reached(&gguf).contains(&false) && reached(&gguf).contains(&true));
    for ((count, sums), (_, expected)) in back[name].iter().zip(&gguf[name]) {
        assert!(*count > 0.0 || sums.iter().all(|sum| *sum == 0.0));
        sums.iter().zip(expected).for_each(|(a, b)| assert_close(*a, *b, 1e-6, name));
    }
}

/// Names beside the output are checked before texts are read.
#[test]
fn imatrix_foreign_scratch_name_is_refused_before_any_work() {
    let dir = samples();
    dir.write("few.txt", b"1 2 3");
    for scratch in ["o.gguf.partial", "o.gguf.partial.journal"] {
        dir.write(scratch, b"notes of three years");
        for force in ["", "--force"] {
            let line = format!("imatrix m --ids few.txt --context 4 -o o.gguf {force} --json");
            let ended = dir.run(&line).exits(2);
            assert_eq!(ended.error()["code"], "partial_exists", "{}", ended.err);
            assert_eq!(dir.read(scratch), b"notes of three years");
        }
        std::fs::remove_file(dir.at(scratch)).expect("a file");
    }
    dir.run("imatrix m --ids few.txt --context 4 -o o.gguf").exits(6);
    assert!(!dir.at("o.gguf.partial.journal").exists());
}
