//! Valid safetensors, read from and written for the official crate.

use crate::build::{no_prefix_opens, open_one, same, st, st_bytes};
use quantoscope_core::format::safetensors::layout;
use quantoscope_core::format::{Checkpoint, Container, LayoutTensor, Root, limits};
use quantoscope_core::tensor::{MetaValue, Shape};
use quantoscope_core::{Code, DType};
use quantoscope_tests::drive::{Files, drive_counted, open};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// What the official crate says about a file must be what we say.
pub(crate) fn agrees(ours: &Checkpoint, bytes: &[u8]) {
    let official = SafeTensors::deserialize(bytes).expect("the official crate reads it");
    assert_eq!(ours.tensors.len(), official.len());
    for t in &ours.tensors {
        let view = official.tensor(&t.name).expect("the same names");
        assert_eq!(t.dtype.safetensors_name(), Some(format!("{:?}", view.dtype()).as_str()));
        assert!(t.shape.axes().iter().eq(view.shape().iter().map(|&a| a as u64).collect::<Vec<_>>().iter()));
        assert_eq!(&bytes[t.bytes.start as usize..t.bytes.end as usize], view.data());
    }
}

fn views(data: &[u8]) -> Vec<(String, TensorView<'_>)> {
    let list: [(&str, Dtype, Vec<usize>, usize); 10] = [
        ("z.F64", Dtype::F64, vec![1, 2], 16),
        ("b.BF16", Dtype::BF16, vec![2, 3], 12),
        ("F16", Dtype::F16, vec![], 2),
        ("a.F32", Dtype::F32, vec![3, 0, 2], 0),
        ("e4m3", Dtype::F8_E4M3, vec![5], 5),
        ("four", Dtype::F4, vec![6], 3),
        ("six", Dtype::F6_E2M3, vec![4], 3),
        ("U16 \"quoted\"\n\u{e9}", Dtype::U16, vec![2], 4),
        ("I64", Dtype::I64, vec![1, 1, 1, 1, 1], 8),
        ("flag", Dtype::BOOL, vec![3], 3),
    ];
    let view = |(name, dtype, shape, n): (&str, Dtype, Vec<usize>, usize)| {
        (name.to_string(), TensorView::new(dtype, shape, &data[..n]).expect("a valid view"))
    };
    list.into_iter().map(view).collect()
}

/// A valid file with every oddity that is legal.
pub(crate) fn official() -> Vec<u8> {
    let data: Vec<u8> = (0..64).collect();
    let metadata = HashMap::from([("format".to_string(), "pt\u{2713}".to_string())]);
    serialize(views(&data), Some(metadata)).expect("it serializes")
}

#[test]
fn safetensors_of_the_official_crate_are_read() {
    let bytes = official();
    let c = open_one("model.safetensors", &bytes).expect("it opens");
    assert_eq!((c.container, c.alignment, c.gguf_version), (Container::Safetensors, 1, None));
    assert_eq!(c.metadata.get("format"), Some(&MetaValue::String("pt\u{2713}".into())));
    assert!(c.warnings.is_empty() && c.config.is_none());
    agrees(&c, &bytes);
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    assert_eq!(c.files[0].header.end, end as u64);
    assert_eq!(c.files[0].header_sha256[..], Sha256::digest(&bytes[..end])[..]);
}

#[test]
fn safetensors_layout_is_read_by_the_official_crate() {
    let shapes = [vec![2, 3], vec![], vec![0, 4], vec![8]].map(|s| Shape::new(s).expect("a shape"));
    let list = [("w \"x\"", DType::BF16), ("scalar", DType::F32), ("none", DType::I64), ("four", DType::F4)];
    let tensors: Vec<LayoutTensor<'_>> =
        list.iter().zip(&shapes).map(|(&(name, dtype), shape)| LayoutTensor { name, dtype, shape }).collect();
    let l = layout(&[("k\n".into(), "v".into()), ("a".into(), "b".into())], &tensors).expect("it lays out");
    assert_eq!(l.sizes, [12, 4, 0, 4]);
    assert_eq!(l.header.len() % 8, 0);
    assert_eq!(l.offsets, [0, 12, 16, 16].map(|o| o + l.header.len() as u64));
    let mut bytes = l.header.clone();
    bytes.extend((0..l.file_len - l.header.len() as u64).map(|i| i as u8));
    let c = open_one("x.safetensors", &bytes).expect("we read it");
    agrees(&c, &bytes);
    let keys: Vec<&str> = c.metadata.0.iter().map(|(k, _)| k.as_str()).collect();
    assert_eq!(keys, ["k\n", "a"]);
    for (t, i) in c.tensors.iter().zip(0..) {
        let at = tensors.iter().position(|l| t.name == l.name).expect("a name of ours");
        assert_eq!((at, t.bytes.start, t.bytes.len()), (i, l.offsets[i], l.sizes[i]));
    }
}

#[test]
fn safetensors_without_tensors_is_read() {
    for metadata in [vec![], vec![("a".to_string(), "b".to_string())]] {
        let l = layout(&metadata, &[]).expect("it lays out");
        assert_eq!(open_one("e.safetensors", &l.header).expect("it opens").tensors, []);
        SafeTensors::deserialize(&l.header).expect("the official crate reads it");
    }
}

#[test]
fn safetensors_layout_of_unreadable_tensors_is_refused() {
    let shape = Shape::new([256]).expect("a shape");
    let one = |name, dtype| LayoutTensor { name, dtype, shape: &shape };
    let code = |tensors: &[LayoutTensor<'_>]| {
        let error = layout(&[], tensors).expect_err("refused");
        (error.code(), error.detail().tensor.clone())
    };
    let said = |code, name: &str| (code, Some(name.to_string()));
    assert_eq!(code(&[one("q", DType::Q4_0)]), said(Code::UnsupportedContainer, "q"));
    assert_eq!(code(&[one("__metadata__", DType::F32)]), said(Code::UnsupportedContainer, "__metadata__"));
    assert_eq!(code(&[one("a", DType::F32), one("a", DType::F32)]), said(Code::DuplicateName, "a"));
    let odd = Shape::new([3]).expect("a shape");
    assert_eq!(code(&[LayoutTensor { shape: &odd, ..one("odd", DType::F4) }]), said(Code::Overflow, "odd"));
    let long = "x".repeat(limits::MAX_SAFETENSORS_HEADER as usize);
    let error = layout(&[("k".into(), long)], &[]).expect_err("refused");
    assert_eq!(error.code(), Code::HeaderTooLarge);
    let twice = ("k".to_string(), "v".to_string());
    assert_eq!(layout(&[twice.clone(), twice], &[]).expect_err("refused").code(), Code::DuplicateName);
}

#[test]
fn safetensors_truncated_at_any_byte_is_refused() {
    no_prefix_opens("model.safetensors", &official(), Container::Safetensors);
}

#[test]
fn container_is_detected_by_content() {
    let bytes = official();
    for name in ["weights", "x.gguf", "x.bin", "x.json"] {
        assert_eq!(open_one(name, &bytes).expect("it opens").container, Container::Safetensors);
    }
    let code = |bytes: &[u8]| open_one("x.bin", bytes).expect_err("refused").code();
    assert_eq!(code(b"PK\x03\x04 and so on, a zip"), Code::BadMagic);
    assert_eq!(code(b""), Code::BadMagic);
}

#[test]
fn safetensors_huge_file_reads_the_header_only() {
    let header = st(r#"{"w":{"dtype":"U8","shape":[6442450944],"data_offsets":[0,6442450944]}}"#, 0);
    let len = header.len() as u64 + 6_442_450_944;
    let files = Files::default().with_sparse("big.safetensors", header, len);
    let (outcome, read) = drive_counted(Root::File("big.safetensors"), &files, usize::MAX);
    assert_eq!(outcome.expect("it opens").tensors[0].bytes.end, len);
    assert!(read <= limits::FIRST_READ);
}

#[test]
fn safetensors_long_header_is_read_in_bounded_reads() {
    let pad = " ".repeat(20 << 20);
    let bytes = st(&format!("{{\"a\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}}}{pad}"), 1);
    let c = open(Root::File("a.safetensors"), &Files::of("a.safetensors", bytes.clone())).expect("it opens");
    assert_eq!(c.files[0].header.end, bytes.len() as u64 - 1);
}

#[test]
fn safetensors_tensors_are_in_data_order() {
    let json = r#"{"c":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"z":{"dtype":"U8","shape":[0],"data_offsets":[1,1]},
        "a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[0,5],"data_offsets":[1,1],"new":{}}}"#;
    let c = open_one("m.safetensors", &st(json, 3)).expect("it opens");
    let names: Vec<&str> = c.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "z", "b", "c"]);
}

#[test]
fn sample_model_as_file_or_directory_opens() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../www/sample");
    let mut files = Files::default();
    for entry in std::fs::read_dir(&dir).expect("the sample model") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        files = files.with(&name, std::fs::read(path).expect("a file"));
    }
    let c = same(Root::Dir, &files).expect("it opens");
    agrees(&c, &std::fs::read(dir.join("model.safetensors")).expect("the weights"));
    assert!(c.config.as_ref().is_some_and(|c| c.starts_with(b"{")));
    let names: Vec<&str> = c.companions.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["generation_config.json", "tokenizer.json", "tokenizer_config.json"]);
    let alone = open(Root::File("model.safetensors"), &files).expect("it opens");
    assert_eq!((&alone.tensors, &alone.config), (&c.tensors, &c.config));
}

#[test]
fn safetensors_fifty_axes_and_deep_json_are_read() {
    let ones = ["1"; 64].join(",");
    let deep = "[".repeat(62) + &"]".repeat(62);
    let json = format!(r#"{{"a":{{"dtype":"U8","shape":[{ones}],"data_offsets":[0,1],"x":{deep}}}}}"#);
    open_one("m.safetensors", &st_bytes(json.as_bytes(), 1)).expect("it opens");
}

/// MLX writes `null` for metadata that there is none of.
#[test]
fn metadata_of_null_is_read_as_none() {
    let json = r#"{"__metadata__":null,"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    let checkpoint = open_one("m.safetensors", &st_bytes(json.as_bytes(), 1)).expect("it opens");
    assert_eq!((checkpoint.metadata.0.len(), checkpoint.tensors.len()), (0, 1));
}
