//! `metadata`: keys of a GGUF are read and changed; no tensor changes, and nothing half-written is taken for a model.

use crate::support::Dir;
use crate::variants::{present, sha256};
use quantoscope_core::tensor::{MetaValue, Metadata};
use quantoscope_tests::binary;
use quantoscope_tests::memory::MemoryModel;
use serde_json::Value;

/// A directory with the recorded Qwen2 checkpoint as `q.gguf`.
fn with_gguf() -> Dir {
    let dir = Dir::new();
    present(&dir, "qwen2", "m");
    dir.run("quantize m -o q.gguf --recipe q8_0 --pre-tokenizer qwen2 --no-measure").exits(0);
    dir
}

fn open(dir: &Dir, name: &str) -> MemoryModel {
    MemoryModel::file(name, dir.read(name)).expect("a sound GGUF")
}

fn keys(dir: &Dir, name: &str) -> Metadata {
    open(dir, name).checkpoint.metadata
}

/// Checks standard output.
#[track_caller]
fn prints(ended: &binary::Ended, text: &str) {
    assert_eq!(ended.out, text);
}

/// Names, types and bytes of all tensors.
fn tensors(dir: &Dir, name: &str) -> Vec<(String, String)> {
    let model = open(dir, name);
    let one = |t: &quantoscope_core::tensor::TensorInfo| {
        (format!("{} {} {:?}", t.name, t.dtype, t.shape.axes()), sha256(model.tensor(&t.name)))
    };
    model.checkpoint.tensors.iter().map(one).collect()
}

#[cfg(unix)]
fn inode(dir: &Dir, name: &str) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(dir.at(name)).expect("a file"))
}

#[test]
fn metadata_get_prints_values_in_full_and_lists_in_short() {
    let dir = with_gguf();
    prints(&dir.run("metadata get q.gguf general.architecture").exits(0), "qwen2\n");
    let two = dir.run("metadata get q.gguf qwen2.block_count qwen2.rope.freq_base").exits(0);
    assert_eq!(two.out, "qwen2.block_count=u32:2\nqwen2.rope.freq_base=f32:1000000\n");
    let all = dir.run("metadata get q.gguf").exits(0).out;
    assert_eq!(all.lines().count(), keys(&dir, "q.gguf").0.len());
    assert!(all.contains("tokenizer.ggml.tokens=[str]:[\"!\",") && all.contains("(320 elements)"), "{all}");
    let merges = dir.run("metadata get q.gguf tokenizer.ggml.merges").exits(0).out;
    let merges: Value = serde_json::from_str(&merges).expect("a JSON array");
    assert_eq!(merges.as_array().map(Vec::len), Some(44));
    let json = dir.run("metadata get q.gguf --json").exits(0).json();
    let value = &json["metadata"]["general.sampling.temp"];
    assert_eq!((value["type"].as_str(), value["value"].as_f64()), (Some("f32"), Some(0.7)));
    dir.run("metadata get q.gguf no.such.key").exits(2).says("no.such.key");
    dir.run("metadata get m/model.safetensors").exits(4).says("not a GGUF file");
    dir.run("metadata get m").exits(2).says("is no file");
}

/// What `get` prints for named keys is what `set` takes.
#[test]
fn metadata_printed_by_get_is_taken_by_set() {
    let dir = with_gguf();
    let all = keys(&dir, "q.gguf");
    let names: Vec<&str> = all.0.iter().map(|(k, _)| k.as_str()).collect();
    for pair in names.chunks(2).filter(|pair| pair.len() == 2) {
        let args = ["metadata", "get", "q.gguf"].into_iter().chain(pair.iter().copied());
        let printed = binary::run(dir.path(), args).exits(0).out;
        // A value with line breaks, such as a template, is one argument too.
        let second = printed.find(&format!("\n{}=", pair[1])).expect("the second key");
        let (first, second) = (&printed[..second], &printed[second + 1..printed.len() - 1]);
        let set = ["metadata", "set", "q.gguf", first, second, "--json"];
        let report = binary::run(dir.path(), set).exits(0).json();
        assert_eq!(report["method"], "unchanged", "{first} {second}");
    }
    assert!(keys(&dir, "q.gguf") == all);
}

#[test]
fn metadata_that_fits_is_set_in_place() {
    let dir = with_gguf();
    let (before, length) = (tensors(&dir, "q.gguf"), dir.read("q.gguf").len());
    let old = keys(&dir, "q.gguf");
    #[cfg(unix)]
    let number = inode(&dir, "q.gguf");
    // The same length; then texts that are exchanged, so that bytes far from each other change.
    for values in [
        vec!["qwen2.context_length=int:4096"],
        vec!["qwen2.block_count=u32:3", "tokenizer.ggml.padding_token_id=u32:7"],
        vec!["general.architecture=str:qwenX", "tokenizer.ggml.add_bos_token=bool:true"],
    ] {
        let args = ["metadata", "set", "q.gguf", "--json"].into_iter().chain(values.iter().copied());
        let report = binary::run(dir.path(), args).exits(0).json();
        assert_eq!(report["method"], "in_place", "{values:?}");
        assert_eq!(report["keys"].as_array().map(Vec::len), Some(values.len()));
    }
    let new = keys(&dir, "q.gguf");
    assert_eq!(new.uint("qwen2.context_length"), Some(4096));
    assert_eq!(new.uint("tokenizer.ggml.padding_token_id"), Some(7));
    assert_eq!(new.text("general.architecture"), Some("qwenX"));
    assert_eq!(new.get("tokenizer.ggml.add_bos_token"), Some(&MetaValue::Bool(true)));
    let names = |m: &Metadata| m.0.iter().map(|(k, _)| k.clone()).collect::<Vec<_>>();
    assert_eq!(names(&old), names(&new));
    assert_eq!(old.0.iter().zip(&new.0).filter(|(a, b)| a != b).count(), 5);
    assert!(tensors(&dir, "q.gguf") == before);
    assert_eq!(dir.read("q.gguf").len(), length);
    #[cfg(unix)]
    assert_eq!(inode(&dir, "q.gguf"), number);
    assert!(dir.names().iter().all(|n| !n.contains("partial") && !n.contains("undo")), "{:?}", dir.names());
}

#[test]
fn metadata_that_does_not_fit_is_written_again() {
    let dir = with_gguf();
    let before = tensors(&dir, "q.gguf");
    let old = keys(&dir, "q.gguf");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir.at("q.gguf"), std::fs::Permissions::from_mode(0o640)).expect("a mode");
    }
    let template = "{{ bos }}\n".repeat(500);
    dir.write("t.jinja", template.as_bytes());
    let line = "metadata set q.gguf --text-file tokenizer.chat_template=t.jinja own.list=[i64]:[-1,2] --json";
    let dry = dir.run(&format!("{line} --dry-run")).exits(0).json();
    assert!(keys(&dir, "q.gguf") == old, "a dry run writes nothing");
    let report = dir.run(line).exits(0).json();
    assert_eq!((&report["method"], &report["keys"]), (&"rewritten".into(), &dry["keys"]));
    let new = keys(&dir, "q.gguf");
    assert_eq!(new.text("tokenizer.chat_template"), Some(template.as_str()));
    assert_eq!(new.0.len(), old.0.len() + 1);
    assert_eq!(new.0.last().map(|(k, _)| k.as_str()), Some("own.list"));
    let place = |m: &Metadata| m.0.iter().position(|(k, _)| k == "tokenizer.chat_template");
    assert_eq!(place(&old), place(&new));
    assert!(tensors(&dir, "q.gguf") == before);
    prints(&dir.run("metadata get q.gguf tokenizer.chat_template").exits(0), &format!("{template}\n"));
    dir.run("metadata rm q.gguf own.list tokenizer.chat_template").exits(0);
    let left = keys(&dir, "q.gguf");
    assert_eq!(left.0.len(), old.0.len() - 1);
    assert!(left.0.iter().all(|(k, v)| old.get(k) == Some(v)));
    assert!(tensors(&dir, "q.gguf") == before);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(dir.at("q.gguf")).expect("a file").permissions().mode() & 0o777, 0o640);
    }
    assert!(dir.names().iter().all(|n| !n.contains("partial") && !n.contains("undo")), "{:?}", dir.names());
}

#[test]
fn metadata_changes_work_for_any_architecture_and_for_the_first_file_of_a_split() {
    let dir = Dir::with_model();
    dir.run("quantize m.safetensors -o u.gguf --type f16").exits(0);
    prints(&dir.run("metadata get u.gguf general.architecture").exits(0), "unknown\n");
    let before = tensors(&dir, "u.gguf");
    dir.run("metadata set u.gguf general.architecture=str:novel-architecture").exits(0);
    assert!(tensors(&dir, "u.gguf") == before);
    dir.run("split u.gguf -o s.gguf --split-max-tensors 4").exits(0);
    let count = dir.names().iter().filter(|n| n.starts_with("s-")).count();
    let file = |i: usize| format!("s-{i:05}-of-{count:05}.gguf");
    dir.run(&format!("metadata set {} general.name=str:A_longer_name_than_before_it_was", file(1))).exits(0);
    prints(
        &dir.run(&format!("metadata get {} general.name", file(1))).exits(0),
        "A_longer_name_than_before_it_was\n",
    );
    dir.run(&format!("metadata set {} general.name=str:x", file(2))).exits(2).says("not the first file");
    dir.run(&format!("verify {} --against u.gguf", file(1))).exits(0);
    // Stale keys of a split do not reach another GGUF, and the metadata does, whatever the architecture.
    dir.run(&format!("quantize {} -o q.gguf --type q8_0", file(2))).exits(0);
    let made = keys(&dir, "q.gguf");
    assert_eq!(made.text("general.architecture"), Some("novel-architecture"));
    assert_eq!(made.text("general.name"), Some("A_longer_name_than_before_it_was"));
    assert!(made.0.iter().all(|(k, _)| !k.starts_with("split.")));
}

#[test]
fn metadata_changes_that_must_not_be_made_are_refused() {
    let dir = with_gguf();
    let before = dir.read("q.gguf");
    for (line, code, words) in [
        ("set q.gguf general.name", 2, "KEY=TYPE:VALUE"),
        ("set q.gguf split.count=u16:3", 2, "belongs to the layout"),
        ("set q.gguf general.alignment=u32:64", 2, "belongs to the layout"),
        ("rm q.gguf general.alignment", 2, "belongs to the layout"),
        ("rm q.gguf no.such.key", 2, "no.such.key"),
        ("set q.gguf", 2, "required"),
        ("set m/model.safetensors a=str:b", 4, "not a GGUF file"),
        ("set none.gguf a=str:b", 3, "none.gguf"),
        ("set q.gguf a=str:b -o q.gguf", 2, "is the input"),
        ("set q.gguf --text-file a=none", 3, "none"),
    ] {
        dir.run(&format!("metadata {line}")).exits(code).says(words);
    }
    dir.run("metadata set q.gguf a=str:b -o other.gguf").exits(0);
    dir.run("metadata set q.gguf a=str:c -o other.gguf").exits(2).says("--force");
    dir.run("metadata set q.gguf a=str:c -o other.gguf --force").exits(0);
    assert_eq!(keys(&dir, "other.gguf").text("a"), Some("c"));
    assert!(dir.read("q.gguf") == before);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("q.gguf", dir.at("l.gguf")).expect("a link");
        dir.run("metadata set l.gguf a=str:b").exits(2).says("is a link");
        dir.run("metadata set l.gguf qwen2.block_count=u32:9").exits(2).says("is a link");
        std::fs::hard_link(dir.at("q.gguf"), dir.at("h.gguf")).expect("a link");
        dir.run("metadata set h.gguf qwen2.block_count=u32:9").exits(2).says("hard link");
        dir.run("metadata set h.gguf new.key=str:does_not_fit_into_the_padding").exits(2).says("hard link");
    }
    assert!(dir.read("q.gguf") == before);
}

/// A GGUF with any wrong header is refused before anything is written.
#[test]
fn damaged_header_is_refused_and_stays() {
    let dir = with_gguf();
    let sound = dir.read("q.gguf");
    let end = open(&dir, "q.gguf").header_end("q.gguf") as usize;
    for at in (0..end).step_by(97) {
        let mut damaged = sound.clone();
        damaged[at] ^= 0xff;
        dir.write("d.gguf", &damaged);
        let ended = dir.run("metadata set d.gguf qwen2.block_count=u32:2 zz=str:new");
        match ended.code {
            Some(0) => assert!(tensors(&dir, "d.gguf").len() == 26, "byte {at}"),
            Some(2 | 4 | 6) => assert!(dir.read("d.gguf") == damaged, "byte {at}"),
            code => panic!("byte {at}: {code:?} {}", ended.err),
        }
        assert!(dir.names().iter().all(|n| !n.contains("partial") && !n.contains("undo")), "byte {at}");
    }
    for len in [0, 3, 23, end / 2, end - 1] {
        dir.write("d.gguf", &sound[..len]);
        dir.run("metadata set d.gguf zz=str:new").exits(4);
        assert_eq!(dir.read("d.gguf").len(), len);
    }
}

/// The calls that a change in place makes on its files. strace counts each of them by itself.
#[cfg(target_os = "linux")]
const WRITES: [&str; 6] = ["pwrite64", "write", "fsync", "fdatasync", "unlink", "unlinkat"];

/// Changes far from each other, so that they do not lie in one sector.
#[cfg(target_os = "linux")]
const FAR: &str = "metadata set q.gguf qwen2.block_count=u32:3 tokenizer.ggml.padding_token_id=u32:7 --json";

#[cfg(target_os = "linux")]
#[test]
fn change_in_place_killed_at_any_step_is_old_new_or_restored() {
    use crate::support::with_faults;
    let dir = with_gguf();
    let old = dir.read("q.gguf");
    dir.run(FAR).exits(0);
    let new = dir.read("q.gguf");
    assert!(old != new && old.len() == new.len());
    let (mut kills, mut restored) = (0, 0);
    let steps = WRITES.iter().flat_map(|call| (1..99).map(move |step| (*call, step)));
    let mut done = "";
    for (call, step) in steps {
        if done == call {
            continue;
        }
        dir.write("q.gguf", &old);
        let kill = format!("inject={call}:signal=SIGKILL:when={step}");
        let ended = with_faults(&dir, &["trace=all", &kill], FAR);
        if ended.code == Some(0) {
            done = call;
            continue;
        }
        assert_eq!(ended.code, None, "{call} {step}: {}", ended.err);
        kills += 1;
        let now = dir.read("q.gguf");
        if now != old && now != new {
            assert_ne!(&now[..4], b"GGUF", "{call} {step}: a half-written file has no magic");
            dir.run("inspect q.gguf").exits(4).says("quantoscope metadata get");
            restored += 1;
        }
        dir.run("metadata get q.gguf qwen2.block_count").exits(0);
        let settled = dir.read("q.gguf");
        assert!(settled == old || settled == new, "{call} {step}");
        assert!(dir.names().iter().all(|n| !n.contains("undo")), "{call} {step}: {:?}", dir.names());
    }
    assert!(kills >= 10 && restored >= 3, "{kills} {restored}");
}

#[cfg(target_os = "linux")]
#[test]
fn change_in_place_that_fails_at_any_step_leaves_the_old_file() {
    use crate::support::with_faults;
    let dir = with_gguf();
    let old = dir.read("q.gguf");
    dir.run(FAR).exits(0);
    let new = dir.read("q.gguf");
    // One call fails; then all from one on fail, so that the old bytes cannot be written back either.
    for (all_later, call) in [false, true].into_iter().flat_map(|l| WRITES[..4].iter().map(move |c| (l, *c)))
    {
        for step in 1.. {
            dir.write("q.gguf", &old);
            let when = if all_later { format!("{step}+") } else { step.to_string() };
            let fail = format!("inject={call}:error=EIO:when={when}");
            let ended = with_faults(&dir, &["trace=all", &fail], FAR);
            if ended.code == Some(0) {
                break;
            }
            assert_eq!(ended.code, Some(3), "{call} {step}: {}", ended.err);
            let now = dir.read("q.gguf");
            if !all_later {
                assert!(now == old || now == new, "{call} {step}: {}", ended.err);
            }
            dir.run("metadata get q.gguf qwen2.block_count").exits(0);
            let settled = dir.read("q.gguf");
            assert!(settled == old || settled == new, "{call} {step}");
            assert!(dir.names().iter().all(|n| !n.contains("undo")), "{call} {step}: {:?}", dir.names());
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn rewritten_file_killed_at_any_step_is_old_or_new() {
    use crate::support::with_faults;
    let dir = with_gguf();
    let old = dir.read("q.gguf");
    let line = "metadata set q.gguf own.text=str:something_that_is_longer_than_the_padding_of_the_header";
    dir.run(line).exits(0);
    let new = dir.read("q.gguf");
    assert_ne!(old.len(), new.len());
    let calls =
        "pwrite64,write,fsync,fdatasync,unlink,unlinkat,rename,renameat,renameat2,ftruncate,fallocate";
    let mut kills = 0;
    for step in 1.. {
        dir.write("q.gguf", &old);
        let kill = format!("inject={calls}:signal=SIGKILL:when={step}");
        let ended = with_faults(&dir, &["trace=all", &kill], line);
        if ended.code == Some(0) {
            break;
        }
        assert_eq!(ended.code, None, "step {step}: {}", ended.err);
        kills += 1;
        let now = dir.read("q.gguf");
        assert!(now == old || now == new, "step {step}");
        dir.run(line).exits(0);
        assert!(dir.read("q.gguf") == new, "step {step}");
        assert!(dir.names().iter().all(|n| !n.contains("partial")), "step {step}: {:?}", dir.names());
    }
    assert!(kills >= 4, "{kills}");
}

/// Bytes that were saved of another file, or that are not ours, are never written back.
#[test]
fn foreign_saved_bytes_are_refused() {
    let dir = with_gguf();
    let before = dir.read("q.gguf");
    dir.write("q.gguf.undo", b"something else");
    dir.run("metadata get q.gguf").exits(2).says("q.gguf.undo was not made by this program");
    dir.run("metadata set q.gguf a=str:b").exits(2);
    let mut other = b"QSUNDO01".to_vec();
    other.extend_from_slice(&[0; 100]);
    dir.write("q.gguf.undo", &other);
    // Saved bytes whose digest is wrong were never complete, so nothing was written to the file.
    dir.run("metadata get q.gguf general.architecture").exits(0);
    assert!(dir.read("q.gguf") == before);
    assert!(!dir.names().contains(&"q.gguf.undo".to_string()));
}
