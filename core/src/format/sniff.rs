//! Detection of a file's format by its first bytes and its name.

use super::header_buffer::ParseStop;
use super::reading::{FileRole, FileTask, Parser, check_text};
use super::{AprWriter, apr, gguf, q4, safetensors};
use crate::bytes::Cursor;
use crate::error::{Code, Error, Result};
use alloc::boxed::Box;
use alloc::string::ToString;

/// Detects the format by the first bytes. The extension decides only if they match no format, so that a
/// damaged file gets the error of its own parser.
pub(super) fn sniff(
    cursor: &Cursor<'_>,
    len: u64,
    name: &str,
    writer: Option<AprWriter>,
) -> Result<Parser, ParseStop> {
    let head = cursor.clone().take(len.min(9))?;
    let is = |extension: &str| name.ends_with(extension);
    if head.starts_with(&gguf::MAGIC) || (is(".gguf") && !safetensors::is_likely(head, len)) {
        return Ok(Parser::Gguf(Box::new(gguf::GgufReader::new(len))));
    }
    if apr::is_magic(head) || is(".apr") {
        return Ok(Parser::Apr(writer));
    }
    if q4::is_magic(head) || is(".q4") || is(".f16") {
        return Ok(Parser::Lattice);
    }
    if safetensors::is_likely(head, len) || is(".safetensors") {
        return Ok(Parser::Safetensors);
    }
    if matches!(head.trim_ascii_start().first(), Some(b'{' | b'[')) || is(".json") {
        let task = FileTask { name: name.to_string(), role: FileRole::Index };
        check_text(&task, len, &Parser::Text)?;
        return Ok(Parser::Text);
    }
    let message = "not a model file that can be read here (safetensors, GGUF, APR, lattice .q4)";
    Err(Error::new(Code::BadMagic, message).at(0).into())
}
