//! Invalid APR files, one fault each. Checksums are those of the damaged file unless they are the fault.

use crate::apr::{entry, sample};
use crate::build::{open_one, refused};
use quantoscope_core::Code;
use quantoscope_core::format::{Root, limits};
use quantoscope_tests::apr::{self, AprFile, AprTensor, seal};
use quantoscope_tests::drive::{Files, drive_counted};

/// A file with one F32 tensor `t` of shape `[2, 3]`.
fn one() -> Vec<u8> {
    AprFile::of([AprTensor::f32("t", &[2, 3], &[1.0; 6])]).bytes()
}

/// Places in the entry of `t`, from the start of the index.
const DTYPE: usize = 3;
const RANK: usize = 4;
const AXES: usize = 5;
const OFFSET: usize = 21;
const SIZE: usize = 29;

macro_rules! files {
    ($($name:ident: $make:expr => $code:ident, $at:expr, $tensor:expr;)*) => {$(
        #[test]
        fn $name() {
            let mut bytes: Vec<u8> = one();
            let index = entry(&bytes);
            let make: fn(&mut Vec<u8>, usize) = $make;
            make(&mut bytes, index);
            seal(&mut bytes);
            let at: fn(u64) -> u64 = $at;
            refused(open_one("m.apr", &bytes), Code::$code, Some(at(index as u64)), $tensor);
        }
    )*};
}

/// Replaces bytes.
fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    bytes[at..at + new.len()].copy_from_slice(new);
}

fn put_u64(bytes: &mut [u8], at: usize, n: u64) {
    put(bytes, at, &n.to_le_bytes());
}

files! {
    another_magic: |b, _| put(b, 0, b"APQ\0") => BadMagic, |_| 0, None;
    the_magic_of_version_1: |b, _| put(b, 0, b"APR1") => UnknownVersion, |_| 0, None;
    version_3: |b, _| b[4] = 3 => UnknownVersion, |_| 4, None;
    version_0: |b, _| b[4] = 0 => UnknownVersion, |_| 4, None;
    compressed_with_lz4: |b, _| b[6] |= 1 => UnsupportedContainer, |_| 6, None;
    compressed_with_zstd: |b, _| b[6] |= 2 => UnsupportedContainer, |_| 6, None;
    encrypted: |b, _| b[6] |= 4 => UnsupportedContainer, |_| 6, None;
    column_major: |b, _| b[7] |= 8 => UnsupportedContainer, |_| 6, None;
    more_tensors_than_the_index_holds: |b, _| put(b, 8, &5_u32.to_le_bytes()) => CountTooLarge, |_| 8, None;
    tensors_near_the_maximum: |b, _| put(b, 8, &[0xFF; 4]) => TooMany, |_| 8, None;
    no_tensor_and_an_index: |b, i| { put(b, 8, &[0; 4]); b.splice(i..i, [0; 64]); put_u64(b, 32, i as u64 + 128) }
        => TrailingBytes, |i| i, None;
    metadata_in_the_header: |b, _| put_u64(b, 12, 32) => BadValue, |_| 12, None;
    metadata_that_wrap: |b, _| put_u64(b, 12, u64::MAX) => BadValue, |_| 12, None;
    metadata_over_the_index: |b, _| put(b, 20, &200_u32.to_le_bytes()) => BadValue, |_| 12, None;
    metadata_over_the_limit: |b, _| put(b, 20, &[0xFF; 4]) => HeaderTooLarge, |_| 20, None;
    metadata_that_are_no_object: |b, _| put(b, 64, b"[]") => BadJson, |_| 64, None;
    metadata_that_are_no_json: |b, _| put(b, 64, b"{x") => BadJson, |_| 65, None;
    metadata_that_are_not_utf8: |b, _| put(b, 64, b"{\xff") => BadUtf8, |_| 65, None;
    an_index_after_the_payloads: |b, i| put_u64(b, 24, i as u64 + 200) => BadValue, |_| 24, None;
    payloads_after_the_end: |b, _| put_u64(b, 32, 1 << 20) => Truncated, |_| 32, None;
    payloads_near_the_maximum: |b, _| put_u64(b, 32, u64::MAX) => Truncated, |_| 32, None;
    a_name_of_no_bytes: |b, i| put(b, i, &[0, 0]) => BadName, |i| i, None;
    a_name_too_long: |b, i| put(b, i, &[1, 1]) => StringTooLong, |i| i, None;
    a_name_that_is_not_utf8: |b, i| b[i + 2] = 0xFF => BadUtf8, |i| i + 2, None;
    nine_axes: |b, i| b[i + RANK] = 9 => TooManyAxes, |i| i + RANK as u64, Some("t");
    axes_near_the_maximum: |b, i| b[i + RANK] = 255 => TooManyAxes, |i| i + RANK as u64, Some("t");
    axes_that_multiply_to_zero: |b, i| { put_u64(b, i + AXES, 1 << 32); put_u64(b, i + AXES + 8, 1 << 32) }
        => Overflow, |i| i + RANK as u64, Some("t");
    a_size_that_wraps: |b, i| put_u64(b, i + AXES, 1 << 62) => Overflow, |i| i + SIZE as u64, Some("t");
    an_unknown_dtype: |b, i| b[i + DTYPE] = 127 => UnknownDtype, |i| i + DTYPE as u64, Some("t");
    a_size_of_other_values: |b, i| put_u64(b, i + SIZE, 20) => SizeMismatch, |i| i + SIZE as u64, Some("t");
    an_empty_payload: |b, i| put_u64(b, i + SIZE, 0) => SizeMismatch, |i| i + SIZE as u64, Some("t");
    rows_of_broken_blocks: |b, i| b[i + DTYPE] = apr::Q6_K => SizeMismatch, |i| i + SIZE as u64, Some("t");
    a_payload_past_the_end: |b, i| put_u64(b, i + OFFSET, 64) => OutOfBounds, |i| i + OFFSET as u64, Some("t");
    an_offset_that_wraps: |b, i| put_u64(b, i + OFFSET, u64::MAX) => Overflow, |i| i + OFFSET as u64, Some("t");
    bytes_after_the_last_tensor: |b, _| { let end = b.len() - 4; b.splice(end..end, [0; 64]); }
        => TrailingBytes, |i| i + 128, None;
}

#[test]
fn apr_damaged_header_is_refused() {
    let mut bytes = one();
    bytes[50] ^= 1;
    refused(open_one("m.apr", &bytes), Code::BadValue, Some(40), None);
}

#[test]
fn apr_damaged_payload_is_refused() {
    let mut bytes = one();
    let end = bytes.len() - 4;
    bytes[end - 60] ^= 1;
    refused(open_one("m.apr", &bytes), Code::BadValue, Some(end as u64), None);
}

/// Two tensors whose entries a damage makes disagree.
fn two(damage: impl Fn(&mut [u8], usize)) -> Vec<u8> {
    let mut bytes = AprFile::of(["a", "b"].map(|name| AprTensor::f32(name, &[2, 3], &[1.0; 6]))).bytes();
    let index = entry(&bytes);
    damage(&mut bytes, index);
    seal(&mut bytes);
    bytes
}

#[test]
fn apr_entries_that_contradict_each_other_are_refused() {
    let second = SIZE + 8;
    let overlap = two(|b, i| put_u64(b, i + second + OFFSET, 8));
    let at = entry(&overlap) as u64 + (second + OFFSET) as u64;
    refused(open_one("m.apr", &overlap), Code::Overlap, Some(at), Some("b"));
    let at = entry(&overlap) as u64 + second as u64;
    let twice = two(|b, i| b[i + second + 2] = b'a');
    refused(open_one("m.apr", &twice), Code::DuplicateName, Some(at), Some("a"));
    let unsorted = two(|b, i| b[i + second + 2] = b'A');
    refused(open_one("m.apr", &unsorted), Code::BadValue, Some(at), Some("A"));
}

#[test]
fn apr_entries_that_are_not_all_there_are_refused() {
    let mut bytes = sample().bytes();
    put(&mut bytes, 8, &11_u32.to_le_bytes());
    seal(&mut bytes);
    assert_eq!(
        open_one("m.apr", &bytes).expect_err("refused").code().kind(),
        quantoscope_core::error::ErrorKind::File
    );
}

#[test]
fn apr_rows_padded_to_blocks_are_named() {
    let file = AprFile::of([AprTensor::raw("t", apr::Q4_K, &[2, 300], vec![0; 4 * 144])]);
    let error = open_one("m.apr", &file.bytes()).expect_err("refused");
    assert_eq!((error.code(), error.detail().tensor.as_deref()), (Code::UnsupportedDtype, Some("t")));
}

/// The claims fit the file, which is sparse and huge: limits of our own must stop them, and nothing be read.
#[test]
fn apr_huge_header_in_a_huge_file_is_refused() {
    let mut bytes = one();
    put_u64(&mut bytes, 32, limits::MAX_APR_HEADER + 1);
    seal(&mut bytes);
    let files = Files::default().with_sparse("m.apr", bytes, 1 << 50);
    let (outcome, read) = drive_counted(Root::File("m.apr"), &files, usize::MAX);
    refused(outcome, Code::HeaderTooLarge, Some(32), None);
    assert!(read <= limits::FIRST_READ);
}
