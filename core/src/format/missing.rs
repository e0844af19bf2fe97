//! Files that a checkpoint requires and that do not exist.

use crate::error::{Code, Error};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Missing files after which no further ones are looked for.
const MAX: usize = 1000;
/// Missing files that an error names.
const SHOWN: usize = 5;

/// The missing files of a set, in the order in which they were requested.
#[derive(Default)]
pub(crate) struct MissingFiles(Vec<String>);

impl MissingFiles {
    /// Adds a file; true if so many are missing that it is useless to look for more.
    pub(super) fn push(&mut self, name: String) -> bool {
        self.0.push(name);
        self.0.len() >= MAX
    }

    /// The error that names the missing files; `None` if there are none.
    pub(super) fn error(&self) -> Option<Error> {
        let first = self.0.first()?;
        let (n, names) = (self.0.len(), self.0.get(..SHOWN).unwrap_or(&self.0));
        let more = if n > names.len() { ", ..." } else { "" };
        let count = match n {
            1 => "1 of its files is".into(),
            MAX.. => format!("at least {n} of its files are"),
            n => format!("{n} of its files are"),
        };
        let message = format!("the model is incomplete: {count} missing: {}{more}", names.join(", "));
        Some(Error::new(Code::BadIndex, message).in_file(first))
    }
}
