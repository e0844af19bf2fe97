//! GGUF splits: any file opens the set, and each file must match its name.

use crate::build::{GgufBuilder, refused, same};
use quantoscope_core::Code;
use quantoscope_core::format::{Container, Root};
use quantoscope_core::tensor::MetaValue;
use quantoscope_tests::drive::{Files, open};

/// What one file of a set says.
#[derive(Clone, Copy)]
struct Said {
    no: u16,
    count: u16,
    total: u32,
}

/// A file with one tensor and the three keys.
fn file(tensor: &str, said: Said, extra: &str) -> Vec<u8> {
    let head = GgufBuilder::new(1, 4).string(b"split.no").u32(2).raw(&said.no.to_le_bytes());
    let head = head.string(b"split.count").u32(2).raw(&said.count.to_le_bytes());
    let head = head.string(b"split.tensors.count").u32(5).u32(said.total).key_u32(extra, 7);
    head.tensor(tensor, &[8], 0, 0).data(32, 32).bytes
}

fn name(no: u32) -> String {
    format!("m-{no:05}-of-00003.gguf")
}

fn set() -> Files {
    (0..3).fold(Files::default(), |files, no| {
        let said = Said { no, count: 3, total: 3 };
        files.with(&name(u32::from(no) + 1), file(["z", "y", "x"][usize::from(no)], said, "split.extra"))
    })
}

/// The set with another second file.
fn with_second(said: Said) -> Files {
    set().with(&name(2), file("y", said, "split.extra"))
}

#[test]
fn splits_by_any_file_open_the_set() {
    let roots = [name(1), name(2), name(3)];
    for root in roots.iter().map(|n| Root::File(n)).chain([Root::Dir]) {
        let c = same(root, &set()).expect("it opens");
        assert_eq!((c.container, c.files.len()), (Container::Gguf, 3));
        let tensors: Vec<(&str, u32)> = c.tensors.iter().map(|t| (t.name.as_str(), t.file)).collect();
        assert_eq!(tensors, [("z", 0), ("y", 1), ("x", 2)]);
        assert_eq!(c.metadata.get("split.no"), Some(&MetaValue::U16(0)));
        // The first file of a split is the usual way to name it; another one is told to be a part.
        let codes: Vec<_> = c.warnings.iter().map(|w| w.code).collect();
        let part = matches!(root, Root::File(n) if n != name(1));
        assert_eq!(codes, if part { vec!["whole_set"] } else { vec![] });
    }
}

#[test]
fn splits_missing_file_is_named() {
    let error = same(Root::File(&name(1)), &set().without(&name(2))).expect_err("refused");
    assert_eq!((error.code(), error.detail().file.as_deref()), (Code::BadIndex, Some(name(2).as_str())));
}

#[test]
fn splits_count_unlike_the_name_is_refused() {
    let files = with_second(Said { no: 1, count: 4, total: 3 });
    refused(same(Root::Dir, &files), Code::BadValue, Some(24 + 22 + 23), None);
}

#[test]
fn splits_number_unlike_the_name_is_refused() {
    refused(
        same(Root::Dir, &with_second(Said { no: 2, count: 3, total: 3 })),
        Code::BadValue,
        Some(24 + 20),
        None,
    );
}

#[test]
fn splits_wrong_tensor_total_is_refused() {
    let files = with_second(Said { no: 1, count: 3, total: 4 });
    refused(same(Root::Dir, &files), Code::BadValue, Some(24 + 22 + 25 + 31), None);
}

#[test]
fn splits_part_under_another_name_is_refused() {
    let part = file("t", Said { no: 0, count: 3, total: 3 }, "a");
    refused(same(Root::File("m.gguf"), &Files::of("m.gguf", part)), Code::BadValue, Some(24 + 22 + 23), None);
}

#[test]
fn splits_whole_files_named_as_parts_are_refused() {
    let whole = || GgufBuilder::new(1, 0).tensor("t", &[8], 0, 0).data(32, 32).bytes;
    let files = Files::of("m-00001-of-00002.gguf", whole()).with("m-00002-of-00002.gguf", whole());
    let error = same(Root::Dir, &files).expect_err("refused");
    // Two files with a tensor `t` each: that is told first.
    assert_eq!(error.code(), Code::DuplicateName);
    let files = files.with("m-00002-of-00002.gguf", GgufBuilder::new(0, 0).bytes);
    assert_eq!(same(Root::Dir, &files).expect_err("refused").code(), Code::BadValue);
}

#[test]
fn splits_similar_names_open_as_whole_files() {
    let whole = GgufBuilder::new(1, 0).tensor("t", &[8], 0, 0).data(32, 32).bytes;
    for name in [
        "m-00001-of-00001.gguf",
        "m-1-of-2.gguf",
        "m-00003-of-00002.gguf",
        "m-00000-of-00002.gguf",
        "-of-.gguf",
    ] {
        assert_eq!(
            open(Root::File(name), &Files::of(name, whole.clone())).expect("it opens").files[0].name,
            name
        );
    }
}

#[test]
fn splits_tensor_in_two_files_is_refused() {
    let files = set().with(&name(3), file("z", Said { no: 2, count: 3, total: 3 }, "split.extra"));
    let error = same(Root::Dir, &files).expect_err("refused");
    assert_eq!((error.code(), error.detail().tensor.as_deref()), (Code::DuplicateName, Some("z")));
}

#[test]
fn splits_key_of_a_later_file_is_reported() {
    let files = set().with(&name(2), file("y", Said { no: 1, count: 3, total: 3 }, "general.name"));
    assert_eq!(open(Root::Dir, &files).expect("it opens").warnings[0].code, "shard_metadata");
}
