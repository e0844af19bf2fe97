//! Buffer for a file that is read from its start into a header parser, in bounded pieces. Knows no format.
//!
//! Parsers consume whole items from a [`Cursor`], return [`Short`] if more bytes are required, and end with a
//! [`Header`].

use super::apr::AprInfo;
use super::limits::MAX_READ;
use super::{Container, SourceFile, UnknownType, Warning};
use crate::bytes::{ByteRange, Cursor, Short};
use crate::error::{Code, Error, Result};
use crate::tensor::{FileId, Metadata, TensorInfo};
use alloc::string::String;
use alloc::vec::Vec;
use sha2::{Digest, Sha256};

/// Why a parser stopped early.
pub(crate) enum ParseStop {
    /// More bytes are required.
    Short(Short),
    /// The bytes violate the format.
    Bad(Error),
}

impl From<Short> for ParseStop {
    fn from(s: Short) -> ParseStop {
        ParseStop::Short(s)
    }
}

impl From<Error> for ParseStop {
    fn from(e: Error) -> ParseStop {
        ParseStop::Bad(e)
    }
}

/// Result of a parser that reached its end.
pub(crate) enum ParseStep {
    /// The header is complete; the cursor is at its end.
    Done(Header),
    /// The content of a text file, to be parsed by the caller.
    Text(Vec<u8>),
}

/// A tensor and the file offset that errors about it report.
pub(crate) struct LocatedTensor {
    /// The tensor; its file index is set when the files are joined.
    pub info: TensorInfo,
    /// File offset that errors report.
    pub at: u64,
}

/// Parsed header of one weight file.
pub(crate) struct Header {
    /// Container of the file.
    pub container: Container,
    /// Sorted by data offset, then by position in the header.
    pub tensors: Vec<LocatedTensor>,
    /// Key-value metadata.
    pub metadata: Metadata,
    /// File offset of each metadata value.
    pub metadata_at: Vec<u64>,
    /// Alignment of the data in bytes.
    pub alignment: u64,
    /// Version of a GGUF file.
    pub gguf_version: Option<u32>,
    /// Tensors of types that this version does not know.
    pub unknown_types: Vec<UnknownType>,
    /// Unusual but legal properties of the file.
    pub warnings: Vec<Warning>,
    /// What an APR file declares beside its tensors.
    pub apr: AprInfo,
}

impl Header {
    /// Creates a header with tensors and no metadata.
    pub(crate) fn of_tensors(container: Container, tensors: Vec<LocatedTensor>) -> Header {
        Header {
            container,
            tensors,
            metadata: Metadata::default(),
            metadata_at: Vec::new(),
            alignment: 1,
            gguf_version: None,
            unknown_types: Vec::new(),
            warnings: Vec::new(),
            apr: AprInfo::default(),
        }
    }
}

/// A file that is being read: position, unconsumed bytes, and the hash of the consumed ones.
pub(crate) struct HeaderBuffer {
    /// Index of the file.
    pub id: FileId,
    /// Path relative to the root directory.
    pub name: String,
    /// Length of the file in bytes.
    pub len: u64,
    /// File offset of the first unconsumed byte.
    pos: u64,
    /// Bytes read and not yet consumed.
    buffer: Vec<u8>,
    /// File offset up to which bytes are required before parsing continues.
    goal: u64,
    /// Size of the next read in bytes, unless the parser requires more or the file ends.
    stride: u64,
    /// Hash of the consumed bytes.
    hash: Sha256,
}

impl HeaderBuffer {
    /// Creates the buffer of a file of `len` bytes; the first read has up to `first` bytes.
    pub(super) fn new(id: FileId, name: String, len: u64, first: u64) -> HeaderBuffer {
        let (buffer, hash) = (Vec::new(), Sha256::new());
        HeaderBuffer { id, name, len, pos: 0, buffer, goal: 1, stride: first, hash }
    }

    /// File offset after the last byte read.
    fn end(&self) -> u64 {
        self.pos.saturating_add(self.buffer.len() as u64)
    }

    /// Byte range to read next: not empty unless the file ends, and at most [`MAX_READ`] long.
    pub(super) fn range(&self) -> ByteRange {
        let start = self.end();
        let size = self.goal.saturating_sub(start).max(self.stride).min(MAX_READ);
        ByteRange { start, end: start.saturating_add(size).min(self.len) }
    }

    /// Appends bytes that were read at the start of [`range`](HeaderBuffer::range); bytes beyond the range
    /// are dropped.
    ///
    /// # Errors
    ///
    /// [`Code::Truncated`] for an empty slice: the file is shorter than its length.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let requested = self.range();
        if bytes.is_empty() {
            let message = "the file became shorter while it was read";
            return Err(Error::new(Code::Truncated, message).at(requested.start));
        }
        let keep = usize::try_from(requested.len()).map_or(bytes.len(), |n| n.min(bytes.len()));
        self.buffer.extend_from_slice(bytes.get(..keep).unwrap_or(bytes));
        Ok(())
    }

    /// True if parsing can continue.
    pub(super) fn is_enough(&self) -> bool {
        self.end() >= self.goal.min(self.len)
    }

    /// Runs a parser that consumes whole items; `None` if it requires more bytes.
    ///
    /// # Errors
    ///
    /// The error of the parser, or [`Code::Truncated`] if it requires bytes after the end of the file.
    pub(super) fn parse(
        &mut self,
        parse: impl FnOnce(&mut Cursor<'_>) -> Result<ParseStep, ParseStop>,
    ) -> Result<Option<ParseStep>> {
        let mut cursor = Cursor::new(&self.buffer, self.pos);
        let outcome = parse(&mut cursor);
        let used = cursor.consumed();
        let (done, _) = self.buffer.split_at(used);
        self.hash.update(done);
        self.buffer.drain(..used);
        self.pos = self.pos.saturating_add(used as u64);
        match outcome {
            Ok(step) => Ok(Some(step)),
            Err(ParseStop::Bad(error)) => Err(error),
            Err(ParseStop::Short(short)) => self.expect(short).map(|()| None),
        }
    }

    /// Sets the number of bytes that a parser requires.
    ///
    /// # Errors
    ///
    /// [`Code::Truncated`] if the file is too short.
    fn expect(&mut self, short: Short) -> Result<()> {
        let end = self.end();
        self.goal = end.saturating_add(short.need);
        if self.goal > self.len {
            let short = Short { offset: short.offset, need: self.goal - self.len };
            return Err(short.into());
        }
        // Doubling bounds the number of reads of a long header; the maximum bounds the memory that a false
        // length costs.
        self.stride = self.stride.saturating_mul(2).min(MAX_READ);
        Ok(())
    }

    /// Name, length and header digest of the parsed file.
    pub(super) fn into_source(self) -> SourceFile {
        let header = ByteRange { start: 0, end: self.pos };
        SourceFile { name: self.name, len: self.len, header, header_sha256: self.hash.finalize().into() }
    }
}
