//! A file that an opening reads: its purpose, its parser, and its limits.

use super::header_buffer::{HeaderBuffer, ParseStep};
use super::sniff::sniff;
use super::{AprWriter, Container, apr, discover, foreign, gguf, limits, q4, safetensors};
use crate::bytes::Cursor;
use crate::error::{Code, Error, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

/// A file to read and its purpose.
#[derive(Clone)]
pub(super) struct FileTask {
    pub(super) name: String,
    pub(super) role: FileRole,
}

/// Purpose of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FileRole {
    /// The file that the user named; its format is detected.
    Any,
    /// A weight file of a set with a known container.
    Part(Container),
    /// An index of safetensors shards or of a lattice directory.
    Index,
    /// The index that a set of safetensors shards usually has.
    OptionalIndex,
    /// `config.json`.
    Config,
    /// Another file beside the weights, kept as it is.
    Companion,
}

/// A file that is being read.
pub(super) struct Reading {
    pub(super) buffer: HeaderBuffer,
    pub(super) role: FileRole,
    pub(super) parser: Parser,
}

/// Parser of a file.
pub(super) enum Parser {
    /// Format unknown until the first bytes are read.
    Sniff(Option<AprWriter>),
    Safetensors,
    Gguf(Box<gguf::GgufReader>),
    Lattice,
    Apr(Option<AprWriter>),
    /// Reads a whole file, for JSON.
    Text,
}

impl Reading {
    /// Runs the parser; `None` if it requires more bytes.
    pub(super) fn step(&mut self) -> Result<Option<ParseStep>> {
        let Reading { buffer, role, parser } = self;
        let (len, name) = (buffer.len, buffer.name.clone());
        let checked =
            !matches!(role, FileRole::Config | FileRole::Companion) && !matches!(parser, Parser::Lattice);
        let mut step = |cursor: &mut Cursor<'_>| {
            if checked && cursor.offset() == 0 {
                let head = cursor.clone().take(len.min(foreign::HEAD))?;
                // The length of a safetensors header can be the magic of anything.
                if !safetensors::is_likely(head, len) {
                    foreign::check(head)?;
                }
            }
            if let Parser::Sniff(writer) = *parser {
                *parser = sniff(cursor, len, &name, writer)?;
            }
            match parser {
                Parser::Gguf(reader) => reader.step(cursor),
                Parser::Lattice => q4::read(cursor, len, &name),
                Parser::Apr(writer) => apr::read(cursor, len, *writer),
                Parser::Text => Ok(ParseStep::Text(cursor.take(len)?.to_vec())),
                Parser::Safetensors | Parser::Sniff(_) => safetensors::read(cursor, len),
            }
        };
        buffer.parse(&mut step)
    }
}

/// Refuses a JSON file above its size limit before it is read.
pub(super) fn check_text(task: &FileTask, len: u64, parser: &Parser) -> Result<()> {
    let max = match task.role {
        FileRole::Config => limits::MAX_CONFIG,
        FileRole::Companion => limits::MAX_COMPANIONS,
        _ if task.name == discover::Q4_INDEX => limits::MAX_Q4_INDEX,
        _ => limits::MAX_INDEX,
    };
    if matches!(parser, Parser::Text) && len > max {
        let message = format!("the file has {len} bytes; at most {max} are supported");
        return Err(Error::new(Code::HeaderTooLarge, message).at(max).in_file(&task.name));
    }
    Ok(())
}
