//! A JSON file that goes with a model: its value, and the places that errors about it point to. Knows no key.

use crate::error::{Code, Error, Result};
use crate::format::json::{self, Located};
use alloc::string::String;
use serde_json::Value;

/// A parsed file and its text.
#[derive(Clone, Debug)]
pub struct JsonFile<'a> {
    name: &'static str,
    text: &'a [u8],
    /// All of it.
    pub value: Value,
}

impl<'a> JsonFile<'a> {
    /// Parses the file of this name.
    ///
    /// # Errors
    ///
    /// `bad_json`, `bad_utf8` or `too_deep`, at the byte where the text is wrong.
    pub fn parse(name: &'static str, text: &'a [u8]) -> Result<JsonFile<'a>> {
        let value = json::document(text, 0).and_then(Located::value).map_err(|e| e.in_file(name))?;
        Ok(JsonFile { name, text, value })
    }

    /// The byte offset of the value at the end of a path of keys, or of the innermost object on it that is there.
    pub fn offset(&self, path: &[&str]) -> u64 {
        // Parsed once, so that nothing here fails.
        let Ok(mut found) = json::document(self.text, 0) else { return 0 };
        found = found.trimmed();
        for key in path {
            let members = found.object().unwrap_or_default();
            // Of two values of one key, the last is the one that counts.
            let Some(member) = members.into_iter().rev().find(|m| m.key == *key) else { break };
            found = member.value;
        }
        found.at
    }

    /// An error that points to what [`offset`](JsonFile::offset) finds.
    pub fn error(&self, code: Code, path: &[&str], message: impl Into<String>) -> Error {
        Error::new(code, message).in_file(self.name).at(self.offset(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_values_or_of_the_object_without_them() {
        let text = br#" {"a": 1, "b": {"c": [2], "a": 3}, "a": 4}"#;
        let file = JsonFile::parse("config.json", text).expect("JSON");
        let at = |path: &[&str]| text.get(file.offset(path) as usize).copied();
        assert_eq!(at(&["a"]), Some(b'4'));
        assert_eq!(at(&["b", "c"]), Some(b'['));
        assert_eq!(at(&["b", "a"]), Some(b'3'));
        assert_eq!(file.offset(&["b", "d"]), 15);
        assert_eq!(file.offset(&["d"]), 1);
        assert_eq!(file.offset(&[]), 1);
        let error = file.error(Code::BadValue, &["a"], "wrong");
        assert_eq!((error.detail().file.as_deref(), error.detail().offset), (Some("config.json"), Some(40)));
    }

    #[test]
    fn texts_that_are_no_json_are_refused_where_they_go_wrong() {
        let deep = "[".repeat(100);
        for (text, code, at) in [
            (&b""[..], Code::BadJson, 0),
            (b"{", Code::BadJson, 1),
            (b"{\"a\" oops: 1}", Code::BadJson, 5),
            (b"{\"a\":\n NaN}", Code::BadJson, 7),
            (b"{\"a\": 1e999}", Code::BadJson, 10),
            (b"{\"a\": \"\xff\"}", Code::BadUtf8, 7),
            (deep.as_bytes(), Code::TooDeep, 64),
        ] {
            let error = JsonFile::parse("adapter_config.json", text).expect_err("no JSON");
            let d = error.detail();
            assert_eq!(
                (d.code, d.file.as_deref(), d.offset),
                (code, Some("adapter_config.json"), Some(at)),
                "{text:?}"
            );
        }
    }
}
