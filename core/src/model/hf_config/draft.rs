//! A configuration in the making.

use super::{Candidate, GgufFacts, classes};
use crate::model::arch::module::Module;
use crate::model::config::hyperparameters::class_has;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::{Map, Value};

/// Names that most configurations have.
const USUAL: &[&str] =
    &["max_position_embeddings", "intermediate_size", "hidden_size", "num_attention_heads"];

/// A configuration in the making.
pub(super) struct Draft<'a> {
    pub(super) candidate: Candidate,
    pub(super) facts: &'a GgufFacts<'a>,
    modules: BTreeSet<Module>,
    values: Map<String, Value>,
    /// Names that stay absent.
    skipped: Vec<&'static str>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(candidate: Candidate, facts: &'a GgufFacts<'a>) -> Draft<'a> {
        let ids = facts.tensors.iter().filter_map(|t| candidate.arch.parse_gguf(&t.name));
        let modules = ids.map(|id| id.module).collect();
        Draft { candidate, facts, modules, values: Map::new(), skipped: Vec::new() }
    }

    /// Whether the file has a tensor of a module.
    pub(super) fn has_module(&self, module: Module) -> bool {
        self.modules.contains(&module)
    }

    /// Whether the file has a tensor with this end of its name.
    pub(super) fn has_tensor(&self, end: &str) -> bool {
        self.facts.tensors.iter().any(|t| t.name.ends_with(end))
    }

    /// Rows of the tensor `name`.
    pub(super) fn rows(&self, name: &str) -> Option<u64> {
        let tensor = self.facts.tensors.iter().find(|t| t.name == name)?;
        tensor.shape.axes().first().copied()
    }

    /// Whether the configuration class has a key.
    pub(super) fn knows(&self, name: &str) -> bool {
        let model_type = self.candidate.model_type;
        class_has(model_type, name) || classes::further_names(model_type).contains(&name)
    }

    /// The one of `names` that the configuration class has, else a usual one, else the first.
    pub(super) fn pick<'n>(&self, names: &[&'n str]) -> &'n str {
        let known = names.iter().find(|n| self.knows(n));
        let usual = || names.iter().find(|n| USUAL.contains(n));
        known.or_else(usual).or(names.first()).copied().unwrap_or_default()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Leaves out a key, whatever sets it later.
    pub(super) fn skip(&mut self, name: &'static str) {
        self.skipped.push(name);
    }

    /// Sets a key unless it is set, or left out.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        if !self.skipped.contains(&name) && !self.has(name) {
            self.values.insert(name.to_string(), value.into());
        }
    }

    /// Sets a key if there is a value.
    pub(super) fn set_some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    pub(super) fn force(&mut self, name: &str, value: Value) {
        self.values.insert(name.to_string(), value);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.values.remove(name);
    }

    pub(super) fn value(&self) -> Value {
        Value::Object(self.values.clone())
    }
}
