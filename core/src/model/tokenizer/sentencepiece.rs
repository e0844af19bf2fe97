//! A reader of SentencePiece models: pieces, model type and normalizer, from the bytes of the protocol buffer.

use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::vec::Vec;

/// Types of pieces. The numbers are also those of `tokenizer.ggml.token_type`.
pub mod piece {
    /// Text.
    pub const NORMAL: i32 = 1;
    /// Stands for text that no piece matches.
    pub const UNKNOWN: i32 = 2;
    /// Never matches text.
    pub const CONTROL: i32 = 3;
    /// Matched before all others.
    pub const USER_DEFINED: i32 = 4;
    /// Not used.
    pub const UNUSED: i32 = 5;
    /// One byte: `<0x0A>`.
    pub const BYTE: i32 = 6;
}

/// One piece.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VocabularyPiece<'a> {
    /// Its text.
    pub text: &'a str,
    /// Its score.
    pub score: f32,
    /// Its type, of [`piece`].
    pub kind: i32,
}

/// A SentencePiece model.
#[derive(Clone, Debug, PartialEq)]
pub struct SentencePiece<'a> {
    /// The pieces; a piece's index is its id.
    pub pieces: Vec<VocabularyPiece<'a>>,
    /// 1 Unigram, 2 BPE, 3 words, 4 characters.
    pub model_type: u64,
    /// A space goes before the text.
    pub add_dummy_prefix: bool,
    /// Runs of spaces become one.
    pub remove_extra_whitespaces: bool,
    /// The character map of the normalizer, compiled.
    pub charsmap: &'a [u8],
}

/// Reads a model.
///
/// # Errors
/// `truncated`, `overflow`, `bad_value` and `bad_utf8`, at the byte where the message is wrong.
pub fn parse(bytes: &[u8]) -> Result<SentencePiece<'_>> {
    let mut model = SentencePiece {
        pieces: Vec::new(),
        model_type: 1,
        add_dummy_prefix: true,
        remove_extra_whitespaces: true,
        charsmap: &[],
    };
    let mut message = Message { bytes, at: 0, base: 0 };
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Bytes(content)) => model.pieces.push(read_piece(content)?),
            (2, Field::Bytes(content)) => read_trainer(content, &mut model)?,
            (3, Field::Bytes(content)) => read_normalizer(content, &mut model)?,
            (1..=3, _) => return Err(message.wrong("a field of the model is no message")),
            _ => {}
        }
    }
    if model.pieces.is_empty() {
        return Err(Error::new(Code::BadValue, "no SentencePiece model: it has no pieces"));
    }
    Ok(model)
}

fn read_piece(mut message: Message<'_>) -> Result<VocabularyPiece<'_>> {
    let mut piece = VocabularyPiece { text: "", score: 0.0, kind: piece::NORMAL };
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Bytes(text)) => {
                piece.text = core::str::from_utf8(text.bytes)
                    .map_err(|_| text.error(Code::BadUtf8, "the text of a piece is not UTF-8"))?;
            }
            (2, Field::Fixed32(bits)) => piece.score = f32::from_bits(bits),
            (3, Field::Varint(kind @ 1..=6)) => piece.kind = kind as i32,
            (1..=3, _) => return Err(message.wrong("a field of a piece has the wrong type")),
            _ => {}
        }
    }
    if !piece.score.is_finite() {
        return Err(message.error(Code::NonFinite, "the score of a piece is not finite"));
    }
    Ok(piece)
}

fn read_trainer<'a>(mut message: Message<'a>, model: &mut SentencePiece<'a>) -> Result<()> {
    while let Some((number, field)) = message.next()? {
        if let (3, Field::Varint(kind)) = (number, field) {
            model.model_type = kind;
        }
    }
    Ok(())
}

fn read_normalizer<'a>(mut message: Message<'a>, model: &mut SentencePiece<'a>) -> Result<()> {
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (2, Field::Bytes(map)) => model.charsmap = map.bytes,
            (3, Field::Varint(on)) => model.add_dummy_prefix = on != 0,
            (4, Field::Varint(on)) => model.remove_extra_whitespaces = on != 0,
            _ => {}
        }
    }
    Ok(())
}

/// Fields of a message, one after the other.
#[derive(Clone, Copy)]
struct Message<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Offset of the message in the file.
    base: usize,
}

/// The value of a field.
#[derive(Clone, Copy)]
enum Field<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64,
    Bytes(Message<'a>),
}

impl<'a> Message<'a> {
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed64)?,
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| self.truncated())?;
                Field::Bytes(self.take(length)?)
            }
            5 => {
                let taken = self.take(4)?;
                let bits = taken.bytes.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
                Field::Fixed32(bits)
            }
            kind => return Err(self.wrong(&format!("no wire type of a protocol buffer: {kind}"))),
        };
        if tag >> 3 == 0 {
            return Err(self.wrong("field number 0"));
        }
        Ok(Some((tag >> 3, field)))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or_else(|| self.truncated())?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                return Err(self.error(Code::Overflow, "a number has more than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error(Code::Overflow, "a number has more than 64 bits"))
    }

    fn take(&mut self, length: usize) -> Result<Message<'a>> {
        let end = self.at.checked_add(length).ok_or_else(|| self.truncated())?;
        let bytes = self.bytes.get(self.at..end).ok_or_else(|| self.truncated())?;
        let taken = Message { bytes, at: 0, base: self.base + self.at };
        self.at = end;
        Ok(taken)
    }

    fn truncated(&self) -> Error {
        self.error(Code::Truncated, "a field of the SentencePiece model ends after its message")
    }

    fn wrong(&self, message: &str) -> Error {
        self.error(Code::BadValue, message)
    }

    fn error(&self, code: Code, message: &str) -> Error {
        Error::new(code, message).at((self.base + self.at) as u64)
    }
}
