//! Tensors that a user includes or excludes by patterns of their names.

use super::pattern::Pattern;
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::model::arch::{self, Arch};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A selection of tensors by name; the default selects all of them.
#[derive(Clone, Debug, Default)]
pub struct TensorFilter {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

impl TensorFilter {
    /// Selects the tensors that any of `include` matches and none of `exclude`; without `include`, all that are
    /// not excluded.
    ///
    /// # Errors
    ///
    /// `usage` if a pattern is malformed.
    pub fn new(include: &[String], exclude: &[String]) -> Result<TensorFilter> {
        let compiled = |all: &[String]| all.iter().map(|p| Pattern::new(p)).collect::<Result<Vec<_>>>();
        Ok(TensorFilter { include: compiled(include)?, exclude: compiled(exclude)? })
    }

    /// Whether every tensor is selected because there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether tensors are selected by patterns to include.
    pub fn includes(&self) -> bool {
        !self.include.is_empty()
    }

    /// The selection in `checkpoint`, whose architecture relates Hugging Face names to GGUF names.
    pub fn in_checkpoint(&self, checkpoint: &Checkpoint) -> Selection<'_> {
        let arch = arch::of_model(&checkpoint.metadata, checkpoint.config.as_deref());
        Selection { filter: self, arch }
    }

    /// Refuses patterns that match no tensor of any of `checkpoints`, and a selection without tensors.
    ///
    /// # Errors
    ///
    /// `no_such_tensor`, with the first such pattern.
    pub fn check(&self, checkpoints: &[&Checkpoint]) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let selections: Vec<_> = checkpoints.iter().map(|c| (self.in_checkpoint(c), *c)).collect();
        let names =
            || selections.iter().flat_map(|(s, c)| c.tensors.iter().map(move |t| (s, t.name.as_str())));
        let found = |pattern: &Pattern| names().any(|(selection, name)| selection.matches(pattern, name));
        let unmatched = self.include.iter().chain(&self.exclude).find(|p| !found(p));
        let message = match unmatched {
            Some(pattern) => format!("no tensor matches the pattern {:?}", pattern.text()),
            None if names().any(|(selection, name)| selection.contains(name)) => return Ok(()),
            None => "every tensor is excluded".into(),
        };
        Err(Error::new(Code::NoSuchTensor, message))
    }
}

/// The tensors of one checkpoint that a [`TensorFilter`] selects.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    filter: &'a TensorFilter,
    arch: &'static Arch,
}

impl Selection<'_> {
    /// Whether the tensor called `name` is selected, by that name or by its name in GGUF.
    pub fn contains(&self, name: &str) -> bool {
        let TensorFilter { include, exclude } = self.filter;
        let any = |patterns: &[Pattern]| patterns.iter().any(|p| self.matches(p, name));
        (include.is_empty() || any(include)) && !any(exclude)
    }

    /// Whether a tensor is excluded by a pattern, and not merely not included.
    pub fn excludes(&self, name: &str) -> bool {
        self.filter.exclude.iter().any(|p| self.matches(p, name))
    }

    fn matches(&self, pattern: &Pattern, name: &str) -> bool {
        pattern.finds(name) || self.arch.gguf_name(name).is_some_and(|gguf| pattern.finds(&gguf.name))
    }
}
