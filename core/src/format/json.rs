//! JSON whose every part knows its byte offset in the file: order, duplicates and places survive.
//!
//! A thin view over `serde_json`'s raw values. Knows nothing of what the JSON is about; the caller looks for
//! duplicates, because only it knows which objects have names.

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

/// One JSON value and where it starts in its file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located<'a> {
    text: &'a str,
    /// File offset of its first byte.
    pub at: u64,
}

/// A member of an object, in file order.
pub(crate) struct Member<'a> {
    pub key: Cow<'a, str>,
    pub key_at: u64,
    pub value: Located<'a>,
}

/// The value that fills `bytes`, which lie at file offset `at`. Well-formed as a whole, and nowhere too deep.
pub(crate) fn document(bytes: &[u8], at: u64) -> Result<Located<'_>> {
    let text = core::str::from_utf8(bytes).map_err(|e| {
        Error::new(Code::BadUtf8, "the JSON is not UTF-8").at(at.saturating_add(e.valid_up_to() as u64))
    })?;
    check_depth(bytes, at)?;
    let whole = Located { text, at };
    serde_json::from_str::<IgnoredAny>(text).map_err(|e| whole.bad(&e))?;
    Ok(whole)
}

/// Refuses nesting that is deeper than we follow, before any recursive parser sees it.
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
            let words = format!("JSON nested more than {MAX_JSON_DEPTH} deep");
            return Err(Error::new(Code::TooDeep, words).at(at.saturating_add(i as u64)));
        }
    }
    Ok(())
}

/// Finds the first name that stands twice in an object; the error points to its second place.
pub(crate) fn unique<'m>(members: &'m [Member<'_>]) -> Result<(), (&'m str, Error)> {
    once(members.iter().map(|m| (&*m.key, m.key_at)))
}

fn once<'m>(keys: impl Iterator<Item = (&'m str, u64)> + Clone) -> Result<(), (&'m str, Error)> {
    let names: Vec<&str> = keys.clone().map(|(key, _)| key).collect();
    let Some((key, at)) = first_repeated(&names).and_then(|twice| keys.clone().nth(twice)) else {
        return Ok(());
    };
    let words = format!("{key:?} stands twice in one object");
    Err((key, Error::new(Code::DuplicateName, words).at(at)))
}

/// The index of the first of `items` that an earlier one is equal to.
pub(crate) fn first_repeated<T: Ord>(items: &[T]) -> Option<usize> {
    let mut sorted: Vec<(&T, usize)> = items.iter().zip(0..).collect();
    sorted.sort_unstable();
    let pairs = sorted.iter().zip(sorted.iter().skip(1));
    pairs.filter(|((a, _), (b, _))| a == b).map(|(_, (_, twice))| *twice).min()
}

/// The keys of an object and their places, in file order.
pub(crate) struct Keys<'a>(Vec<(Cow<'a, str>, u64)>);

impl Keys<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Finds the first that stands twice; the error points to its second place.
    pub fn unique(&self) -> Result<(), (&str, Error)> {
        once(self.0.iter().map(|(key, at)| (&**key, *at)))
    }
}

impl<'a> Located<'a> {
    /// The members of an object.
    pub fn object(self) -> Result<Vec<Member<'a>>> {
        let mut members = Vec::new();
        self.each(|member| {
            members.push(member);
            Ok(())
        })?;
        Ok(members)
    }

    /// The keys of an object, of which there could be a million.
    pub fn keys(self) -> Result<Keys<'a>> {
        let mut keys = Vec::new();
        self.each(|member| {
            keys.push((member.key, member.key_at));
            Ok(())
        })?;
        Ok(Keys(keys))
    }

    /// Hands every member of an object to `take`, in file order, until that fails. None of them is kept.
    pub fn each(self, take: impl FnMut(Member<'a>) -> Result<()>) -> Result<()> {
        self.starts("an object", b'{')?;
        let mut each = EachMember { whole: self, take, failed: None };
        let outcome = (&mut each).deserialize(&mut serde_json::Deserializer::from_str(self.text));
        match each.failed {
            Some(error) => Err(error),
            None => outcome.map_err(|e| self.bad(&e)),
        }
    }

    fn member(self, key: &'a RawValue, value: &'a RawValue) -> Result<Member<'a>> {
        let key = self.inner(key);
        Ok(Member { key: key.string()?, key_at: key.at, value: self.inner(value) })
    }

    /// The elements of an array.
    pub fn array(self) -> Result<Vec<Located<'a>>> {
        let elements: Elements<'a> = self.parse("an array", b'[')?;
        Ok(elements.0.into_iter().map(|e| self.inner(e)).collect())
    }

    /// Without the blanks around it.
    pub fn trimmed(self) -> Located<'a> {
        let text = self.text.trim_ascii_start();
        let blanks = (self.text.len() - text.len()) as u64;
        Located { text: text.trim_ascii_end(), at: self.at.saturating_add(blanks) }
    }

    /// All of it, without places.
    pub fn value(self) -> Result<Value> {
        serde_json::from_str(self.text).map_err(|e| self.bad(&e))
    }

    /// The text of a string.
    pub fn string(self) -> Result<Cow<'a, str>> {
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        self.starts("a string", b'"')?;
        serde_json::from_str(self.text).map(|Text(s)| s).map_err(|e| self.bad(&e))
    }

    /// A number without sign, point and exponent.
    pub fn u64(self) -> Result<u64> {
        if self.text.is_empty() || !self.text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(self.error(Code::BadJson, "expected a non-negative integer"));
        }
        self.text.parse().map_err(|_| self.error(Code::Overflow, "the number does not fit 64 bits"))
    }

    /// An array of axes, outermost first.
    pub fn shape(self) -> Result<Shape> {
        let axes = self.array()?;
        if axes.len() as u64 > MAX_AXES {
            let words = format!("{} axes, at most {MAX_AXES} are read", axes.len());
            return Err(self.error(Code::TooManyAxes, &words));
        }
        let axes = axes.into_iter().map(Located::u64).collect::<Result<Vec<u64>>>()?;
        Shape::new(axes)
            .ok_or_else(|| self.error(Code::Overflow, "the product of the axes does not fit 64 bits"))
    }

    /// `true` or `false`.
    pub fn bool(self) -> Result<bool> {
        match self.text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.error(Code::BadJson, "expected true or false")),
        }
    }

    /// Whether it is an array.
    pub fn is_array(self) -> bool {
        self.text.trim_ascii_start().starts_with('[')
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.text == "null"
    }

    /// An error that points here.
    pub fn error(self, code: Code, words: &str) -> Error {
        Error::new(code, words).at(self.at)
    }

    fn starts(self, what: &str, with: u8) -> Result<()> {
        if self.text.trim_ascii_start().as_bytes().first() == Some(&with) {
            return Ok(());
        }
        Err(self.error(Code::BadJson, &format!("expected {what}")))
    }

    fn parse<T: Deserialize<'a>>(self, what: &str, with: u8) -> Result<T> {
        self.starts(what, with)?;
        serde_json::from_str(self.text).map_err(|e| self.bad(&e))
    }

    /// A raw value borrows from our text, so the distance of the two is its offset.
    fn inner(self, raw: &'a RawValue) -> Located<'a> {
        let text = raw.get();
        let distance = (text.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        Located { text, at: self.at.saturating_add(distance as u64) }
    }

    fn bad(self, e: &serde_json::Error) -> Error {
        // Lines are counted from 1, columns in bytes from 1; at the end of the text it is the last byte's column.
        let lines = self.text.split_inclusive('\n').take(e.line().saturating_sub(1));
        let place = lines.map(str::len).sum::<usize>() + e.column().saturating_sub(1);
        let offset = if e.is_eof() { self.text.len() } else { place };
        let code = if e.is_data() { Code::TooMany } else { Code::BadJson };
        Error::new(code, format!("{e}")).at(self.at.saturating_add(offset as u64))
    }
}

/// Members go to `take`, at most [`MAX_ENTRIES`] of them: a flood ends before it fills the memory.
struct EachMember<'a, F> {
    whole: Located<'a>,
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
            if let Err(error) = self.whole.member(key, value).and_then(&mut self.take) {
                self.failed = Some(error);
                return Err(A::Error::custom("a member is wrong"));
            }
        }
        Ok(())
    }
}

/// Counts an entry, unless there are too many.
fn limit<E: serde::de::Error>(count: &mut u64) -> Result<(), E> {
    if *count >= MAX_ENTRIES {
        return Err(E::custom(format_args!("more than {MAX_ENTRIES} entries")));
    }
    *count += 1;
    Ok(())
}

/// Elements in order, no more than members.
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
