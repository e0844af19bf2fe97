//! Builders of valid and invalid files, and assertions on errors.

use quantoscope_core::error::ErrorKind;
use quantoscope_core::format::{Checkpoint, Container, Root};
use quantoscope_core::{Code, Result};
use quantoscope_tests::drive::{Files, drive, open};

/// A safetensors file of this header and `data` zeros.
pub(crate) fn st(json: &str, data: usize) -> Vec<u8> {
    st_bytes(json.as_bytes(), data)
}

/// The same, of a header that need not be text.
pub(crate) fn st_bytes(header: &[u8], data: usize) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(header);
    out.resize(out.len() + data, 0);
    out
}

/// Takes the `^` out of a text, and says where it stood.
pub(crate) fn marked(text: &str) -> (String, u64) {
    let at = text.find('^').expect("a text with a mark");
    (text.replacen('^', "", 1), at as u64)
}

/// GGUF bytes, one field after the other.
#[derive(Clone, Default)]
pub(crate) struct GgufBuilder {
    pub bytes: Vec<u8>,
    /// Where the error is expected.
    pub mark: Option<u64>,
}

impl GgufBuilder {
    pub(crate) fn new(tensors: u64, key_values: u64) -> GgufBuilder {
        GgufBuilder::default().raw(b"GGUF").u32(3).u64(tensors).u64(key_values)
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> GgufBuilder {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u32(self, v: u32) -> GgufBuilder {
        self.raw(&v.to_le_bytes())
    }

    pub(crate) fn u64(self, v: u64) -> GgufBuilder {
        self.raw(&v.to_le_bytes())
    }

    pub(crate) fn string(self, text: &[u8]) -> GgufBuilder {
        self.u64(text.len() as u64).raw(text)
    }

    /// A whole tensor description, axes innermost first.
    pub(crate) fn tensor(self, name: &str, axes: &[u64], kind: u32, offset: u64) -> GgufBuilder {
        let head = self.string(name.as_bytes()).u32(axes.len() as u32);
        axes.iter().fold(head, |g, &a| g.u64(a)).u32(kind).u64(offset)
    }

    /// A key-value of type u32.
    pub(crate) fn key_u32(self, key: &str, value: u32) -> GgufBuilder {
        self.string(key.as_bytes()).u32(4).u32(value)
    }

    /// What follows is where the error is.
    pub(crate) fn mark(mut self) -> GgufBuilder {
        self.mark = Some(self.bytes.len() as u64);
        self
    }

    /// Zeros up to a multiple of `align`, then `n` more.
    pub(crate) fn data(mut self, align: usize, n: usize) -> GgufBuilder {
        let end = self.bytes.len().next_multiple_of(align) + n;
        self.bytes.resize(end, 0);
        self
    }
}

/// A lattice file: magic, version, the number of axes, axes, element count, payload of zeros.
pub(crate) fn lattice(
    magic: &[u8],
    version: u32,
    ndim: u32,
    axes: &[u64],
    numel: u64,
    payload: usize,
) -> Vec<u8> {
    let head = GgufBuilder::default().raw(magic).u32(version).u32(ndim);
    let mut out = axes.iter().fold(head, |g, &a| g.u64(a)).u64(numel).bytes;
    out.resize(out.len() + payload, 0);
    out
}

/// Opens one file, in whole reads and in single bytes: both must end the same.
pub(crate) fn open_one(name: &str, bytes: &[u8]) -> Result<Checkpoint> {
    same(Root::File(name), &Files::of(name, bytes))
}

/// Opens with reads of any size, of 1 and of 7 bytes; all must end the same.
pub(crate) fn same(root: Root<'_>, files: &Files) -> Result<Checkpoint> {
    let whole = open(root, files);
    for max_read in [1, 7] {
        let small = drive(root, files, max_read);
        match (&whole, &small) {
            (Ok(a), Ok(b)) => assert_eq!(a, b),
            (Err(a), Err(b)) => assert_eq!(a, b),
            (a, b) => panic!("{a:?} in whole reads, {b:?} in reads of {max_read}"),
        }
    }
    whole
}

/// The error must have this code, this offset and this tensor.
#[track_caller]
pub(crate) fn refused(outcome: Result<Checkpoint>, code: Code, at: Option<u64>, tensor: Option<&str>) {
    let error = outcome.expect_err("this must be refused");
    let detail = error.detail();
    assert_eq!((detail.code, detail.offset, detail.tensor.as_deref()), (code, at, tensor), "{error}");
    assert!(detail.file.is_some(), "{error}: without its file");
}

/// Every proper prefix of a file must be refused, whatever it breaks off.
#[track_caller]
pub(crate) fn no_prefix_opens(name: &str, bytes: &[u8], container: Container) {
    assert_eq!(open_one(name, bytes).expect("the whole file is right").container, container);
    for n in 0..bytes.len() {
        let outcome = open(Root::File(name), &Files::of(name, &bytes[..n]));
        let Err(error) = outcome else { panic!("the first {n} of {} bytes open", bytes.len()) };
        assert_eq!(error.code().kind(), ErrorKind::File, "the first {n} of {} bytes: {error}", bytes.len());
    }
}
