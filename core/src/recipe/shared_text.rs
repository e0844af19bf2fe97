//! A sentence about a tensor, which is that of many others too.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::ops::Deref;
use serde::{Serialize, Serializer};

/// Text whose copies share it.
#[derive(Clone)]
pub enum SharedText {
    /// Of the program.
    Fixed(&'static str),
    /// Made for some tensor.
    Made(Arc<str>),
}

impl SharedText {
    /// The same text, shared with `last` where that is equal; `last` becomes it. Tensors that follow each other are treated
    /// alike as a rule.
    #[must_use]
    pub fn shared(self, last: &mut SharedText) -> SharedText {
        if *self != **last {
            *last = self;
        }
        last.clone()
    }
}

impl Default for SharedText {
    fn default() -> SharedText {
        SharedText::Fixed("")
    }
}

impl From<&'static str> for SharedText {
    fn from(text: &'static str) -> SharedText {
        SharedText::Fixed(text)
    }
}

impl From<String> for SharedText {
    fn from(text: String) -> SharedText {
        SharedText::Made(text.into())
    }
}

impl Deref for SharedText {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            SharedText::Fixed(text) => text,
            SharedText::Made(text) => text,
        }
    }
}

impl PartialEq for SharedText {
    fn eq(&self, other: &SharedText) -> bool {
        **self == **other
    }
}

impl Eq for SharedText {}

impl fmt::Debug for SharedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl fmt::Display for SharedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Serialize for SharedText {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self)
    }
}
