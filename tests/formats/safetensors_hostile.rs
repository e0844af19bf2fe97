//! Invalid safetensors headers, one fault each; `^` precedes the offset that the error must name.

use crate::build::{marked, open_one, refused, st, st_bytes};
use quantoscope_core::Code;
use quantoscope_core::format::{Root, limits};
use quantoscope_tests::drive::{Files, drive_counted};

macro_rules! headers {
    ($($name:ident: $json:expr, $data:expr => $code:ident, $tensor:expr;)*) => {$(
        #[test]
        fn $name() {
            let (json, at) = marked(&$json);
            refused(open_one("m.safetensors", &st(&json, $data)), Code::$code, Some(8 + at), $tensor);
        }
    )*};
}

/// One entry of a header.
fn entry(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}"#)
}

/// A header of one tensor `t`.
fn one(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"t":{}}}"#, entry(dtype, shape, offsets))
}

/// A header of two tensors `s` and `t` of bytes.
fn two(s: &str, t: &str) -> String {
    let of = |o: &str| {
        let ends: Vec<i64> =
            o.trim_matches(['^', '[', ']']).split(',').map(|n| n.parse().expect("a number")).collect();
        entry("\"U8\"", &format!("[{}]", ends[1] - ends[0]), o)
    };
    format!(r#"{{"s":{},"t":{}}}"#, of(s), of(t))
}

headers! {
    a_name_twice: r#"{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},^"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#, 2
        => DuplicateName, Some("t");
    a_name_twice_spelled_differently: r#"{"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},^"\u0074":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, 0
        => DuplicateName, Some("t");
    metadata_twice: r#"{"__metadata__":{},^"__metadata__":{}}"#, 0 => DuplicateName, None;
    a_metadata_key_twice: r#"{"__metadata__":{"a":"b",^"a":"c"}}"#, 0 => DuplicateName, None;
    a_field_twice: r#"{"t":{"dtype":"U8",^"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, 0 => DuplicateName, Some("t");
    an_overlap: two("[0,4]", "^[2,6]"), 6 => Overlap, Some("t");
    a_leading_hole: one("\"U8\"", "[1]", "^[1,2]"), 2 => Hole, Some("t");
    a_hole_between: two("[0,2]", "^[3,4]"), 4 => Hole, Some("t");
    a_span_too_long: one("\"F32\"", "[2]", "^[0,9]"), 9 => SizeMismatch, Some("t");
    a_span_too_short: one("\"BF16\"", "[3]", "^[0,5]"), 5 => SizeMismatch, Some("t");
    f8_of_two_bytes: one("\"F8_E4M3\"", "[3]", "^[0,6]"), 6 => SizeMismatch, Some("t");
    f4_of_an_odd_count: one("\"F4\"", "[3]", "^[0,2]"), 2 => SizeMismatch, Some("t");
    f6_that_ends_within_a_byte: one("\"F6_E3M2\"", "[2]", "^[0,2]"), 2 => SizeMismatch, Some("t");
    offsets_reversed: one("\"U8\"", "[1]", "^[2,1]"), 2 => OutOfBounds, Some("t");
    offsets_past_the_end: one("\"U8\"", "[9]", "^[0,9]"), 8 => OutOfBounds, Some("t");
    offsets_near_the_maximum: one("\"U8\"", "[1]", "^[18446744073709551614,18446744073709551615]"), 1
        => OutOfBounds, Some("t");
    axes_that_multiply_to_zero: one("\"U8\"", "^[4294967296,4294967296]", "[0,0]"), 0 => Overflow, Some("t");
    axes_that_wrap_to_a_residue: one("\"U8\"", "^[6148914691236517206,3]", "[0,2]"), 2 => Overflow, Some("t");
    axes_that_a_zero_hides: one("\"U8\"", "^[0,4294967296,4294967296]", "[0,0]"), 0 => Overflow, Some("t");
    a_size_that_wraps: one("\"F64\"", "[2305843009213693952]", "^[0,0]"), 0 => Overflow, Some("t");
    an_axis_below_zero: one("\"U8\"", "[^-1]", "[0,1]"), 1 => BadJson, Some("t");
    an_axis_with_a_fraction: one("\"U8\"", "[^1.0]", "[0,1]"), 1 => BadJson, Some("t");
    an_axis_with_an_exponent: one("\"U8\"", "[^1e0]", "[0,1]"), 1 => BadJson, Some("t");
    an_axis_beyond_64_bits: one("\"U8\"", "[^18446744073709551616]", "[0,1]"), 1 => Overflow, Some("t");
    an_offset_beyond_64_bits: one("\"U8\"", "[1]", "[0,^99999999999999999999]"), 1 => Overflow, Some("t");
    an_unknown_dtype: one("^\"F33\"", "[1]", "[0,1]"), 1 => UnknownDtype, Some("t");
    a_dtype_of_another_container: one("^\"Q4_0\"", "[32]", "[0,18]"), 18 => UnknownDtype, Some("t");
    a_dtype_that_is_no_text: one("^1", "[1]", "[0,1]"), 1 => BadJson, Some("t");
    no_dtype: r#"{"t":^{"shape":[1],"data_offsets":[0,1]}}"#, 1 => BadJson, Some("t");
    no_shape: r#"{"t":^{"dtype":"U8","data_offsets":[0,1]}}"#, 1 => BadJson, Some("t");
    no_offsets: r#"{"t":^{"dtype":"U8","shape":[1]}}"#, 1 => BadJson, Some("t");
    one_offset: one("\"U8\"", "[1]", "^[1]"), 1 => BadJson, Some("t");
    three_offsets: one("\"U8\"", "[1]", "^[0,1,2]"), 1 => BadJson, Some("t");
    a_shape_that_is_no_array: one("\"U8\"", "^1", "[0,1]"), 1 => BadJson, Some("t");
    too_many_axes: one("\"U8\"", &format!("^[{}]", ["1"; 65].join(",")), "[0,1]"), 1 => TooManyAxes, Some("t");
    an_entry_that_is_no_object: r#"{"t":^[]}"#, 0 => BadJson, Some("t");
    metadata_that_is_no_text: r#"{"__metadata__":{"a":^1}}"#, 0 => BadJson, None;
    metadata_that_is_no_object: r#"{"__metadata__":^7}"#, 0 => BadJson, None;
    a_header_that_is_no_object: "^[]", 0 => BadJson, None;
    a_header_that_starts_with_a_space: "^ {}", 0 => BadJson, None;
    a_header_of_nothing: "^", 0 => BadJson, None;
    a_header_that_breaks_off: "{\"t\":^", 0 => BadJson, None;
    a_header_with_text_behind_it: "{}^x", 0 => BadJson, None;
    json_too_deep: format!("{{\"t\":{}^[{}}}", "[".repeat(63), "]".repeat(64)), 0 => TooDeep, None;
    json_very_deep: format!("{}^{}", "[".repeat(64), "[".repeat(1 << 20)), 0 => TooDeep, None;
}

#[test]
fn safetensors_brackets_in_strings_are_not_depth() {
    let json = format!(r#"{{"__metadata__":{{"a":"\"{}\\"}}}}"#, "[".repeat(100));
    open_one("m.safetensors", &st(&json, 0)).expect("it opens");
}

#[test]
fn safetensors_trailing_bytes_are_refused() {
    let bytes = st(&two("[0,2]", "[2,4]"), 5);
    refused(open_one("m.safetensors", &bytes), Code::TrailingBytes, Some(bytes.len() as u64 - 1), None);
}

#[test]
fn safetensors_empty_with_trailing_bytes_is_refused() {
    refused(open_one("m.safetensors", &st("{}", 3)), Code::TrailingBytes, Some(10), None);
}

#[test]
fn safetensors_header_not_utf8_is_refused() {
    refused(open_one("m.safetensors", &st_bytes(b"{\"\xff\":1}", 0)), Code::BadUtf8, Some(10), None);
}

#[test]
fn safetensors_shorter_than_the_length_is_refused() {
    refused(open_one("m.safetensors", &[0; 7]), Code::Truncated, Some(0), None);
}

#[test]
fn safetensors_header_longer_than_the_file_is_refused() {
    let mut bytes = st("{}", 0);
    bytes[0] = 3;
    refused(open_one("m.safetensors", &bytes), Code::Truncated, Some(0), None);
}

#[test]
fn safetensors_header_length_near_the_maximum_is_refused() {
    for n in [u64::MAX, u64::MAX - 7, 1 << 63] {
        refused(open_one("m.safetensors", &n.to_le_bytes()), Code::HeaderTooLarge, Some(0), None);
    }
}

#[test]
fn safetensors_header_over_the_limit_is_not_read() {
    let n = limits::MAX_SAFETENSORS_HEADER + 1;
    let files = Files::default().with_sparse("m.safetensors", n.to_le_bytes(), 1 << 50);
    let (outcome, read) = drive_counted(Root::File("m.safetensors"), &files, usize::MAX);
    refused(outcome, Code::HeaderTooLarge, Some(0), None);
    assert!(read <= limits::FIRST_READ);
}

#[test]
fn safetensors_too_many_entries_are_refused() {
    let mut json = String::from("{\"__metadata__\":{");
    for i in 0..=limits::MAX_ENTRIES {
        json.push_str(&format!("\"{i}\":\"\","));
    }
    json.pop();
    json.push_str("}}");
    let files = Files::of("m.safetensors", st(&json, 0));
    let error = drive_counted(Root::File("m.safetensors"), &files, usize::MAX).0.expect_err("refused");
    assert_eq!(error.code(), Code::TooMany);
}
