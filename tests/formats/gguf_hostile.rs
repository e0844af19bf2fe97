//! Invalid GGUF headers, one fault each; `mark` precedes the field whose offset the error must name.

use crate::build::{GgufBuilder, open_one, refused};
use quantoscope_core::format::{Root, limits};
use quantoscope_core::tensor::MetaValue;
use quantoscope_core::{Code, DType};
use quantoscope_tests::drive::{Files, drive_counted};

macro_rules! files {
    ($($name:ident: $file:expr => $code:ident, $tensor:expr;)*) => {$(
        #[test]
        fn $name() {
            let file: GgufBuilder = $file;
            // Room behind the header, so that only the lie at hand can be the reason.
            let at = file.mark;
            let bytes = file.data(32, 4096).bytes;
            refused(open_one("m.gguf", &bytes), Code::$code, at, $tensor);
        }
    )*};
}

/// A head of another version.
fn version(v: u32) -> GgufBuilder {
    GgufBuilder::default().raw(b"GGUF").mark().u32(v).u64(0).u64(0)
}

/// The start of one key-value.
fn key(name: &str) -> GgufBuilder {
    GgufBuilder::new(0, 1).string(name.as_bytes())
}

/// `general.alignment` with a value of another type or size, and a tensor.
fn aligned(kind: u32, value: &[u8]) -> GgufBuilder {
    GgufBuilder::new(1, 1).string(b"general.alignment").mark().u32(kind).raw(value).tensor("t", &[1], 0, 0)
}

/// The start of a tensor `t`.
fn tensor() -> GgufBuilder {
    GgufBuilder::new(1, 0).string(b"t")
}

/// A second tensor `t` at an offset; the first one has four bytes.
fn second(offset: u64) -> GgufBuilder {
    GgufBuilder::new(2, 0).tensor("s", &[1], 0, 0).string(b"t").u32(1).u64(1).u32(0).mark().u64(offset)
}

/// Two tensors of bytes, each about half of what 64 bits can count.
fn two_halves(t: u64) -> GgufBuilder {
    let g = GgufBuilder::new(2, 0).tensor("s", &[i64::MAX as u64], 24, 0);
    g.string(b"t").u32(1).u64(t).u32(24).mark().u64(1 << 63)
}

/// A tensor of two axes and a type.
fn typed(kind: u32) -> GgufBuilder {
    tensor().u32(2).u64(256).u64(1).mark().u32(kind).u64(0)
}

files! {
    a_version_of_zero: version(0) => UnknownVersion, None;
    version_1: version(1) => UnknownVersion, None;
    version_4: version(4) => UnknownVersion, None;
    version_3_of_a_big_endian_host: version(3 << 24) => UnknownVersion, None;
    more_tensors_than_the_file_holds: GgufBuilder::default().raw(b"GGUF").u32(3).mark().u64(400).u64(0) => CountTooLarge, None;
    tensors_near_the_maximum: GgufBuilder::default().raw(b"GGUF").u32(3).mark().u64(u64::MAX).u64(0) => CountTooLarge, None;
    tensors_that_wrap: GgufBuilder::default().raw(b"GGUF").u32(3).mark().u64(u64::MAX / 24 + 1).u64(0) => CountTooLarge, None;
    more_keys_than_the_file_holds: GgufBuilder::default().raw(b"GGUF").u32(3).u64(0).mark().u64(400) => CountTooLarge, None;
    keys_that_wrap: GgufBuilder::default().raw(b"GGUF").u32(3).u64(0).mark().u64(u64::MAX / 14 + 1) => CountTooLarge, None;
    keys_and_tensors_that_only_fit_apart: GgufBuilder::default().raw(b"GGUF").u32(3).u64(160).mark().u64(200) => CountTooLarge, None;
    a_key_without_a_name: GgufBuilder::new(0, 1).mark().string(b"").u32(0).raw(&[0]) => BadName, None;
    a_key_too_long: GgufBuilder::new(0, 1).mark().string(&[b'k'; 65_536]).u32(0).raw(&[0]) => StringTooLong, None;
    a_key_longer_than_the_file: GgufBuilder::new(0, 1).mark().u64(60_000) => CountTooLarge, None;
    a_key_near_the_maximum: GgufBuilder::new(0, 1).mark().u64(u64::MAX) => StringTooLong, None;
    a_key_that_is_not_utf8: GgufBuilder::new(0, 1).u64(2).raw(b"a").mark().raw(b"\xff").u32(0).raw(&[0]) => BadUtf8, None;
    a_key_twice: GgufBuilder::new(0, 2).key_u32("a", 1).mark().key_u32("a", 1) => DuplicateName, None;
    a_value_type_without_meaning: key("a").mark().u32(13).u64(0) => UnknownDtype, None;
    a_boolean_of_2: key("a").u32(7).mark().raw(&[2]) => BadValue, None;
    a_string_longer_than_the_file: key("a").u32(8).mark().u64(60_000) => CountTooLarge, None;
    a_string_over_the_limit: key("a").u32(8).mark().u64((1 << 30) + 1) => StringTooLong, None;
    array_elements_without_meaning: key("a").u32(9).mark().u32(99).u64(0) => UnknownDtype, None;
    an_array_over_the_limit: key("a").u32(9).u32(0).mark().u64((1 << 30) + 1) => TooMany, None;
    an_array_near_the_maximum: key("a").u32(9).u32(10).mark().u64(u64::MAX / 8 + 2) => TooMany, None;
    an_array_longer_than_the_file: key("a").u32(9).u32(10).mark().u64(1000) => CountTooLarge, None;
    an_array_of_more_strings_than_fit: key("a").u32(9).u32(8).mark().u64(1000) => CountTooLarge, None;
    a_boolean_of_3_in_an_array: key("a").u32(9).u32(7).u64(3).raw(&[0, 1]).mark().raw(&[3]) => BadValue, None;
    a_string_in_an_array_too_long: key("a").u32(9).u32(8).u64(2).string(b"x").mark().u64(60_000) => CountTooLarge, None;
    an_inner_array_too_long: key("a").u32(9).u32(9).u64(1).u32(10).mark().u64(1000) => CountTooLarge, None;
    arrays_five_deep: (0..3).fold(key("a").u32(9), |g, _| g.u32(9).u64(1)).u32(9).u64(1).mark().u32(0).u64(0)
        => TooDeep, None;
    an_alignment_of_0: aligned(4, &[0; 4]) => BadAlignment, None;
    an_alignment_of_48: aligned(4, &[48, 0, 0, 0]) => BadAlignment, None;
    an_alignment_of_64_bits: aligned(10, &[32, 0, 0, 0, 0, 0, 0, 0]) => BadAlignment, None;
    an_alignment_with_a_sign: aligned(5, &[32, 0, 0, 0]) => BadAlignment, None;
    a_tensor_name_too_long: GgufBuilder::new(1, 0).mark().u64(64) => StringTooLong, None;
    a_tensor_name_that_is_not_utf8: GgufBuilder::new(1, 0).u64(1).mark().raw(b"\xff") => BadUtf8, None;
    a_tensor_name_twice: GgufBuilder::new(2, 0).tensor("t", &[1], 0, 0).mark().tensor("t", &[1], 0, 32) => DuplicateName, Some("t");
    five_axes: tensor().mark().u32(5) => TooManyAxes, Some("t");
    axes_near_the_maximum: tensor().mark().u32(u32::MAX) => TooManyAxes, Some("t");
    axes_that_multiply_to_zero: tensor().u32(2).mark().u64(1 << 32).u64(1 << 32).u32(0).u64(0) => Overflow, Some("t");
    axes_that_wrap_to_a_residue: tensor().u32(2).mark().u64(6_148_914_691_236_517_206).u64(3).u32(0).u64(0)
        => Overflow, Some("t");
    an_axis_below_zero: tensor().u32(2).mark().u64(u64::MAX).u64(0).u32(0).u64(0) => Overflow, Some("t");
    a_product_beyond_63_bits: tensor().u32(2).mark().u64(1 << 32).u64(1 << 31).u32(24).u64(0) => Overflow, Some("t");
    a_size_that_wraps: tensor().u32(1).mark().u64(1 << 62).u32(0).u64(0) => Overflow, Some("t");
    rows_of_broken_blocks: tensor().u32(2).mark().u64(33).u64(32).u32(2).u64(0) => SizeMismatch, Some("t");
    a_scalar_of_blocks: tensor().u32(0).mark().u32(2).u64(0) => SizeMismatch, Some("t");
    a_type_that_no_fork_has: typed(0x1_0000) => UnknownDtype, Some("t");
    an_unknown_type_past_the_end: GgufBuilder::new(2, 0).string(b"s").u32(1).u64(8).u32(99).mark().u64(0).tensor("t", &[8], 0, 8192) => OutOfBounds, Some("s");
    an_unknown_type_before_a_tensor_off_the_grid: GgufBuilder::new(2, 0).tensor("s", &[8], 99, 0).string(b"t").u32(1).u64(8).u32(0).mark().u64(33) => BadAlignment, Some("t");
    an_offset_off_the_grid: second(33) => BadAlignment, Some("t");
    a_gap: second(64) => Hole, Some("t");
    an_overlap: second(0) => Overlap, Some("t");
    an_offset_near_the_maximum: second(u64::MAX - 31) => Hole, Some("t");
    a_leading_gap: tensor().u32(1).u64(1).u32(0).mark().u64(32) => Hole, Some("t");
    a_sum_that_overflows: two_halves(i64::MAX as u64) => Overflow, Some("t");
    a_tensor_past_the_end: tensor().u32(1).u64(5000).u32(24).mark().u64(0) => OutOfBounds, Some("t");
}

/// Types of forks and removed types are shown with their number; such a tensor ends where the next one starts.
#[test]
fn gguf_unknown_types_are_named() {
    for (id, word) in [(5, "2023"), (33, "ARM"), (38, "ARM"), (44, "type 44"), (140, "type 140")] {
        let file = GgufBuilder::new(3, 0).tensor("a", &[8], 0, 0).tensor("b", &[256], id, 32);
        let bytes = file.tensor("c", &[8], 0, 128).data(32, 160).bytes;
        let c = open_one("m.gguf", &bytes).expect("it opens");
        let sizes: Vec<u64> = c.tensors.iter().map(|t| t.bytes.len()).collect();
        assert_eq!(sizes, [32, 96, 32]);
        assert_eq!(c.tensors[1].dtype, DType::UNKNOWN);
        assert!(c.type_name(&c.tensors[1]).contains(word), "{}", c.type_name(&c.tensors[1]));
        // The last tensor reaches to the end of the file.
        let last = GgufBuilder::new(1, 0).tensor("b", &[256], id, 0).data(32, 77).bytes;
        let c = open_one("m.gguf", &last).expect("it opens");
        assert_eq!((c.tensors[0].bytes.len(), c.tensors[0].bytes.end), (77, last.len() as u64));
    }
}

/// Type 36 is I2_S where bitnet.cpp wrote the file.
#[test]
fn gguf_type_of_bitnet_is_named() {
    let file = GgufBuilder::new(1, 1).string(b"general.architecture").u32(8).string(b"bitnet-b1.58");
    let c = open_one("m.gguf", &file.tensor("w", &[256], 36, 0).data(32, 96).bytes).expect("it opens");
    assert!(c.type_name(&c.tensors[0]).contains("I2_S"));
}

/// Strings that are not UTF-8 are kept byte for byte.
#[test]
fn gguf_strings_of_any_bytes_are_read() {
    let file = GgufBuilder::new(0, 2).string(b"a").u32(8).string(b"ok\xc3");
    let file = file.string(b"b").u32(9).u32(8).u64(2).string(b"x").string(b"\x80");
    let c = open_one("m.gguf", &file.data(32, 0).bytes).expect("it opens");
    assert_eq!(c.metadata.get("a"), Some(&MetaValue::Bytes(b"ok\xc3".to_vec())));
    let Some(MetaValue::Array(array)) = c.metadata.get("b") else { panic!("an array") };
    assert!(array.raw.ends_with(b"\x80"));
}

#[test]
fn gguf_other_magic_is_refused() {
    refused(open_one("m.gguf", b"GGUG\x03\0\0\0"), Code::BadMagic, Some(0), None);
    refused(open_one("m.gguf", b""), Code::Truncated, Some(0), None);
    refused(open_one("m.gguf", b"lmgg\x01\0\0\0more"), Code::BadMagic, Some(0), None);
}

#[test]
fn gguf_arrays_four_deep_are_read() {
    let g = (0..3)
        .fold(GgufBuilder::new(0, 1).string(b"a").u32(9), |g, _| g.u32(9).u64(1))
        .u32(0)
        .u64(2)
        .raw(&[1, 2]);
    open_one("m.gguf", &g.bytes).expect("it opens");
}

/// The claims fit the file, which is sparse and huge: the limits of our own must stop them, and nothing be
/// read.
#[test]
fn gguf_huge_counts_in_a_huge_file_are_refused() {
    let string = GgufBuilder::new(0, 1).string(b"a").u32(8).mark().u64((1 << 30) + 1);
    let array = GgufBuilder::new(0, 1).string(b"a").u32(9).u32(0).mark().u64((1 << 30) + 1);
    let long = GgufBuilder::new(0, 1).string(b"a").u32(8).mark().u64(limits::MAX_GGUF_HEADER);
    let wide = GgufBuilder::new(0, 1).string(b"a").u32(9).u32(10).mark().u64(limits::MAX_GGUF_HEADER / 8);
    let tensors = GgufBuilder::default().raw(b"GGUF").u32(3).mark().u64(limits::MAX_ENTRIES + 1).u64(0);
    let keys = GgufBuilder::default().raw(b"GGUF").u32(3).u64(0).mark().u64(limits::MAX_ENTRIES + 1);
    let list = [
        (string, Code::StringTooLong),
        (array, Code::TooMany),
        (long, Code::HeaderTooLarge),
        (wide, Code::HeaderTooLarge),
        (tensors, Code::TooMany),
        (keys, Code::TooMany),
    ];
    for (file, code) in list {
        let files = Files::default().with_sparse("m.gguf", file.bytes, 1 << 50);
        let (outcome, read) = drive_counted(Root::File("m.gguf"), &files, usize::MAX);
        refused(outcome, code, file.mark, None);
        assert!(read <= limits::FIRST_READ);
    }
}

/// The end fits 64 bits relative to the data, not behind the header; only a file of 2^64 bytes comes so far.
#[test]
fn gguf_overflowing_data_end_is_refused() {
    let file = two_halves((1 << 63) - 33);
    let files = Files::default().with_sparse("m.gguf", file.bytes, u64::MAX);
    refused(drive_counted(Root::File("m.gguf"), &files, usize::MAX).0, Code::Overflow, file.mark, Some("t"));
}
