//! Lattice files: `.q4` and `.f16`, the checks of the original reader, both forms of the index.

use crate::build::{lattice, no_prefix_opens, open_one, refused, same};
use quantoscope_core::format::q4::{f16_header, file_stem, index_json, q4_header};
use quantoscope_core::format::{Container, Q4IndexEntry, Root, limits};
use quantoscope_core::tensor::Shape;
use quantoscope_core::{Code, DType};
use quantoscope_tests::drive::{Files, open};

fn shape(axes: &[u64]) -> Shape {
    Shape::new(axes).expect("a shape")
}

/// A valid file of this shape.
fn file(quantized: bool, axes: &[u64]) -> Vec<u8> {
    let shape = shape(axes);
    let header = if quantized { q4_header(&shape) } else { f16_header(&shape) };
    let dtype = if quantized { DType::LATTICE_Q4 } else { DType::F16 };
    let mut out = header.expect("a header");
    out.resize(out.len() + dtype.bytes_for(shape.numel()).expect("a size") as usize, 0);
    out
}

#[test]
fn q4_headers_equal_every_byte() {
    assert_eq!(q4_header(&shape(&[2, 33])).expect("a header"), lattice(b"KHQ4", 2, 2, &[2, 33], 66, 0));
    assert_eq!(f16_header(&shape(&[])).expect("a header"), lattice(b"KHF1", 1, 0, &[], 1, 0));
    assert_eq!(q4_header(&shape(&[1; 65])).expect_err("refused").code(), Code::TooManyAxes);
}

#[test]
fn q4_and_f16_files_open() {
    for (quantized, axes, payload) in [
        (true, &[2, 33][..], 60),
        (true, &[], 20),
        (true, &[0], 0),
        (false, &[3], 6),
        (false, &[], 2),
        (false, &[0, 9], 0),
    ] {
        let bytes = file(quantized, axes);
        let c = open_one("w.bin", &bytes).expect("it opens");
        let t = &c.tensors[0];
        assert_eq!((c.container, &t.shape, t.name.as_str()), (Container::LatticeQ4, &shape(axes), "w"));
        assert_eq!(t.dtype, if quantized { DType::LATTICE_Q4 } else { DType::F16 });
        assert_eq!((t.bytes.start, t.bytes.len()), (20 + 8 * axes.len() as u64, payload));
        assert_eq!(c.warnings[0].code, "file_names");
    }
}

#[test]
fn q4_truncated_at_any_byte_is_refused() {
    no_prefix_opens("w.q4", &file(true, &[2, 33]), Container::LatticeQ4);
    no_prefix_opens("w.f16", &file(false, &[5]), Container::LatticeQ4);
}

macro_rules! headers {
    ($($name:ident: $magic:literal, $version:expr, $ndim:expr, $axes:expr, $numel:expr, $payload:expr => $code:ident, $at:expr;)*) => {$(
        #[test]
        fn $name() {
            let bytes = lattice($magic, $version, $ndim, &$axes, $numel, $payload);
            refused(open_one("w.q4", &bytes), Code::$code, Some($at), None);
        }
    )*};
}

headers! {
    another_magic: b"KHQ5", 2, 1, [32], 32, 20 => BadMagic, 0;
    version_1: b"KHQ4", 1, 1, [32], 32, 18 => UnknownVersion, 4;
    version_3: b"KHQ4", 3, 1, [32], 32, 20 => UnknownVersion, 4;
    version_2_of_f16: b"KHF1", 2, 1, [1], 1, 2 => UnknownVersion, 4;
    axes_near_the_maximum: b"KHQ4", 2, u32::MAX, [32], 32, 20 => CountTooLarge, 8;
    more_axes_than_the_file_holds: b"KHQ4", 2, 7, [32], 32, 20 => CountTooLarge, 8;
    axes_that_are_not_all_there: b"KHQ4", 2, 3, [32], 32, 0 => Truncated, 12;
    too_many_axes: b"KHQ4", 2, 65, [1; 65], 1, 20 => TooManyAxes, 8;
    axes_that_multiply_to_zero: b"KHQ4", 2, 2, [1 << 32, 1 << 32], 0, 0 => Overflow, 12;
    axes_that_wrap_to_a_residue: b"KHQ4", 2, 2, [6_148_914_691_236_517_206, 3], 2, 20 => Overflow, 12;
    axes_that_a_zero_hides: b"KHQ4", 2, 3, [0, 1 << 32, 1 << 32], 0, 0 => Overflow, 12;
    a_count_that_the_shape_does_not_make: b"KHQ4", 2, 1, [32], 31, 20 => SizeMismatch, 20;
    a_count_of_zero: b"KHQ4", 2, 1, [32], 0, 0 => SizeMismatch, 20;
    f16_whose_bytes_wrap_to_zero: b"KHF1", 1, 1, [1 << 63], 1 << 63, 0 => Overflow, 20;
    f16_whose_bytes_wrap_to_a_residue: b"KHF1", 1, 1, [(1 << 63) + 5], (1 << 63) + 5, 10 => Overflow, 20;
    f16_whose_end_wraps: b"KHF1", 1, 1, [(1 << 63) - 1], (1 << 63) - 1, 0 => Overflow, 20;
    f16_too_large_for_the_file_without_overflow: b"KHF1", 1, 1, [1 << 62], 1 << 62, 10 => Truncated, 38;
    q4_near_the_maximum: b"KHQ4", 2, 1, [u64::MAX], u64::MAX, 20 => Truncated, 48;
    q4_of_a_quarter_of_the_maximum: b"KHQ4", 2, 1, [u64::MAX / 4], u64::MAX / 4, 20 => Truncated, 48;
    a_payload_one_byte_short: b"KHQ4", 2, 2, [2, 33], 66, 59 => Truncated, 95;
    a_payload_one_byte_long: b"KHQ4", 2, 2, [2, 33], 66, 61 => TrailingBytes, 96;
    an_f16_payload_one_byte_short: b"KHF1", 1, 1, [3], 3, 5 => Truncated, 33;
    an_f16_payload_one_byte_long: b"KHF1", 1, 1, [3], 3, 7 => TrailingBytes, 34;
}

#[test]
fn q4_version_1_is_refused_with_advice() {
    let error = open_one("w.q4", &lattice(b"KHQ4", 1, 1, &[32], 32, 18)).expect_err("refused");
    assert!(error.detail().message.contains("quantize the source model again"), "{error}");
}

#[test]
fn q4_file_names_are_sanitized_as_upstream() {
    assert_eq!(file_stem("model.layers.0.q_proj.weight"), "model_layers_0_q_proj_weight");
    assert_eq!(file_stem("a/b\\c d-\u{e9}\u{2713}"), "a_b_c_d-\u{e9}_");
    assert_eq!(file_stem("a.b"), file_stem("a_b"));
}

fn entry(name: &str, file: &str, quantized: bool, axes: &[u64]) -> Q4IndexEntry {
    let shape = shape(axes);
    Q4IndexEntry { name: name.into(), file: file.into(), quantized, numel: shape.numel(), shape }
}

fn entries() -> Vec<Q4IndexEntry> {
    vec![entry("z.w", "z_w.q4", true, &[2, 32]), entry("a.norm", "a_norm.f16", false, &[3])]
}

/// A directory whose files are right, with this index.
fn directory(index: impl Into<Vec<u8>>) -> Files {
    let files = Files::of("quantize_index.json", index).with("config.json", r#"{"a":1}"#);
    files.with("z_w.q4", file(true, &[2, 32])).with("a_norm.f16", file(false, &[3]))
}

#[test]
fn q4_directory_reads_back_its_index() {
    for seed in [None, Some(0), Some(0xCAFE_BABE_DEAD_BEEF)] {
        let c = same(Root::Dir, &directory(index_json(&entries(), seed))).expect("it opens");
        assert_eq!((c.q4_index, c.q4_seed), (Some(entries()), seed));
        let names: Vec<&str> = c.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["a.norm", "z.w"]);
        assert_eq!((c.config.as_deref(), c.warnings), (Some(&br#"{"a":1}"#[..]), vec![]));
    }
}

#[test]
fn q4_index_under_any_name_opens() {
    let index = index_json(&entries(), Some(7));
    let files = directory("").without("quantize_index.json").with("other.json", index);
    assert_eq!(same(Root::File("other.json"), &files).expect("it opens").tensors.len(), 2);
}

#[test]
fn q4_index_is_an_array_or_rotated_an_object() {
    let plain: serde_json::Value = serde_json::from_slice(&index_json(&entries(), None)).expect("JSON");
    assert_eq!(
        plain[0],
        serde_json::json!({"name":"z.w","file":"z_w.q4","quantized":true,"shape":[2,32],"numel":64})
    );
    let rotated: serde_json::Value =
        serde_json::from_slice(&index_json(&entries(), Some(u64::MAX))).expect("JSON");
    assert_eq!(rotated["quarot_seed"], u64::MAX);
    assert_eq!(rotated["quarot_seed_hex"], "0xffffffffffffffff");
    assert_eq!((&rotated["promotion"]["state"], &rotated["tensors"]), (&"unpromoted".into(), &plain));
    let back: Vec<Q4IndexEntry> = serde_json::from_value(plain).expect("entries");
    assert_eq!(back, entries());
}

#[test]
fn q4_seed_beyond_f64_is_read_from_its_text() {
    let text = |number: &str| {
        let tensors = String::from_utf8(index_json(&entries(), None)).expect("text");
        format!(r#"{{"quarot_seed":{number},"quarot_seed_hex":"0xcafebabedeadbeef","tensors":{tensors}}}"#)
    };
    let seed = |number| open(Root::Dir, &directory(text(number))).map(|c| c.q4_seed);
    for bent in ["14627333968688431000", "14627333968688431104", "14627333968688430831"] {
        assert_eq!(seed(bent), Ok(Some(0xCAFE_BABE_DEAD_BEEF)));
    }
    assert_eq!(seed("null"), Ok(Some(0xCAFE_BABE_DEAD_BEEF)));
    assert_eq!(seed("5").expect_err("refused").code(), Code::BadIndex);
}

#[test]
fn q4_run_time_rotation_is_reported() {
    let tensors = String::from_utf8(index_json(&entries(), None)).expect("text");
    let index = format!(r#"{{"online":{{}},"tensors":{tensors}}}"#);
    assert_eq!(open(Root::Dir, &directory(index)).expect("it opens").warnings[0].code, "online_rotation");
}

macro_rules! entries {
    ($($name:ident: $json:literal => $code:ident, $tensor:expr;)*) => {$(
        #[test]
        fn $name() {
            let (json, at) = crate::build::marked($json);
            refused(same(Root::Dir, &directory(json)), Code::$code, Some(at), $tensor);
        }
    )*};
}

entries! {
    index_another_kind: r#"[^{"name":"t","file":"z_w.q4","quantized":false,"shape":[2,32],"numel":64}]"# => BadIndex, Some("t");
    index_another_shape: r#"[^{"name":"t","file":"z_w.q4","quantized":true,"shape":[32,2],"numel":64}]"# => BadIndex, Some("t");
    index_another_count: r#"[^{"name":"t","file":"z_w.q4","quantized":true,"shape":[2,32],"numel":63}]"# => BadIndex, Some("t");
    index_two_tensors_of_one_file: r#"[{"name":"s","file":"z_w.q4","quantized":true,"shape":[2,32],"numel":64},
        ^{"name":"t","file":"z_w.q4","quantized":true,"shape":[2,32],"numel":64}]"# => BadIndex, Some("t");
    index_one_tensor_twice: r#"[{"name":"t","file":"z_w.q4","quantized":true,"shape":[2,32],"numel":64},
        ^{"name":"t","file":"a_norm.f16","quantized":false,"shape":[3],"numel":3}]"# => DuplicateName, Some("t");
    index_a_file_outside: r#"[{"name":"t","file":^"../z_w.q4","quantized":true,"shape":[2,32],"numel":64}]"# => BadName, Some("t");
    index_without_a_count: r#"[^{"name":"t","file":"z_w.q4","quantized":true,"shape":[2,32]}]"# => BadJson, Some("t");
    index_without_a_name: r#"[^{"file":"z_w.q4","quantized":true,"shape":[2,32],"numel":64}]"# => BadJson, None;
    index_a_key_twice: r#"[{"name":"t",^"name":"t"}]"# => DuplicateName, None;
    index_a_top_key_twice: r#"{"tensors":[],^"tensors":[]}"# => DuplicateName, None;
    index_without_tensors: r#"^{"quarot_seed":1}"# => BadJson, None;
    index_of_a_number: "^5" => BadJson, None;
    index_an_axis_product_that_wraps: r#"[{"name":"t","file":"z_w.q4","quantized":true,"shape":^[4294967296,4294967296],"numel":0}]"#
        => Overflow, Some("t");
    index_a_seed_below_zero: r#"{"quarot_seed":^-1,"tensors":[]}"# => BadJson, None;
    index_a_seed_that_is_no_number: r#"{"quarot_seed_hex":^"0xgg","tensors":[]}"# => BadValue, None;
    index_a_seed_with_a_sign: r#"{"quarot_seed_hex":^"0x+1","tensors":[]}"# => BadValue, None;
}

#[test]
fn q4_missing_indexed_file_is_refused() {
    let files = directory(index_json(&entries(), None)).without("z_w.q4");
    let error = same(Root::Dir, &files).expect_err("refused");
    assert_eq!((error.code(), error.detail().file.as_deref()), (Code::BadIndex, Some("z_w.q4")));
}

#[test]
fn q4_index_over_the_limit_is_not_read() {
    let files = directory("").with_sparse("quantize_index.json", "[", limits::MAX_Q4_INDEX + 1);
    refused(open(Root::Dir, &files), Code::HeaderTooLarge, Some(limits::MAX_Q4_INDEX), None);
}

#[test]
fn q4_empty_index_is_refused() {
    assert_eq!(open(Root::Dir, &directory("[]")).expect_err("refused").code(), Code::Empty);
}
