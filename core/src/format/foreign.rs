//! Recognizes files that are no weights by their first bytes: what a failed download leaves, and formats of
//! other programs. Knows no checkpoint.

use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::string::String;

/// Bytes at the start of a file that [`check`] looks at.
pub(crate) const HEAD: u64 = 512;

/// First line of a Git LFS pointer, without the version number.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Formats that are known by their first bytes, and what to do about them.
const FORMATS: &[(&[u8], &str)] = &[
    (b"PK\x03\x04", "a zip archive, as PyTorch saves models; convert it to safetensors"),
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras saves models; convert it to safetensors"),
    (b"\x93NUMPY", "a NumPy array; convert the model to safetensors"),
    (b"\x1f\x8b", "compressed with gzip; decompress it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard; decompress it first"),
    (b"\xfd7zXZ\0", "compressed with xz; decompress it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; extract it first"),
    (b"lmgg", OLD_GGML),
    (b"tjgg", OLD_GGML),
    (b"fmgg", OLD_GGML),
    (b"algg", OLD_GGML),
];
const PICKLE: &str = "a Python pickle, as PyTorch saves models; convert it to safetensors";
const OLD_GGML: &str = "a ggml file older than GGUF; convert the model again from its source";

/// Refuses what is not weights: `head` are the first bytes of the file, [`HEAD`] of them unless it is shorter.
///
/// # Errors
///
/// [`Code::BadMagic`] with the kind of the file, and what to do.
pub(crate) fn check(head: &[u8]) -> Result<()> {
    let message = if head.starts_with(LFS) {
        lfs_pointer(head)
    } else if is_markup(head) {
        "the file is a web page, not weights: the download failed, or needs a login".into()
    } else if let Some((_, what)) = FORMATS.iter().find(|(magic, _)| head.starts_with(magic)) {
        format!("the file is {what}")
    } else if head.len() >= 16 && head.iter().all(|b| *b == 0) {
        "the file begins with zeros: the download is incomplete, or the disk was full".into()
    } else {
        return Ok(());
    };
    Err(Error::new(Code::BadMagic, message).at(0))
}

/// The sentence about a Git LFS pointer, with the size of the file that it stands for.
fn lfs_pointer(head: &[u8]) -> String {
    let text = core::str::from_utf8(head).unwrap_or_default();
    let size = text.lines().find_map(|line| line.strip_prefix("size ")).and_then(|n| n.parse::<u64>().ok());
    let size = size.map(|n| format!(" ({n} bytes)")).unwrap_or_default();
    format!("the file is a Git LFS pointer: the weights{size} were not fetched; run `git lfs pull`")
}

/// HTML or XML, as servers send in place of a file.
fn is_markup(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let starts = |with: &[u8]| head.get(..with.len()).is_some_and(|h| h.eq_ignore_ascii_case(with));
    [&b"<!doctype"[..], b"<html", b"<?xml", b"<!--", b"<head"].into_iter().any(starts)
}

/// What a file of another format is by its name, if it holds weights that this program does not read.
pub(crate) fn kind_by_name(name: &str) -> Option<&'static str> {
    let ends = |suffixes: &[&str]| suffixes.iter().any(|s| name.ends_with(s));
    if ends(&[".bin", ".pt", ".pth", ".ckpt", ".pkl"]) && !name.ends_with("training_args.bin") {
        return Some("a PyTorch file");
    }
    if ends(&[".h5", ".keras"]) {
        return Some("a Keras file");
    }
    match () {
        () if name.ends_with(".msgpack") => Some("a Flax file"),
        () if name.ends_with(".onnx") => Some("an ONNX file"),
        () if name.ends_with(".npz") => Some("NumPy arrays"),
        () if name.ends_with(".nemo") => Some("a NeMo archive"),
        () if name.ends_with(".tflite") => Some("a TensorFlow Lite file"),
        () if ends(&[".zip", ".tar", ".gz", ".zst", ".xz", ".7z"]) => Some("an archive"),
        () => None,
    }
}
