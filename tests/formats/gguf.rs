//! Valid GGUF: every value type, versions 2 and 3, layout and back, truncation.

use crate::build::{GgufBuilder, no_prefix_opens, open_one, refused};
use quantoscope_core::format::gguf::{DEFAULT_ALIGNMENT, layout};
use quantoscope_core::format::{Checkpoint, Container, LayoutTensor, Root, limits};
use quantoscope_core::tensor::{MetaArray, MetaValue, Metadata, Shape};
use quantoscope_core::{Code, DType};
use quantoscope_tests::drive::{Files, drive_counted, open};
use sha2::{Digest, Sha256};

/// One value of every type, arrays of numbers, booleans, strings, arrays, and nothing.
fn every_value() -> Metadata {
    let array = |element, len, raw: &[u8]| MetaValue::Array(MetaArray { element, len, raw: raw.to_vec() });
    let words = GgufBuilder::default().string(b"ab").string(b"").string("\u{e9}".as_bytes()).bytes;
    let nested =
        GgufBuilder::default().u32(4).u64(2).u32(7).u32(8).u32(8).u64(1).string(b"x").u32(0).u64(0).bytes;
    let values = [
        MetaValue::U8(200),
        MetaValue::I8(-3),
        MetaValue::U16(65_000),
        MetaValue::I16(-30_000),
        MetaValue::U32(4_000_000_000),
        MetaValue::I32(-5),
        MetaValue::F32(-0.0),
        MetaValue::Bool(true),
        MetaValue::String("llama \u{2713}".into()),
        array(5, 3, &[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]),
        array(7, 2, &[0, 1]),
        array(8, 3, &words),
        array(9, 3, &nested),
        array(6, 0, &[]),
        array(9, 0, &[]),
        MetaValue::U64(u64::MAX),
        MetaValue::I64(i64::MIN),
        MetaValue::F64(1e300),
    ];
    Metadata(values.into_iter().enumerate().map(|(i, v)| (format!("k.{i}"), v)).collect())
}

/// A file of several types and shapes; the data is a counting pattern.
pub(crate) fn sample(alignment: u64) -> (Vec<u8>, Vec<(String, DType, Shape)>) {
    let list = [
        ("token_embd.weight", DType::Q4_0, vec![3, 64]),
        ("scalar", DType::F32, vec![]),
        ("none", DType::F16, vec![2, 0, 5]),
        ("blk.0.attn_q.weight", DType::BF16, vec![2, 1, 3, 5]),
        ("k", DType::Q6_K, vec![2, 256]),
        ("ids", DType::I8, vec![1]),
    ];
    let named = list.map(|(n, d, s)| (n.to_string(), d, Shape::new(s).expect("a shape")));
    let tensors: Vec<LayoutTensor<'_>> =
        named.iter().map(|(name, dtype, shape)| LayoutTensor { name, dtype: *dtype, shape }).collect();
    let l = layout(&every_value(), alignment, &tensors).expect("it lays out");
    let mut bytes = l.header;
    bytes.extend((bytes.len() as u64..l.file_len).map(|i| i as u8));
    (bytes, named.to_vec())
}

#[test]
fn gguf_layout_reads_back() {
    for alignment in [DEFAULT_ALIGNMENT, 8, 1, 4096] {
        let (bytes, named) = sample(alignment);
        let c = open_one("m.gguf", &bytes).expect("it opens");
        assert_eq!((c.container, c.alignment, c.gguf_version), (Container::Gguf, alignment, Some(3)));
        assert!(c.warnings.is_empty(), "{:?}", c.warnings);
        let given = every_value().0;
        assert_eq!(c.metadata.0[..given.len()], given);
        let added = if alignment == 32 { 0 } else { 1 };
        assert_eq!(c.metadata.0.len(), given.len() + added);
        for (t, (name, dtype, shape)) in c.tensors.iter().zip(&named) {
            let shape = if shape.axes().is_empty() { &Shape::new([1]).expect("a shape") } else { shape };
            assert_eq!((t.name.as_str(), t.dtype, &t.shape), (name.as_str(), *dtype, shape));
            assert_eq!(t.bytes.start % alignment, 0);
        }
        let header = &c.files[0];
        assert_eq!(header.header_sha256[..], Sha256::digest(&bytes[..header.header.end as usize])[..]);
        assert!((bytes.len() as u64).is_multiple_of(alignment), "the last tensor is padded too");
    }
}

#[test]
fn gguf_layout_of_a_small_file_equals_every_byte() {
    let shape = Shape::new([2, 3]).expect("a shape");
    let t = LayoutTensor { name: "w", dtype: DType::F32, shape: &shape };
    let l = layout(
        &Metadata(vec![("a".into(), MetaValue::Bool(true))]),
        32,
        &[t, LayoutTensor { name: "v", ..t }],
    );
    let l = l.expect("it lays out");
    let by_hand = GgufBuilder::new(2, 1).string(b"a").u32(7).raw(&[1]);
    let by_hand = by_hand.tensor("w", &[3, 2], 0, 0).tensor("v", &[3, 2], 0, 32).data(32, 0);
    assert_eq!(l.header, by_hand.bytes);
    let data = l.header.len() as u64;
    assert_eq!((l.offsets, l.sizes, l.file_len), (vec![data, data + 32], vec![24, 24], data + 64));
}

#[test]
fn gguf_version_2_reads_as_version_3() {
    let (mut bytes, _) = sample(32);
    let three = open_one("m.gguf", &bytes).expect("it opens");
    bytes[4] = 2;
    let two = open_one("m.gguf", &bytes).expect("it opens");
    assert_eq!((two.gguf_version, two.tensors), (Some(2), three.tensors));
}

#[test]
fn gguf_shapes_scalar_and_empty_are_read() {
    let bytes = GgufBuilder::new(2, 0).tensor("s", &[], 0, 0).tensor("z", &[0, 7], 0, 32).data(32, 32).bytes;
    let c = open_one("m.gguf", &bytes).expect("it opens");
    assert_eq!((c.tensors[0].shape.axes(), c.tensors[0].bytes.len()), (&[][..], 4));
    assert_eq!((c.tensors[1].shape.axes(), c.tensors[1].bytes.len()), (&[7, 0][..], 0));
}

#[test]
fn gguf_without_tensors_is_read() {
    for padding in [0, 5] {
        let bytes = GgufBuilder::new(0, 1).key_u32("a", 1).raw(&vec![0; padding]).bytes;
        let c = open_one("m.gguf", &bytes).expect("it opens");
        assert_eq!((c.tensors.len(), c.warnings.len()), (0, 0));
    }
}

#[test]
fn gguf_trailing_padding_is_optional_and_more_is_reported() {
    let warnings = |n: usize| {
        let bytes = GgufBuilder::new(1, 0).tensor("t", &[2], 0, 0).data(32, n).bytes;
        open_one("m.gguf", &bytes).expect("it opens").warnings
    };
    assert_eq!((warnings(8), warnings(20), warnings(32)), (vec![], vec![], vec![]));
    let after = warnings(33);
    assert_eq!((after.len(), after[0].code), (1, "trailing_bytes"));
    assert!(after[0].message.contains("m.gguf: 1 bytes"), "{}", after[0].message);
}

#[test]
fn gguf_truncated_at_any_byte_is_refused() {
    // Up to the last byte of the last tensor; the padding after it may be missing.
    let (mut bytes, _) = sample(32);
    let end = open_one("m.gguf", &bytes).expect("it opens").tensors.last().expect("a tensor").bytes.end;
    bytes.truncate(end as usize);
    no_prefix_opens("m.gguf", &bytes, Container::Gguf);
}

#[test]
fn gguf_large_vocabulary_is_read_in_few_bounded_reads() {
    let words =
        (0..400_000).fold(GgufBuilder::default(), |g, i| g.string(format!("word{i}").as_bytes())).bytes;
    let array = |element, len, raw: Vec<u8>| MetaValue::Array(MetaArray { element, len, raw });
    let metadata = Metadata(vec![
        ("tokens".into(), array(8, 400_000, words)),
        ("scores".into(), array(6, 3_000_000, vec![7; 12_000_000])),
        ("text".into(), MetaValue::String("t".repeat(9 << 20))),
    ]);
    let bytes = layout(&metadata, 32, &[]).expect("it lays out").header;
    let files = Files::of("m.gguf", bytes.clone());
    let c = open(Root::File("m.gguf"), &files).expect("it opens");
    assert_eq!(c.metadata, metadata);
    let (small, read) = drive_counted(Root::File("m.gguf"), &files, 4099);
    assert_eq!((small.expect("it opens").metadata, read), (metadata, bytes.len() as u64));
}

#[test]
fn gguf_huge_file_reads_the_header_only() {
    let header = GgufBuilder::new(1, 0).tensor("t", &[1 << 40], 24, 0).data(32, 0).bytes;
    let len = header.len() as u64 + (1 << 40);
    let files = Files::default().with_sparse("m.gguf", header, len);
    let (outcome, read) = drive_counted(Root::File("m.gguf"), &files, usize::MAX);
    assert_eq!(outcome.expect("it opens").tensors[0].bytes.end, len);
    assert!(read <= limits::FIRST_READ);
}

#[test]
fn gguf_has_no_config() {
    let files = Files::of("m.gguf", sample(32).0).with("config.json", "not json");
    let opened = |root| -> Checkpoint { open(root, &files).expect("it opens") };
    assert_eq!(opened(Root::File("m.gguf")).config, None);
    assert_eq!(opened(Root::Dir).config, None);
}

#[test]
fn gguf_layout_of_unreadable_tensors_is_refused() {
    let shape = |axes: &[u64]| Shape::new(axes).expect("a shape");
    let refuse = |name: &str, dtype, axes: &[u64]| {
        let shape = shape(axes);
        let t = LayoutTensor { name, dtype, shape: &shape };
        let error = layout(&Metadata::default(), 32, &[t]).expect_err("refused");
        assert_eq!(error.detail().tensor.as_deref(), Some(name));
        error.code()
    };
    let long = "n".repeat(64);
    assert_eq!(refuse(&long, DType::F32, &[1]), Code::UnsupportedContainer);
    assert_eq!(refuse("t", DType::U8, &[1]), Code::UnsupportedContainer);
    assert_eq!(refuse("t", DType::LATTICE_Q4, &[32]), Code::UnsupportedContainer);
    assert_eq!(refuse("t", DType::F32, &[1; 5]), Code::UnsupportedContainer);
    assert_eq!(refuse("t", DType::Q4_0, &[32, 33]), Code::UnsupportedContainer);
    assert_eq!(refuse("t", DType::F64, &[1 << 62]), Code::Overflow);
    assert_eq!(refuse("t", DType::I8, &[1 << 63]), Code::Overflow);
    let s = shape(&[1]);
    let t = LayoutTensor { name: &long[..63], dtype: DType::F32, shape: &s };
    layout(&Metadata::default(), 32, &[t]).expect("63 bytes of name are allowed");
    assert_eq!(layout(&Metadata::default(), 32, &[t, t]).expect_err("refused").code(), Code::DuplicateName);
}

#[test]
fn gguf_layout_of_contradicting_metadata_is_refused() {
    let code = |key: &str, value, alignment| {
        let metadata = Metadata(vec![(key.to_string(), value)]);
        layout(&metadata, alignment, &[]).err().map(|e| e.code())
    };
    let array = |element, len| MetaValue::Array(MetaArray { element, len, raw: vec![0; 8] });
    assert_eq!(code("general.alignment", MetaValue::U32(64), 64), None);
    assert_eq!(code("general.alignment", MetaValue::U32(64), 32), Some(Code::BadAlignment));
    assert_eq!(code("general.alignment", MetaValue::U64(64), 64), Some(Code::BadAlignment));
    assert_eq!(code("a", MetaValue::U8(0), 0), Some(Code::BadAlignment));
    assert_eq!(code("a", MetaValue::U8(0), 48), Some(Code::BadAlignment));
    assert_eq!(code("a", MetaValue::U8(0), 1 << 32), Some(Code::BadAlignment));
    assert_eq!(code("", MetaValue::U8(0), 32), Some(Code::UnsupportedContainer));
    assert_eq!(code("a", array(4, 2), 32), None);
    assert_eq!(code("a", array(4, 1), 32), Some(Code::BadValue));
    assert_eq!(code("a", array(4, 3), 32), Some(Code::BadValue));
    assert_eq!(code("a", array(13, 1), 32), Some(Code::BadValue));
    assert_eq!(code("a", array(8, 2), 32), Some(Code::BadValue));
    let twice = Metadata(vec![("a".into(), MetaValue::U8(0)); 2]);
    assert_eq!(layout(&twice, 32, &[]).expect_err("refused").code(), Code::DuplicateName);
}

#[test]
fn gguf_name_of_64_bytes_is_refused() {
    let name = "n".repeat(64);
    open_one("m.gguf", &GgufBuilder::new(1, 0).tensor(&name[..63], &[1], 0, 0).data(32, 4).bytes)
        .expect("it opens");
    let bytes = GgufBuilder::new(1, 0).tensor(&name, &[1], 0, 0).data(32, 4).bytes;
    refused(open_one("m.gguf", &bytes), Code::StringTooLong, Some(24), None);
}
