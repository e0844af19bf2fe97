//! Sharded safetensors: the index, its limits, and shards that contradict it.

use crate::build::{marked, refused, same, st};
use quantoscope_core::Code;
use quantoscope_core::format::{Container, Root, limits};
use quantoscope_tests::drive::{Files, open};
use safetensors::tensor::{SafeTensors, serialize};
use std::collections::HashMap;

const INDEX: &str = "model.safetensors.index.json";

/// A shard of these tensors of one byte.
fn shard(names: &[&str]) -> Vec<u8> {
    let entry = |(i, n): (usize, &&str)| {
        format!(r#""{n}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{}]}}"#, i + 1)
    };
    let entries: Vec<String> = names.iter().enumerate().map(entry).collect();
    st(&format!("{{{}}}", entries.join(",")), names.len())
}

/// Two shards, `b` before `a` in their data, with this index.
fn files(index: &str) -> Files {
    let files = Files::of(INDEX, index).with("s1.safetensors", shard(&["b", "a"]));
    files.with("sub/s2.safetensors", shard(&["c"])).with("config.json", "{}")
}

const RIGHT: &str = r#"{"metadata":{"total_size":3},"weight_map":{"c":"sub/s2.safetensors","a":"s1.safetensors","b":"s1.safetensors"}}"#;

#[test]
fn shards_by_directory_or_index_open() {
    for root in [Root::Dir, Root::File(INDEX)] {
        let c = same(root, &files(RIGHT)).expect("it opens");
        assert_eq!((c.container, c.config.as_deref()), (Container::Safetensors, Some(&b"{}"[..])));
        let names: Vec<&str> = c.files.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, [INDEX, "s1.safetensors", "sub/s2.safetensors"]);
        let tensors: Vec<(&str, u32)> = c.tensors.iter().map(|t| (t.name.as_str(), t.file)).collect();
        assert_eq!(tensors, [("b", 1), ("a", 1), ("c", 2)]);
    }
}

#[test]
fn shards_of_the_sample_model_equal_it() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../www/sample/model.safetensors");
    let bytes = std::fs::read(path).expect("the sample model");
    let official = SafeTensors::deserialize(&bytes).expect("the official crate reads it");
    let (mut map, mut files) = (HashMap::new(), Files::default());
    for (no, group) in official.tensors().chunks(20).enumerate() {
        let name = format!("model-{:05}-of-00003.safetensors", no + 1);
        map.extend(group.iter().map(|(tensor, _)| (tensor.clone(), name.clone())));
        files = files.with(&name, serialize(group.to_vec(), None).expect("it serializes"));
    }
    let files = files.with(INDEX, serde_json::json!({ "weight_map": map }).to_string());
    let c = same(Root::Dir, &files).expect("it opens");
    let whole = open(Root::File("m"), &Files::of("m", bytes)).expect("it opens");
    let facts = |c: &quantoscope_core::format::Checkpoint| {
        let mut facts: Vec<_> =
            c.tensors.iter().map(|t| (t.name.clone(), t.dtype, t.shape.clone())).collect();
        facts.sort_by(|a, b| a.0.cmp(&b.0));
        facts
    };
    assert_eq!(facts(&c), facts(&whole));
}

macro_rules! indexes {
    ($($name:ident: $json:literal => $code:ident, $tensor:expr;)*) => {$(
        #[test]
        fn $name() {
            let (json, at) = marked($json);
            refused(same(Root::Dir, &files(&json)), Code::$code, Some(at), $tensor);
        }
    )*};
}

indexes! {
    a_tensor_that_its_shard_lacks: r#"{"weight_map":{"c":"sub/s2.safetensors","a":"s1.safetensors","b":"s1.safetensors",^"x":"s1.safetensors"}}"#
        => BadIndex, Some("x");
    a_tensor_twice: r#"{"weight_map":{"a":"s1.safetensors",^"a":"s1.safetensors"}}"# => DuplicateName, Some("a");
    two_maps: r#"{"weight_map":{},^"weight_map":{}}"# => DuplicateName, None;
    no_map: r#"^{"metadata":{}}"# => BadJson, None;
    a_map_that_is_no_object: r#"{"weight_map":^[]}"# => BadJson, None;
    an_empty_map: r#"{"weight_map":^{}}"# => BadIndex, None;
    a_shard_that_is_no_text: r#"{"weight_map":{"a":^1}}"# => BadJson, Some("a");
    a_shard_without_a_name: r#"{"weight_map":{"a":^""}}"# => BadName, Some("a");
    a_shard_above: r#"{"weight_map":{"a":^"../s1.safetensors"}}"# => BadName, Some("a");
    a_shard_above_in_the_middle: r#"{"weight_map":{"a":^"sub/../../s1.safetensors"}}"# => BadName, Some("a");
    a_shard_at_the_root: r#"{"weight_map":{"a":^"/etc/passwd"}}"# => BadName, Some("a");
    a_shard_here: r#"{"weight_map":{"a":^"./s1.safetensors"}}"# => BadName, Some("a");
    a_shard_with_a_backslash: r#"{"weight_map":{"a":^"..\\s1.safetensors"}}"# => BadName, Some("a");
    a_shard_on_a_drive: r#"{"weight_map":{"a":^"C:s1.safetensors"}}"# => BadName, Some("a");
    a_shard_with_a_zero: r#"{"weight_map":{"a":^"s1\u0000"}}"# => BadName, Some("a");
    text_behind_the_index: "{}^x" => BadJson, None;
    text_on_the_third_line: "{\n\n^x}" => BadJson, None;
}

#[test]
fn shards_tensor_missing_from_the_index_is_refused() {
    let index = r#"{"weight_map":{"c":"sub/s2.safetensors","a":"s1.safetensors"}}"#;
    let at = String::from_utf8_lossy(&shard(&["b", "a"])).find("[0,1]").map(|n| n as u64);
    let outcome = same(Root::Dir, &files(index));
    assert_eq!(outcome.as_ref().expect_err("refused").detail().file.as_deref(), Some("s1.safetensors"));
    refused(outcome, Code::BadIndex, at, Some("b"));
}

#[test]
fn shards_tensor_in_another_shard_is_refused() {
    let index = r#"{"weight_map":{"c":"s1.safetensors","a":"sub/s2.safetensors","b":"s1.safetensors"}}"#;
    let error = same(Root::Dir, &files(index)).expect_err("refused");
    assert_eq!((error.code(), error.detail().tensor.as_deref()), (Code::BadIndex, Some("a")));
}

#[test]
fn shards_tensor_in_two_shards_is_refused() {
    let files = files(RIGHT).with("sub/s2.safetensors", shard(&["c", "a"]));
    let error = same(Root::Dir, &files).expect_err("refused");
    let detail = error.detail();
    assert_eq!((detail.code, detail.tensor.as_deref()), (Code::DuplicateName, Some("a")));
    assert_eq!(detail.file.as_deref(), Some("sub/s2.safetensors"));
}

#[test]
fn shards_missing_shard_is_refused() {
    let error = same(Root::Dir, &files(RIGHT).without("sub/s2.safetensors")).expect_err("refused");
    assert_eq!((error.code(), error.detail().file.as_deref()), (Code::BadIndex, Some("sub/s2.safetensors")));
}

#[test]
fn shards_of_another_container_are_refused() {
    let files = files(RIGHT).with("s1.safetensors", crate::gguf::sample(32).0);
    assert_eq!(
        same(Root::Dir, &files).expect_err("refused").detail().file.as_deref(),
        Some("s1.safetensors")
    );
}

#[test]
fn shards_index_over_the_limit_is_not_read() {
    for root in [Root::Dir, Root::File(INDEX)] {
        let files = files(RIGHT).with_sparse(INDEX, "{", limits::MAX_INDEX + 1);
        refused(open(root, &files), Code::HeaderTooLarge, Some(limits::MAX_INDEX), None);
    }
}

#[test]
fn shards_too_many_entries_are_refused() {
    let mut index = String::from("{\"weight_map\":{");
    (0..=limits::MAX_ENTRIES).for_each(|i| index.push_str(&format!("\"{i}\":\"s1\",")));
    index.pop();
    index.push_str("}}");
    assert_eq!(open(Root::Dir, &files(&index)).expect_err("refused").code(), Code::TooMany);
}

#[test]
fn shards_metadata_of_a_later_shard_is_reported() {
    let two = st(r#"{"__metadata__":{"k":"v"},"c":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, 1);
    let c = open(Root::Dir, &files(RIGHT).with("sub/s2.safetensors", two)).expect("it opens");
    assert_eq!(c.warnings.iter().map(|w| w.code).collect::<Vec<_>>(), ["shard_metadata"]);
}
