//! Directories: which checkpoint is opened, what is reported, what is refused; misuse of `Opening`.

use crate::build::{lattice, refused, same, st};
use quantoscope_core::Code;
use quantoscope_core::bytes::ByteRange;
use quantoscope_core::format::{Checkpoint, Container, Opening, Root, Want, limits};
use quantoscope_tests::drive::{Files, drive_counted, open};

fn weights() -> Vec<u8> {
    st(r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, 1)
}

fn gguf() -> Vec<u8> {
    crate::gguf::sample(32).0
}

fn q4() -> Vec<u8> {
    lattice(b"KHQ4", 2, 1, &[32], 32, 20)
}

fn dir(names: &[&str]) -> Files {
    names.iter().fold(Files::default(), |files, name| {
        let bytes = match name.rsplit('.').next() {
            Some("safetensors") => weights(),
            Some("gguf") => gguf(),
            Some("q4") => q4(),
            Some("f16") => lattice(b"KHF1", 1, 1, &[1], 1, 2),
            _ if name.ends_with("index.json") => br#"{"weight_map":{"w":"model.safetensors"}}"#.to_vec(),
            _ => b"{}".to_vec(),
        };
        files.with(name, bytes)
    })
}

fn opened(names: &[&str]) -> Checkpoint {
    same(Root::Dir, &dir(names)).expect("it opens")
}

fn chosen(names: &[&str]) -> (String, Container, usize) {
    let c = opened(names);
    (c.files[0].name.clone(), c.container, c.warnings.iter().filter(|w| w.code == "unused_weights").count())
}

#[test]
fn directory_first_match_is_opened_and_others_reported() {
    let st = Container::Safetensors;
    let names = ["model.safetensors.index.json", "model.safetensors", "x.safetensors", "x.gguf", "x.q4"];
    assert_eq!(chosen(&names), (names[0].into(), st, 1));
    assert_eq!(chosen(&names[1..]), (names[1].into(), st, 1));
    assert_eq!(chosen(&names[2..]), (names[2].into(), st, 1));
    assert_eq!(chosen(&names[3..]), (names[3].into(), Container::Gguf, 1));
    assert_eq!(chosen(&names[4..]), (names[4].into(), Container::LatticeQ4, 0));
    assert_eq!(
        chosen(&["a.safetensors.index.json", "model.safetensors"]),
        ("a.safetensors.index.json".into(), st, 0)
    );
}

#[test]
fn directory_with_several_candidates_lists_them() {
    for names in [
        &["a.safetensors", "b.safetensors"][..],
        &["a.safetensors.index.json", "b.safetensors.index.json"],
        &["a.gguf", "b.gguf"],
        &["a.gguf", "b-00001-of-00002.gguf"],
    ] {
        let error = open(Root::Dir, &dir(names)).expect_err("refused");
        assert_eq!(error.code(), Code::Usage);
        assert!(names.iter().all(|n| error.detail().message.contains(n)), "{error}");
    }
}

#[test]
fn directory_without_weights_is_refused() {
    for names in [&[][..], &["config.json"], &["sub/model.safetensors"], &["merged_qkvz_0_1_2.q4"]] {
        assert_eq!(open(Root::Dir, &dir(names)).expect_err("refused").code(), Code::NotFound);
    }
}

#[test]
fn directory_with_too_many_files_is_refused() {
    let names = (0..=limits::MAX_ENTRIES).map(|i| (i.to_string(), 0)).collect();
    assert_eq!(Opening::new(Root::Dir).listed(names).expect_err("refused").code(), Code::TooMany);
}

#[test]
fn directory_of_lattice_files_without_an_index_opens() {
    let c = opened(&["b.f16", "a.q4", "merged_qkvz_0_1_2.q4"]);
    assert_eq!(c.tensors.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(c.warnings.iter().map(|w| w.code).collect::<Vec<_>>(), ["file_names"]);
    assert_eq!(c.q4_index, None);
}

#[test]
fn directory_with_unindexed_lattice_file_reports_it() {
    let c = same(
        Root::Dir,
        &dir(&["a.q4", "b.f16"]).with(
            "quantize_index.json",
            r#"[{"name":"x","file":"a.q4","quantized":true,"shape":[32],"numel":32}]"#,
        ),
    );
    assert_eq!(c.expect("it opens").warnings.iter().map(|w| w.code).collect::<Vec<_>>(), ["unused_weights"]);
}

#[test]
fn directory_companions_are_found() {
    let c = opened(&[
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "vocab.json",
        "merges.txt",
        "generation_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "README.md",
        "notes.json",
    ]);
    assert_eq!(c.companions.len(), 8);
    assert!(c.companions.iter().all(|f| f.len == 2 && f.name != "config.json" && f.name != "README.md"));
}

#[test]
fn directory_config_beside_a_file_is_read_and_checked() {
    let files = dir(&["model.safetensors", "config.json"]);
    let root = Root::File("model.safetensors");
    assert_eq!(same(root, &files).expect("it opens").config.as_deref(), Some(&b"{}"[..]));
    assert_eq!(same(root, &files.clone().without("config.json")).expect("it opens").config, None);
    // What Python writes is not always JSON, and the weights are none the worse for it.
    let python = same(root, &files.clone().with("config.json", "{\"a\":Infinity}")).expect("it opens");
    assert_eq!(python.config.as_deref(), Some(&b"{\"a\":Infinity}"[..]));
    assert_eq!(python.warnings.iter().map(|w| w.code).collect::<Vec<_>>(), ["config_not_json"]);
    let deep = "[".repeat(100);
    refused(same(root, &files.clone().with("config.json", deep)), Code::TooDeep, Some(64), None);
    let large = files.with_sparse("config.json", "{", limits::MAX_CONFIG + 1);
    let (outcome, read) = drive_counted(root, &large, usize::MAX);
    refused(outcome, Code::HeaderTooLarge, Some(limits::MAX_CONFIG), None);
    assert!(read <= limits::FIRST_READ);
}

#[test]
fn opening_a_missing_file_is_refused() {
    let error = open(Root::File("m.safetensors"), &Files::default()).expect_err("refused");
    assert_eq!((error.code(), error.detail().file.as_deref()), (Code::NotFound, Some("m.safetensors")));
}

#[test]
fn opening_a_shrinking_file_is_refused() {
    let mut opening = Opening::new(Root::File("m.safetensors"));
    opening.opened(Some(100)).expect("a length");
    opening.data(&[2, 0, 0]).expect("three bytes");
    let want = Want::Read { file: 0, range: ByteRange { start: 3, end: 100 } };
    assert_eq!(opening.want(), want);
    let error = opening.data(&[]).expect_err("refused");
    assert_eq!((error.code(), error.detail().offset), (Code::Truncated, Some(3)));
    assert_eq!(opening.finish(), Err(error));
}

#[test]
fn opening_fed_the_wrong_answer_is_refused() {
    let start = || Opening::new(Root::Dir);
    assert_eq!(start().opened(Some(1)).expect_err("refused").code(), Code::Usage);
    assert_eq!(start().data(&[1]).expect_err("refused").code(), Code::Usage);
    assert_eq!(start().finish().expect_err("refused").code(), Code::Usage);
    let mut opening = Opening::new(Root::File("x"));
    assert_eq!(opening.listed(vec![]).expect_err("refused").code(), Code::Usage);
    assert_eq!(opening.want(), Want::Ready);
}

#[test]
fn opening_fed_too_many_bytes_ignores_the_rest() {
    let bytes = weights();
    let mut opening = Opening::new(Root::File("m.safetensors"));
    opening.opened(Some(bytes.len() as u64)).expect("a length");
    let mut more = bytes.clone();
    more.extend_from_slice(&bytes);
    opening.data(&more).expect("bytes");
    opening.opened(None).expect("no config");
    assert_eq!(opening.finish().expect("it opens").files[0].len, bytes.len() as u64);
}
