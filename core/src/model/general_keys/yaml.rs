//! The YAML of model cards: block mappings and lists, flow lists and mappings of one line, plain and quoted scalars,
//! block scalars, comments. Anchors, aliases, tags and keys that are no text are refused.

use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::{Map, Value};

/// The deepest nesting.
const MAX_DEPTH: usize = 32;

/// A line that is neither empty nor a comment.
#[derive(Clone, Copy)]
struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

/// The value of a document; null if it is empty.
///
/// # Errors
///
/// [`Code::BadValue`] with the number of the line.
pub(super) fn parse(text: &str) -> Result<Value> {
    let raw: Vec<&str> = text.lines().collect();
    let mut parser = CardParser { raw: &raw, at: 0 };
    let value = match parser.peek() {
        None => Value::Null,
        Some(first) => parser.block(first.indent, 0)?,
    };
    match parser.peek() {
        None => Ok(value),
        Some(line) => Err(unknown(line.number, "the line belongs to nothing before it")),
    }
}

fn unknown(number: usize, what: &str) -> Error {
    // The line of the card: its first one is `---`.
    Error::new(Code::BadValue, format!("line {} of the model card: {what}", number + 2))
}

struct CardParser<'a> {
    raw: &'a [&'a str],
    at: usize,
}

impl<'a> CardParser<'a> {
    /// The next line with content.
    fn peek(&mut self) -> Option<Line<'a>> {
        loop {
            let line = self.raw.get(self.at)?;
            let text = line.trim_start_matches(' ');
            if !(text.trim().is_empty() || text.starts_with('#')) {
                return Some(Line {
                    number: self.at,
                    indent: line.len() - text.len(),
                    text: text.trim_end(),
                });
            }
            self.at += 1;
        }
    }

    /// A mapping, a list or a scalar whose lines have this indentation.
    fn block(&mut self, indent: usize, depth: usize) -> Result<Value> {
        let Some(line) = self.peek() else { return Ok(Value::Null) };
        if depth > MAX_DEPTH {
            return Err(unknown(line.number, "it is nested too deeply"));
        }
        if is_item(line.text) {
            return self.list(indent, depth);
        }
        if key_and_rest(line.text).is_some() {
            return self.mapping(indent, depth, None);
        }
        self.at += 1;
        scalar_or_flow(line.text, line.number)
    }

    fn list(&mut self, indent: usize, depth: usize) -> Result<Value> {
        let mut items = Vec::new();
        while let Some(line) = self.peek().filter(|l| l.indent == indent && is_item(l.text)) {
            let rest = line.text.get(1..).unwrap_or_default();
            let inner = rest.trim_start_matches(' ');
            let inner_indent = indent + 1 + (rest.len() - inner.len());
            self.at += 1;
            let content = without_comment(inner);
            items.push(if content.is_empty() {
                self.nested(indent + 1, depth)?
            } else if is_item(content) {
                return Err(unknown(line.number, "a list begins within an item"));
            } else if let Some(first) = key_and_rest(content) {
                self.mapping(inner_indent, depth + 1, Some((first, line.number)))?
            } else {
                self.value(content, indent + 1, line.number)?
            });
        }
        Ok(Value::Array(items))
    }

    /// A mapping; its first entry may stand in the line of a list's item.
    fn mapping(
        &mut self,
        indent: usize,
        depth: usize,
        first: Option<((String, &'a str), usize)>,
    ) -> Result<Value> {
        let mut members = Map::new();
        let mut next = first;
        loop {
            let ((key, rest), number) = match next.take() {
                Some(entry) => entry,
                None => {
                    let Some(line) = self.peek().filter(|l| l.indent == indent) else { break };
                    let Some(entry) = key_and_rest(line.text) else {
                        if is_item(line.text) {
                            break;
                        }
                        return Err(unknown(line.number, "a key and a colon are expected"));
                    };
                    self.at += 1;
                    (entry, line.number)
                }
            };
            let content = without_comment(rest);
            let value = if content.is_empty() {
                self.below_key(indent, depth)?
            } else {
                self.value(content, indent + 1, number)?
            };
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }

    /// The value of a key without one in its line: lists may have the indentation of the key.
    fn below_key(&mut self, indent: usize, depth: usize) -> Result<Value> {
        match self.peek() {
            Some(line) if line.indent == indent && is_item(line.text) => self.list(indent, depth + 1),
            _ => self.nested(indent + 1, depth),
        }
    }

    /// A block of at least this indentation, or null.
    fn nested(&mut self, indent: usize, depth: usize) -> Result<Value> {
        match self.peek() {
            Some(line) if line.indent >= indent => self.block(line.indent, depth + 1),
            _ => Ok(Value::Null),
        }
    }

    /// A value that begins in the line of its key; continued lines have at least this indentation.
    fn value(&mut self, content: &str, indent: usize, number: usize) -> Result<Value> {
        if let Some(style) = content.strip_prefix(['|', '>']) {
            return self.block_scalar(content.starts_with('>'), style, indent, number);
        }
        let mut text = content.to_string();
        while let Some(line) = self.peek().filter(|l| l.indent >= indent) {
            if !text.starts_with(['"', '\'', '[', '{']) && key_and_rest(line.text).is_some() {
                return Err(unknown(line.number, "a key stands within a value"));
            }
            text.push(' ');
            text.push_str(without_comment(line.text));
            self.at += 1;
        }
        scalar_or_flow(&text, number)
    }

    fn block_scalar(&mut self, folded: bool, style: &str, indent: usize, number: usize) -> Result<Value> {
        if !matches!(style, "" | "-" | "+") {
            return Err(unknown(number, "the indentation of a block of text is given by a number"));
        }
        let mut lines: Vec<&str> = Vec::new();
        let mut own = None;
        while let Some(line) = self.raw.get(self.at) {
            let text = line.trim_start_matches(' ');
            let depth = line.len() - text.len();
            if !text.is_empty() && depth < indent.max(own.unwrap_or(0)) {
                break;
            }
            if !text.is_empty() && own.is_none() {
                own = Some(depth);
            }
            lines.push(line.get(own.unwrap_or(depth)..).unwrap_or_default());
            self.at += 1;
        }
        while style != "+" && lines.last().is_some_and(|l| l.trim().is_empty()) {
            lines.pop();
        }
        let mut text = lines.join(if folded { " " } else { "\n" });
        if style != "-" && !text.is_empty() {
            text.push('\n');
        }
        Ok(Value::String(text))
    }
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

/// A text up to a comment, which stands outside of quotes behind a space.
fn without_comment(text: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match quote {
            Some(q) if c == q => quote = None,
            None if c == '#' && before == ' ' => return text.get(..at).unwrap_or(text).trim_end(),
            None if matches!(c, '"' | '\'') && matches!(before, ' ' | '[' | '{' | ',') => quote = Some(c),
            _ => {}
        }
        before = c;
    }
    text.trim_end()
}

/// The key of `key: value`, and the value.
fn key_and_rest(text: &str) -> Option<(String, &str)> {
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let inner = text.get(1..)?;
        let end = inner.find(quote)?;
        let rest = inner.get(end + 1..)?.strip_prefix(':')?;
        let separated = rest.is_empty() || rest.starts_with(' ');
        return separated.then(|| Some((inner.get(..end)?.to_string(), rest.trim_start())))?;
    }
    if text.starts_with(['[', '{', '|', '>', '&', '*', '!', '?', '%', '@', '`', '#']) {
        return None;
    }
    let at = text.find(": ").or_else(|| text.ends_with(':').then(|| text.len() - 1))?;
    let (key, rest) = (text.get(..at)?, text.get(at + 1..)?);
    Some((key.trim_end().to_string(), rest.trim_start()))
}

/// The value of a text that is complete.
fn scalar_or_flow(text: &str, number: usize) -> Result<Value> {
    let mut flow = Flow { rest: text.trim(), number };
    if text.starts_with(['[', '{', '"', '\'']) {
        let value = flow.value(0)?;
        return if flow.rest.trim().is_empty() {
            Ok(value)
        } else {
            Err(unknown(number, "text follows a value"))
        };
    }
    plain(text.trim(), number)
}

/// A plain scalar with the types of YAML 1.1.
fn plain(text: &str, number: usize) -> Result<Value> {
    if text.starts_with(['&', '*', '!', '%', '@', '`', '?']) {
        return Err(unknown(number, "anchors, aliases, tags and complex keys are not supported"));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => true.into(),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => false.into(),
        _ => number_or_text(text),
    })
}

fn number_or_text(text: &str) -> Value {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    if numeric && !leading_zero {
        if let Ok(n) = text.parse::<i64>() {
            return n.into();
        }
        // Without a point it is no float in YAML 1.1.
        if digits.contains('.')
            && let Ok(x) = text.parse::<f64>()
        {
            return x.into();
        }
    }
    text.into()
}

/// Values in brackets and quotes.
struct Flow<'a> {
    rest: &'a str,
    number: usize,
}

impl Flow<'_> {
    fn value(&mut self, depth: usize) -> Result<Value> {
        self.rest = self.rest.trim_start();
        if depth > MAX_DEPTH {
            return Err(unknown(self.number, "it is nested too deeply"));
        }
        match self.rest.chars().next() {
            Some('[') => self.sequence(depth),
            Some('{') => self.members(depth),
            Some(quote @ ('"' | '\'')) => self.quoted(quote).map(Value::String),
            _ => {
                let end = self.rest.find([',', ']', '}']).unwrap_or(self.rest.len());
                let (text, rest) = self.rest.split_at(end);
                self.rest = rest;
                plain(text.trim(), self.number)
            }
        }
    }

    fn take(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn sequence(&mut self, depth: usize) -> Result<Value> {
        let mut items = Vec::new();
        self.take('[');
        while !self.take(']') {
            items.push(self.value(depth + 1)?);
            if !self.take(',') && !self.rest.starts_with(']') {
                return Err(unknown(self.number, "a list in brackets has no end"));
            }
        }
        Ok(Value::Array(items))
    }

    fn members(&mut self, depth: usize) -> Result<Value> {
        let mut members = Map::new();
        self.take('{');
        while !self.take('}') {
            self.rest = self.rest.trim_start();
            let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\''));
            let key = match quote {
                Some(quote) => self.quoted(quote)?,
                None => {
                    let end = self.rest.find([':', ',', '}']).unwrap_or(self.rest.len());
                    let (key, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    key.trim().to_string()
                }
            };
            if !self.take(':') {
                return Err(unknown(self.number, "a mapping in braces lacks a colon"));
            }
            let value = self.value(depth + 1)?;
            members.insert(key, value);
            if !self.take(',') && !self.rest.starts_with('}') {
                return Err(unknown(self.number, "a mapping in braces has no end"));
            }
        }
        Ok(Value::Object(members))
    }

    fn quoted(&mut self, quote: char) -> Result<String> {
        let mut out = String::new();
        let mut chars = self.rest.char_indices();
        chars.next();
        while let Some((at, c)) = chars.next() {
            let after = self.rest.get(at + c.len_utf8()..).unwrap_or_default();
            if c == quote {
                if quote == '\'' && after.starts_with('\'') {
                    chars.next();
                    out.push('\'');
                    continue;
                }
                self.rest = after;
                return Ok(out);
            }
            if c == '\\' && quote == '"' {
                match chars.next().map(|(_, e)| e) {
                    Some('n') => out.push('\n'),
                    Some('t') => out.push('\t'),
                    Some(e @ ('"' | '\\' | '/')) => out.push(e),
                    _ => return Err(unknown(self.number, "an escape that is not supported")),
                }
                continue;
            }
            out.push(c);
        }
        Err(unknown(self.number, "a quote has no end"))
    }
}
