//! JSON values with their byte offsets in the file. Member order and duplicate keys are preserved.
//!
//! A thin layer over `serde_json`'s raw values. Callers check for duplicates, because only they know which
//! objects map names.

use super::limits::{MAX_AXES, MAX_ENTRIES, MAX_JSON_DEPTH};
use crate::error::{Code, Error, Result};
use crate::tensor::Shape;
use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// A JSON value and its position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located<'a> {
    /// Text of the value.
    text: &'a str,
    /// File offset of the first byte.
    pub at: u64,
}

/// A member of an object.
pub(crate) struct Member<'a> {
    /// The key, unescaped.
    pub key: Cow<'a, str>,
    /// File offset of the key.
    pub key_at: u64,
    /// The value.
    pub value: Located<'a>,
}

/// Parses `bytes`, which lie at file offset `at`, as one JSON value.
///
/// # Errors
///
/// - [`Code::BadUtf8`] for text that is not UTF-8.
/// - [`Code::TooDeep`] for nesting beyond [`MAX_JSON_DEPTH`].
/// - [`Code::BadJson`] for malformed JSON.
pub(crate) fn document(bytes: &[u8], at: u64) -> Result<Located<'_>> {
    let text = core::str::from_utf8(bytes).map_err(|e| {
        Error::new(Code::BadUtf8, "the JSON is not UTF-8").at(at.saturating_add(e.valid_up_to() as u64))
    })?;
    check_depth(bytes, at)?;
    let whole = Located { text, at };
    serde_json::from_str::<IgnoredAny>(text).map_err(|e| whole.bad(&e))?;
    Ok(whole)
}

/// Refuses nesting beyond [`MAX_JSON_DEPTH`] before the recursive parser runs.
fn check_depth(bytes: &[u8], at: u64) -> Result<()> {
    let (mut depth, mut quoted, mut escaped) = (0_u32, false, false);
    for (i, &b) in bytes.iter().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_JSON_DEPTH {
            let message = format!("JSON nested more than {MAX_JSON_DEPTH} deep");
            return Err(Error::new(Code::TooDeep, message).at(at.saturating_add(i as u64)));
        }
    }
    Ok(())
}

/// Refuses duplicate member names; the error has the position of the second one.
pub(crate) fn unique<'m>(members: &'m [Member<'_>]) -> Result<(), (&'m str, Error)> {
    check_unique(members.iter().map(|m| (&*m.key, m.key_at)))
}

/// Refuses duplicate keys, given with their positions.
fn check_unique<'m>(keys: impl Iterator<Item = (&'m str, u64)> + Clone) -> Result<(), (&'m str, Error)> {
    let names: Vec<&str> = keys.clone().map(|(key, _)| key).collect();
    let Some((key, at)) = first_repeated(&names).and_then(|duplicate| keys.clone().nth(duplicate)) else {
        return Ok(());
    };
    let message = format!("duplicate key {key:?} in one object");
    Err((key, Error::new(Code::DuplicateName, message).at(at)))
}

/// Index of the first item that equals an earlier one.
pub(crate) fn first_repeated<T: Ord>(items: &[T]) -> Option<usize> {
    let mut sorted: Vec<(&T, usize)> = items.iter().zip(0..).collect();
    sorted.sort_unstable();
    let pairs = sorted.iter().zip(sorted.iter().skip(1));
    pairs.filter(|((a, _), (b, _))| a == b).map(|(_, (_, duplicate))| *duplicate).min()
}

/// The keys of an object and their positions, in file order.
pub(crate) struct Keys<'a>(Vec<(Cow<'a, str>, u64)>);

impl Keys<'_> {
    /// Number of keys.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Refuses duplicate keys; the error has the position of the second one.
    pub(crate) fn unique(&self) -> Result<(), (&str, Error)> {
        check_unique(self.0.iter().map(|(key, at)| (&**key, *at)))
    }
}

impl<'a> Located<'a> {
    /// Members of an object.
    ///
    /// # Errors
    ///
    /// [`Code::BadJson`] if the value is not an object; [`Code::TooMany`] for more than [`MAX_ENTRIES`]
    /// members.
    pub(crate) fn object(self) -> Result<Vec<Member<'a>>> {
        let mut members = Vec::new();
        self.each(|member| {
            members.push(member);
            Ok(())
        })?;
        Ok(members)
    }

    /// Keys of an object of up to a million members, without keeping the values.
    pub(crate) fn keys(self) -> Result<Keys<'a>> {
        let mut keys = Vec::new();
        self.each(|member| {
            keys.push((member.key, member.key_at));
            Ok(())
        })?;
        Ok(Keys(keys))
    }

    /// Calls `take` with every member of an object in file order, until it fails. Members are not kept.
    pub(crate) fn each(self, take: impl FnMut(Member<'a>) -> Result<()>) -> Result<()> {
        self.starts("an object", b'{')?;
        let mut visitor = EachMember { object: self, take, failed: None };
        let outcome = (&mut visitor).deserialize(&mut serde_json::Deserializer::from_str(self.text));
        match visitor.failed {
            Some(error) => Err(error),
            None => outcome.map_err(|e| self.bad(&e)),
        }
    }

    /// A member with the positions of key and value.
    fn member(self, key: &'a RawValue, value: &'a RawValue) -> Result<Member<'a>> {
        let key = self.inner(key);
        Ok(Member { key: key.string()?, key_at: key.at, value: self.inner(value) })
    }

    /// Elements of an array.
    ///
    /// # Errors
    ///
    /// [`Code::BadJson`] if the value is not an array; [`Code::TooMany`] for more than [`MAX_ENTRIES`]
    /// elements.
    pub(crate) fn array(self) -> Result<Vec<Located<'a>>> {
        let elements: Elements<'a> = self.parse("an array", b'[')?;
        Ok(elements.0.into_iter().map(|e| self.inner(e)).collect())
    }

    /// The value without surrounding whitespace.
    pub(crate) fn trimmed(self) -> Located<'a> {
        let text = self.text.trim_ascii_start();
        let blanks = (self.text.len() - text.len()) as u64;
        Located { text: text.trim_ascii_end(), at: self.at.saturating_add(blanks) }
    }

    /// The whole value as a `serde_json` value, without positions.
    pub(crate) fn value(self) -> Result<Value> {
        serde_json::from_str(self.text).map_err(|e| self.bad(&e))
    }

    /// The text of a string.
    ///
    /// # Errors
    ///
    /// [`Code::BadJson`] if the value is not a string.
    pub(crate) fn string(self) -> Result<Cow<'a, str>> {
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        self.starts("a string", b'"')?;
        serde_json::from_str(self.text).map(|Text(s)| s).map_err(|e| self.bad(&e))
    }

    /// A non-negative integer without sign, point and exponent.
    ///
    /// # Errors
    ///
    /// [`Code::BadJson`] for other values, [`Code::Overflow`] for numbers beyond 64 bits.
    pub(crate) fn u64(self) -> Result<u64> {
        if self.text.is_empty() || !self.text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(self.error(Code::BadJson, "expected a non-negative integer"));
        }
        self.text.parse().map_err(|_| self.error(Code::Overflow, "the number does not fit 64 bits"))
    }

    /// A tensor shape: an array of axis lengths, outermost first.
    ///
    /// # Errors
    ///
    /// [`Code::TooManyAxes`] for more than [`MAX_AXES`] axes, [`Code::Overflow`] for more than 2^64 elements.
    pub(crate) fn shape(self) -> Result<Shape> {
        let axes = self.array()?;
        if axes.len() as u64 > MAX_AXES {
            let message = format!("{} axes; at most {MAX_AXES} are supported", axes.len());
            return Err(self.error(Code::TooManyAxes, &message));
        }
        let axes = axes.into_iter().map(Located::u64).collect::<Result<Vec<u64>>>()?;
        Shape::new(axes)
            .ok_or_else(|| self.error(Code::Overflow, "the product of the axes does not fit 64 bits"))
    }

    /// `true` or `false`.
    ///
    /// # Errors
    ///
    /// [`Code::BadJson`] for other values.
    pub(crate) fn bool(self) -> Result<bool> {
        match self.text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.error(Code::BadJson, "expected true or false")),
        }
    }

    /// True for an array.
    pub(crate) fn is_array(self) -> bool {
        self.text.trim_ascii_start().starts_with('[')
    }

    /// True for `null`.
    pub(crate) fn is_null(self) -> bool {
        self.text == "null"
    }

    /// An error at the position of the value.
    pub(crate) fn error(self, code: Code, message: &str) -> Error {
        Error::new(code, message).at(self.at)
    }

    /// Refuses values that do not start with the character `with`.
    fn starts(self, what: &str, with: u8) -> Result<()> {
        if self.text.trim_ascii_start().as_bytes().first() == Some(&with) {
            return Ok(());
        }
        Err(self.error(Code::BadJson, &format!("expected {what}")))
    }

    /// Deserializes a value that starts with the character `with`.
    fn parse<T: Deserialize<'a>>(self, what: &str, with: u8) -> Result<T> {
        self.starts(what, with)?;
        serde_json::from_str(self.text).map_err(|e| self.bad(&e))
    }

    /// Locates a raw value, which borrows from the text: the difference of the pointers is its offset.
    fn inner(self, raw: &'a RawValue) -> Located<'a> {
        let text = raw.get();
        let distance = (text.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        Located { text, at: self.at.saturating_add(distance as u64) }
    }

    /// Converts an error of `serde_json`, with its position in the file.
    fn bad(self, e: &serde_json::Error) -> Error {
        // Lines count from 1; columns count bytes from 1. At the end of the text the column is that of the
        // last byte.
        let lines = self.text.split_inclusive('\n').take(e.line().saturating_sub(1));
        let place = lines.map(str::len).sum::<usize>() + e.column().saturating_sub(1);
        let offset = if e.is_eof() { self.text.len() } else { place };
        let code = if e.is_data() { Code::TooMany } else { Code::BadJson };
        Error::new(code, format!("{e}")).at(self.at.saturating_add(offset as u64))
    }
}

/// Visitor that passes members to `take`, at most [`MAX_ENTRIES`].
struct EachMember<'a, F> {
    object: Located<'a>,
    take: F,
    failed: Option<Error>,
}

impl<'a, F: FnMut(Member<'a>) -> Result<()>> DeserializeSeed<'a> for &mut EachMember<'a, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'a, F: FnMut(Member<'a>) -> Result<()>> Visitor<'a> for &mut EachMember<'a, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let mut count = 0;
        while let Some((key, value)) = map.next_entry()? {
            limit(&mut count)?;
            if let Err(error) = self.object.member(key, value).and_then(&mut self.take) {
                self.failed = Some(error);
                return Err(A::Error::custom("invalid member"));
            }
        }
        Ok(())
    }
}

/// Counts an entry; fails after [`MAX_ENTRIES`].
fn limit<E: serde::de::Error>(count: &mut u64) -> Result<(), E> {
    if *count >= MAX_ENTRIES {
        return Err(E::custom(format_args!("more than {MAX_ENTRIES} entries")));
    }
    *count += 1;
    Ok(())
}

/// Raw elements of an array, at most [`MAX_ENTRIES`].
struct Elements<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_seq(ElementsVisitor(PhantomData)).map(Elements)
    }
}

struct ElementsVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for ElementsVisitor<'a> {
    type Value = Vec<&'a RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (mut items, mut count) = (Vec::new(), 0);
        while let Some(element) = seq.next_element()? {
            limit(&mut count)?;
            items.push(element);
        }
        Ok(items)
    }
}
