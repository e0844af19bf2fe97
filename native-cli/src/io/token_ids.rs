//! Token ids for an evaluation: from a file of ids, or from a text by the model's tokenizer.

use crate::exit::io_error;
use crate::io::source::Source;
use crate::options::EvalTokens;
use crate::render::note;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::eval::{TextTokens, special_tokens, starting_token, text_tokens};
use quantoscope_core::format::Container;
use quantoscope_core::model::arch;
use quantoscope_core::model::tokenizer::Encoder;
use quantoscope_core::model::tokenizer::inverse::encoder_file;
use quantoscope_encoder::HfEncoder;
use std::fs::File;
use std::io::Read;
use std::path::Path;

const TOKENIZER: &str = "tokenizer.json";
/// Most bytes of a text that are encoded, and of a file of ids.
const TEXT_LIMIT: usize = 32 << 20;
const IDS_LIMIT: usize = 64 << 20;
/// Bytes that are read at first for each wanted token, and for all: more than usual texts need.
const BYTES_EACH: usize = 16;
const BYTES: usize = 64 << 10;
/// Tokens behind the wanted ones, so that the end of a part of a text does not change these.
const MARGIN: usize = 1024;
/// Vocabularies up to this size have ids of two bytes.
const SHORT: usize = 1 << 16;

/// Token ids of a text, and the token that starts every sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenIds {
    pub ids: Vec<u32>,
    pub bos: Option<u32>,
}

/// How token ids are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// The first tokens that are needed; `None`: all. No more of the file is read than they need.
    pub most: Option<usize>,
    /// Whether ids start with the model's BOS token too, as a text does. One that they start with already is dropped.
    pub bos_of_ids: bool,
}

/// The token ids of `tokens` for the model of `source`.
///
/// # Errors
///
/// `empty` if there are none; `bad_utf8` if a text is none, `unsupported_container` if the model has no tokenizer for it;
/// `bad_value` if a number is no id of the vocabulary; `too_many` if more of the file is needed than is read.
pub(crate) fn read(tokens: &EvalTokens, source: &Source, wanted: Wanted) -> Result<TokenIds> {
    let mut found = match tokens {
        EvalTokens::Text(path) => text(path, source, wanted.most)?,
        EvalTokens::Ids(path) => ids(path, wanted.vocabulary, wanted.most)?,
    };
    if matches!(tokens, EvalTokens::Ids(_)) && wanted.bos_of_ids {
        found.bos = starting_token_of(source).unwrap_or_else(|e| {
            note(&format!("the sequences do not start with BOS: {e}"));
            None
        });
        if found.bos.is_some() && found.ids.first().copied() == found.bos {
            found.ids.remove(0);
        }
    }
    if let Some(id) = found.ids.iter().chain(&found.bos).find(|id| **id as usize >= wanted.vocabulary) {
        let message = format!("token id {id} is not in the vocabulary of {}", wanted.vocabulary);
        return Err(Error::new(Code::BadValue, message));
    }
    Ok(found)
}

/// The first bytes of a file, which may be a pipe.
struct TokenFile<'a> {
    path: &'a Path,
    file: File,
    bytes: Vec<u8>,
    /// Whether these are all.
    complete: bool,
    limit: usize,
}

impl TokenFile<'_> {
    fn open(path: &Path, limit: usize) -> Result<TokenFile<'_>> {
        let file = File::open(path).map_err(|e| io_error(&e, format!("cannot read {}", path.display())))?;
        Ok(TokenFile { path, file, bytes: Vec::new(), complete: false, limit })
    }

    /// Reads on to `len` bytes, at most to the limit.
    fn grow(&mut self, len: usize) -> Result<()> {
        let more = len.min(self.limit).saturating_sub(self.bytes.len());
        // One byte more tells whether the file ends here.
        let mut part = (&mut self.file).take(more as u64 + 1);
        let read = part.read_to_end(&mut self.bytes);
        let read = read.map_err(|e| io_error(&e, format!("cannot read {}", self.path.display())))?;
        self.complete = read <= more;
        if self.bytes.is_empty() {
            return Err(Error::new(Code::Empty, format!("{} is empty", self.path.display())));
        }
        Ok(())
    }

    /// Reads at first what `most` tokens need, or all.
    fn begin(&mut self, most: Option<usize>) -> Result<()> {
        let first = most.map_or(self.limit, |n| n.saturating_mul(BYTES_EACH).saturating_add(BYTES));
        self.grow(first)?;
        if most.is_none() && !self.complete { Err(self.too_long()) } else { Ok(()) }
    }

    fn too_long(&self) -> Error {
        let message = format!(
            "more than the first {} MiB of {} would have to be read; ask for fewer tokens, or cut the file",
            self.limit >> 20,
            self.path.display()
        );
        Error::new(Code::TooMany, message)
    }

    /// Reads twice as much.
    ///
    /// # Errors
    ///
    /// `too_many` if that is more than the limit.
    fn double(&mut self) -> Result<()> {
        if self.bytes.len() >= self.limit {
            return Err(self.too_long());
        }
        self.grow(self.bytes.len().saturating_mul(2))
    }
}

/// The ids of a file: decimal numbers between blanks, commas or brackets, or binary little-endian numbers of two bytes (four if
/// the vocabulary has more than 65,536 entries); the first `most` of them.
fn ids(path: &Path, vocabulary: usize, most: Option<usize>) -> Result<TokenIds> {
    let mut input = TokenFile::open(path, IDS_LIMIT)?;
    input.begin(most)?;
    let mut ids = loop {
        let ids = parse(&input, vocabulary)?;
        if input.complete || most.is_some_and(|most| ids.len() >= most) {
            break ids;
        }
        input.double()?;
    };
    ids.truncate(most.unwrap_or(usize::MAX));
    if ids.is_empty() {
        return Err(Error::new(Code::Empty, format!("{} has no token ids", path.display())));
    }
    if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= vocabulary) {
        let message = format!(
            "{}: token id {id} (number {at}, counted from 0) is not in the vocabulary of {vocabulary}",
            path.display()
        );
        return Err(Error::new(Code::BadValue, message));
    }
    Ok(TokenIds { ids, bos: None })
}

/// Token ids of a text of decimal numbers or of binary numbers. Of a file that was read in part, without a last number that is
/// cut off.
fn parse(input: &TokenFile<'_>, vocabulary: usize) -> Result<Vec<u32>> {
    let path = input.path;
    let bytes = input.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&input.bytes);
    let is_text = bytes.iter().all(|b| b.is_ascii_digit() || b.is_ascii_whitespace() || b",[]".contains(b));
    if !is_text && bytes.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
        let message = format!(
            "{}: a text of token ids has decimal numbers, blanks, commas and brackets only",
            path.display()
        );
        return Err(Error::new(Code::BadValue, message));
    }
    if is_text {
        // The last number can be cut off.
        let end = match input.complete {
            true => bytes.len(),
            false => bytes.iter().rposition(|b| !b.is_ascii_digit()).map_or(0, |at| at + 1),
        };
        return decimal(&bytes[..end], path);
    }
    let width = if vocabulary <= SHORT { 2 } else { 4 };
    let whole = if input.complete { bytes.len() } else { bytes.len() / width * width };
    binary(&bytes[..whole], path, width)
}

fn decimal(bytes: &[u8], path: &Path) -> Result<Vec<u32>> {
    let text = String::from_utf8_lossy(bytes);
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty());
    let id = |number: &str| {
        let message = || format!("{}: {number} is not a token id", path.display());
        number.parse().map_err(|_| Error::new(Code::BadValue, message()))
    };
    numbers.map(id).collect()
}

fn binary(bytes: &[u8], path: &Path, width: usize) -> Result<Vec<u32>> {
    if !bytes.len().is_multiple_of(width) {
        let message = format!(
            "{}: {} bytes are neither decimal token ids nor little-endian ids of {width} bytes each",
            path.display(),
            bytes.len()
        );
        return Err(Error::new(Code::BadValue, message));
    }
    let of_two = |b: &[u8; 2]| u32::from(u16::from_le_bytes(*b));
    Ok(match width {
        2 => bytes.as_chunks().0.iter().map(of_two).collect(),
        _ => bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect(),
    })
}

/// The first `most` ids of a text by the tokenizer of `source`, without the tokens that it adds around a text.
fn text(path: &Path, source: &Source, most: Option<usize>) -> Result<TokenIds> {
    let mut input = TokenFile::open(path, TEXT_LIMIT)?;
    input.begin(most)?;
    let json = tokenizer(source)?;
    let around = HfEncoder.encode(&json, "")?;
    let mut found = loop {
        let found = encode(&input, &json, &around, source)?;
        let enough = most.is_some_and(|most| found.ids.len() >= most.saturating_add(MARGIN));
        if input.complete || enough {
            break found;
        }
        input.double()?;
    };
    found.ids.truncate(most.unwrap_or(usize::MAX));
    if found.ids.is_empty() {
        return Err(Error::new(Code::Empty, format!("{} has no tokens", path.display())));
    }
    Ok(found)
}

/// Token ids of a text, which can be the beginning of a file.
fn encode(input: &TokenFile<'_>, json: &[u8], around: &[u32], source: &Source) -> Result<TokenIds> {
    let text = match std::str::from_utf8(&input.bytes) {
        Ok(text) => text,
        // The last character is cut off.
        Err(e) if e.error_len().is_none() && !input.complete => {
            std::str::from_utf8(&input.bytes[..e.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => {
            let message = format!("{} is not UTF-8 text", input.path.display());
            return Err(Error::new(Code::BadUtf8, message));
        }
    };
    let TextTokens { ids, bos } = text_tokens(&source.checkpoint, around, HfEncoder.encode(json, text)?)?;
    Ok(TokenIds { ids, bos })
}

/// The token that the model's tokenizer puts before a text, and its special tokens; nothing if there is no tokenizer.
pub(crate) fn special(source: &Source) -> (Option<u32>, Vec<u32>) {
    let Ok(json) = tokenizer(source) else { return (None, Vec::new()) };
    let encoded = |text: &str| HfEncoder.encode(&json, text).unwrap_or_default();
    let bos = starting_token(&source.checkpoint, &encoded(""), &encoded("a"));
    (bos, special_tokens(&json))
}

/// `tokenizer.json`: of a GGUF, from its metadata; else the file beside the weights.
fn tokenizer(source: &Source) -> Result<Vec<u8>> {
    let checkpoint = &source.checkpoint;
    let none = || {
        let message = "the model has no tokenizer to encode a text with; give token ids with --ids";
        Error::new(Code::UnsupportedContainer, message)
    };
    if checkpoint.container == Container::Gguf {
        let arch = arch::of_model(&checkpoint.metadata, checkpoint.config.as_deref());
        let with_ids = |e: Error| {
            let message = format!("{}; give token ids with --ids", e.detail().message);
            let code = e.code();
            e.explained(code, message)
        };
        if let Some(bytes) = encoder_file(&checkpoint.metadata, arch).map_err(with_ids)? {
            return Ok(bytes);
        }
    }
    source.read_beside(TOKENIZER)?.ok_or_else(none)
}

/// The token that the model's tokenizer puts before a text; none without a tokenizer.
fn starting_token_of(source: &Source) -> Result<Option<u32>> {
    if source.checkpoint.container == Container::Gguf {
        return Ok(starting_token(&source.checkpoint, &[], &[]));
    }
    let Some(json) = source.read_beside(TOKENIZER)? else { return Ok(None) };
    // A text tells tokens before it from tokens behind it: an empty one has both side by side.
    let (around, ids) = (HfEncoder.encode(&json, "")?, HfEncoder.encode(&json, "a")?);
    Ok(starting_token(&source.checkpoint, &around, &ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids_of(bytes: &[u8], vocabulary: usize) -> Result<Vec<u32>> {
        let dir = tempfile();
        let path = dir.join(format!("{}-{vocabulary}.ids", bytes.len()));
        std::fs::write(&path, bytes).expect("a file");
        let found = ids(&path, vocabulary, None).map(|t| t.ids);
        std::fs::remove_file(&path).expect("the file");
        found
    }

    fn tempfile() -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("quantoscope-ids-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        dir
    }

    #[test]
    fn ids_are_text_or_binary() {
        assert_eq!(ids_of(b"[1, 2,\n30]", 64), Ok(vec![1, 2, 30]));
        assert_eq!(ids_of(&[1, 0, 0, 1], 1000), Ok(vec![1, 256]));
        assert_eq!(ids_of(&[1, 0, 0, 0, 0, 0, 1, 0], 70_000), Ok(vec![1, 65_536]));
        let code = |bytes: &[u8], vocabulary| ids_of(bytes, vocabulary).map_err(|e| e.code());
        assert_eq!(code(b"1 64", 64), Err(Code::BadValue));
        assert_eq!(code(b"99999999999", 64), Err(Code::BadValue));
        assert_eq!(code(&[1, 0, 0], 64), Err(Code::BadValue));
        assert_eq!(code(b"-1 2 3 4", 32_000), Err(Code::BadValue), "no binary ids of printable characters");
        assert_eq!(ids_of(b"\xef\xbb\xbf1 2", 64), Ok(vec![1, 2]));
        assert_eq!(code(b" \n", 64), Err(Code::Empty));
        assert_eq!(code(b"", 64), Err(Code::Empty));
    }
}
