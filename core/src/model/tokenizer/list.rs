//! Lists of tokens with scores and types.

use super::keys::{KeyList, floats, integers, strings};
use super::sentencepiece::piece;
use crate::error::{Code, Error, Result};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Score of padding.
pub(super) const PADDING_SCORE: f32 = -10_000.0;
/// Score of added tokens.
pub(super) const ADDED_SCORE: f32 = -1_000.0;
/// Most tokens of a vocabulary: sixteen times those of the largest ones.
pub(super) const MAX_TOKENS: u64 = 4 << 20;

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token<'a> {
    /// Its text.
    pub text: Cow<'a, str>,
    /// Its score.
    pub score: f32,
    /// Its type, of [`piece`].
    pub kind: i32,
}

/// Tokens, ascending by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TokenList<'a>(pub Vec<Token<'a>>);

impl<'a> TokenList<'a> {
    /// A list of `size` unused tokens.
    ///
    /// # Errors
    /// `too_many` if the size is above [`MAX_TOKENS`].
    pub(super) fn padding(size: u64) -> Result<TokenList<'a>> {
        let mut list = TokenList::default();
        list.pad(size)?;
        Ok(list)
    }

    /// Pads the list to `size` tokens.
    ///
    /// # Errors
    /// `too_many` if the size is above [`MAX_TOKENS`].
    pub(super) fn pad(&mut self, size: u64) -> Result<()> {
        if size > MAX_TOKENS {
            let message = format!("a vocabulary of {size} tokens; the limit is {MAX_TOKENS}");
            return Err(Error::new(Code::TooMany, message));
        }
        for id in self.0.len() as u64..size {
            let text = Cow::Owned(format!("[PAD{id}]"));
            self.0.push(Token { text, score: PADDING_SCORE, kind: piece::UNUSED });
        }
        Ok(())
    }

    /// Replaces the token of an id; ids beyond the list are left out.
    pub(super) fn put(&mut self, id: u64, token: Token<'a>) {
        if let Some(slot) = usize::try_from(id).ok().and_then(|id| self.0.get_mut(id)) {
            *slot = token;
        }
    }

    /// Writes `tokens`.
    pub(super) fn write_texts(&self, keys: &mut KeyList) {
        keys.ggml("tokens", strings(self.0.iter().map(|t| t.text.as_ref())));
    }

    /// Writes `scores`.
    pub(super) fn write_scores(&self, keys: &mut KeyList) {
        keys.ggml("scores", floats(self.0.iter().map(|t| t.score)));
    }

    /// Writes `token_type`.
    pub(super) fn write_types(&self, keys: &mut KeyList) {
        keys.ggml("token_type", integers(self.0.iter().map(|t| t.kind)));
    }
}

/// True for tokens that llama.cpp takes for special by their looks.
pub(super) fn looks_special(text: &str) -> bool {
    let within = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || within("<|", "|>")
        || within("<\u{ff5c}", "\u{ff5c}>")
        || within("<unused", ">")
}

/// Type and text of an added token of a SentencePiece or BPE vocabulary.
pub(super) fn added_kind(text: Cow<'_, str>, special: bool) -> (Cow<'_, str>, i32) {
    if special || looks_special(&text) {
        (text, piece::CONTROL)
    } else if text.contains('\u{2581}') {
        (Cow::Owned(text.replace('\u{2581}', " ")), piece::USER_DEFINED)
    } else {
        (text, piece::USER_DEFINED)
    }
}

/// True for bytes that stand for themselves in the byte-level alphabet.
const fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// The character of the byte-level alphabet for a byte.
pub(super) fn byte_char(byte: u8) -> char {
    if stands_for_itself(byte) {
        return char::from(byte);
    }
    // The others follow U+0100 in their order: 33 below 0x21, 34 from 0x7f to 0xa0, and 0xad.
    let place = match byte {
        0..=0x20 => u32::from(byte),
        0x7f..=0xa0 => u32::from(byte) - 0x7f + 33,
        _ => 67,
    };
    char::from_u32(0x100 + place).unwrap_or('\u{fffd}')
}

/// The byte for a character of the byte-level alphabet.
pub(super) fn char_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ 0..=0xff => Some(code as u8).filter(|b| stands_for_itself(*b)),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// Bytes in the byte-level alphabet.
pub(super) fn byte_text(bytes: &[u8], table: &[char; 256]) -> String {
    bytes.iter().filter_map(|b| table.get(usize::from(*b))).collect()
}
