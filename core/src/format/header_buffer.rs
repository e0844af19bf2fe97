//! A file that is read from its start, in bounded pieces, into a header parser. Knows no format.
//!
//! What parsers share: they take whole items off a [`Cursor`], say how much more they need, and end with a [`Header`].

use super::limits::MAX_READ;
use super::{Container, SourceFile, Warning};
use crate::bytes::{ByteRange, Cursor, Short};
use crate::error::{Code, Error, Result};
use crate::tensor::{FileId, Metadata, TensorInfo};
use alloc::string::String;
use alloc::vec::Vec;
use sha2::{Digest, Sha256};

/// Why a parser stops in the middle: the bytes in hand end, or they are wrong.
pub(crate) enum ParseStop {
    Short(Short),
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

/// A parser's answer when all went well.
pub(crate) enum ParseStep {
    /// The header is complete; the cursor stands at its end.
    Done(Header),
    /// A whole file of text, to be parsed by whoever asked for it.
    Text(Vec<u8>),
}

/// A tensor and the offset of the place in the header that errors about it point to.
pub(crate) struct LocatedTensor {
    pub info: TensorInfo,
    pub at: u64,
}

/// What one weight file says.
pub(crate) struct Header {
    pub container: Container,
    /// By data offset, then by place in the header.
    pub tensors: Vec<LocatedTensor>,
    pub metadata: Metadata,
    /// File offset of each metadata value.
    pub metadata_at: Vec<u64>,
    pub alignment: u64,
    pub gguf_version: Option<u32>,
    pub warnings: Vec<Warning>,
}

impl Header {
    /// A header that says no more than its tensors.
    pub fn of_tensors(container: Container, tensors: Vec<LocatedTensor>) -> Header {
        Header {
            container,
            tensors,
            metadata: Metadata::default(),
            metadata_at: Vec::new(),
            alignment: 1,
            gguf_version: None,
            warnings: Vec::new(),
        }
    }
}

/// The file being read: where we are, what is in hand, what was consumed.
pub(crate) struct HeaderBuffer {
    pub id: FileId,
    pub name: String,
    pub len: u64,
    /// File offset of the first byte in hand.
    pos: u64,
    hand: Vec<u8>,
    /// End of what must be in hand before parsing goes on.
    goal: u64,
    /// Size of the next read, unless less or more is needed.
    stride: u64,
    hash: Sha256,
}

impl HeaderBuffer {
    /// A file of `len` bytes, whose first read shall have `first` bytes.
    pub fn new(id: FileId, name: String, len: u64, first: u64) -> HeaderBuffer {
        let (hand, hash) = (Vec::new(), Sha256::new());
        HeaderBuffer { id, name, len, pos: 0, hand, goal: 1, stride: first, hash }
    }

    fn end(&self) -> u64 {
        self.pos.saturating_add(self.hand.len() as u64)
    }

    /// The bytes to read next: at least one, never past the end, never more than [`MAX_READ`].
    pub fn range(&self) -> ByteRange {
        let start = self.end();
        let size = self.goal.saturating_sub(start).max(self.stride).min(MAX_READ);
        ByteRange { start, end: start.saturating_add(size).min(self.len) }
    }

    /// Takes bytes that were read at the start of [`range`](HeaderBuffer::range).
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let wanted = self.range();
        if bytes.is_empty() {
            let words = "the file ends before its length: it was changed while it was read";
            return Err(Error::new(Code::Truncated, words).at(wanted.start));
        }
        let keep = usize::try_from(wanted.len()).map_or(bytes.len(), |n| n.min(bytes.len()));
        self.hand.extend_from_slice(bytes.get(..keep).unwrap_or(bytes));
        Ok(())
    }

    /// Whether enough is in hand to go on parsing.
    pub fn is_enough(&self) -> bool {
        self.end() >= self.goal.min(self.len)
    }

    /// Lets `parse` consume whole items from what is in hand; `None` where it needs more.
    pub fn parse(
        &mut self,
        parse: impl FnOnce(&mut Cursor<'_>) -> Result<ParseStep, ParseStop>,
    ) -> Result<Option<ParseStep>> {
        let mut cursor = Cursor::new(&self.hand, self.pos);
        let outcome = parse(&mut cursor);
        let used = cursor.consumed();
        let (done, _) = self.hand.split_at(used);
        self.hash.update(done);
        self.hand.drain(..used);
        self.pos = self.pos.saturating_add(used as u64);
        match outcome {
            Ok(step) => Ok(Some(step)),
            Err(ParseStop::Bad(error)) => Err(error),
            Err(ParseStop::Short(short)) => self.expect(short).map(|()| None),
        }
    }

    /// Sets the goal that a parser asked for, or fails where the file has not that much.
    fn expect(&mut self, short: Short) -> Result<()> {
        let end = self.end();
        self.goal = end.saturating_add(short.need);
        if self.goal > self.len {
            let short = Short { offset: short.offset, need: self.goal - self.len };
            return Err(short.into());
        }
        // Doubling bounds the round trips of a long header, the cap bounds what a bad claim can cost.
        self.stride = self.stride.saturating_mul(2).min(MAX_READ);
        Ok(())
    }

    /// What the finished file is called and what was parsed of it.
    pub fn into_source(self) -> SourceFile {
        let header = ByteRange { start: 0, end: self.pos };
        SourceFile { name: self.name, len: self.len, header, header_sha256: self.hash.finalize().into() }
    }
}
