//! A sentence about a tensor, which is that of many others too.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::ops::Deref;
use serde::{Serialize, Serializer};

/// Text whose copies share it.
#[derive(Clone)]
pub enum Text {
    /// Of the program.
    Fixed(&'static str),
    /// Made for some tensor.
    Made(Arc<str>),
}

impl Text {
    /// The same text, shared with `last` where that is equal; `last` becomes it. Tensors that follow each other are treated
    /// alike as a rule.
    #[must_use]
    pub fn shared(self, last: &mut Text) -> Text {
        if *self != **last {
            *last = self;
        }
        last.clone()
    }
}

impl Default for Text {
    fn default() -> Text {
        Text::Fixed("")
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Text {
        Text::Fixed(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text::Made(text.into())
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Fixed(text) => text,
            Text::Made(text) => text,
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self)
    }
}
