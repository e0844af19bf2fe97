//! Special token ids and `add_*_token` flags, as gguf-py's `SpecialVocab` finds them.

use super::files::{TokenizerFiles, token_text};
use super::keys::KeyList;
use crate::error::{Code, Error, Result};
use crate::tensor::MetaValue;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::Value;

/// Special token ids and flags in the order in which they are found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Special {
    ids: Vec<(&'static str, u32)>,
    flags: Vec<(&'static str, bool)>,
    kinds: Vec<&'static str>,
    named: [Option<Value>; 4],
    /// Overrides of the configuration's `X_token`.
    texts: Vec<(&'static str, Option<Value>)>,
    configured: bool,
    /// The number of tokens, where ids are held against it.
    limit: Option<usize>,
}

const KINDS: [&str; 7] = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];
const BOS: usize = 0;
const CLS: usize = 1;
const EOS: usize = 2;
const SEP: usize = 3;

/// The key of an id, where GGUF has one.
fn id_key(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "bos" => "bos_token_id",
        "eos" => "eos_token_id",
        "unk" => "unknown_token_id",
        // The key is spelled like this.
        "sep" => "seperator_token_id",
        "pad" => "padding_token_id",
        "mask" => "mask_token_id",
        "eot" => "eot_token_id",
        "eom" => "eom_token_id",
        _ => return None,
    })
}

/// The value of a special id, for `KeyList::ggml`.
pub(super) fn set_id(keys: &mut KeyList, kind: &str, id: u32) {
    if let Some(key) = id_key(kind) {
        keys.ggml(key, MetaValue::U32(id));
    }
}

impl Special {
    /// Finds ids and flags. `config` is the `config.json` as it stands in the folder; ids from `limit` on are left out.
    ///
    /// # Errors
    /// `bad_value` if an id is negative or has more than 32 bits.
    pub(super) fn find(files: &TokenizerFiles<'_>, config: &Value, limit: Option<usize>) -> Result<Special> {
        let mut found = Special {
            kinds: KINDS.to_vec(),
            configured: files.config.is_some(),
            limit,
            ..Special::default()
        };
        if files.json.is_some() {
            found.processors(files);
        }
        found.configuration(files)?;
        found.config_json(config)?;
        Ok(found)
    }

    /// Takes an id unless this kind has one.
    ///
    /// # Errors
    /// `bad_value` if it is negative or has more than 32 bits.
    pub(super) fn set(&mut self, kind: &'static str, id: i64) -> Result<()> {
        let id = u32::try_from(id)
            .map_err(|_| Error::new(Code::BadValue, format!("{kind}_token_id is {id}: no token id")))?;
        let fits = self.limit.is_none_or(|limit| (id as usize) < limit);
        if fits && !self.ids.iter().any(|(k, _)| *k == kind) {
            self.ids.push((kind, id));
        }
        Ok(())
    }

    /// Writes ids and flags.
    pub(super) fn write(&self, keys: &mut KeyList) {
        for (kind, id) in &self.ids {
            set_id(keys, kind, *id);
        }
        for (kind, value) in &self.flags {
            if matches!(*kind, "bos" | "eos" | "sep") {
                keys.ggml(&format!("add_{kind}_token"), MetaValue::Bool(*value));
            }
        }
    }

    fn flag(&mut self, kind: &'static str, value: bool) {
        match self.flags.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, old)) => *old = value,
            None => self.flags.push((kind, value)),
        }
    }

    /// The token that the configuration, or a rule after it, gives to a role.
    fn name(&self, which: usize) -> Option<&Value> {
        self.named.get(which)?.as_ref()
    }

    fn is(&self, which: usize, text: &str) -> bool {
        self.name(which).and_then(Value::as_str) == Some(text)
    }

    /// Sets the token of a role, in the configuration too, where there is one.
    fn rename(&mut self, which: usize, kind: &'static str, to: Option<Value>) {
        if let Some(slot) = self.named.get_mut(which) {
            slot.clone_from(&to);
        }
        if self.configured {
            self.texts.push((kind, to));
        }
    }

    fn processors(&mut self, files: &TokenizerFiles<'_>) {
        let given = |key: &str| files.setting(key).filter(|v| truthy(v)).cloned();
        self.named = [given("bos_token"), given("cls_token"), given("eos_token"), given("sep_token")];
        for (to, kind, from) in [(BOS, "bos", CLS), (EOS, "eos", SEP)] {
            if self.name(to).is_none() && self.name(from).is_some() && self.configured {
                self.rename(to, kind, self.name(from).cloned());
            }
        }
        let Some(json) = &files.json else { return };
        let one = core::slice::from_ref(&json.post_processor);
        let several = json.post_processor.get("processors").and_then(Value::as_array);
        for processor in several.map_or(one, Vec::as_slice) {
            match processor.get("type").and_then(Value::as_str) {
                Some("RobertaProcessing") => self.roberta(processor),
                Some("TemplateProcessing") => self.template(processor),
                _ => {}
            }
        }
    }

    fn roberta(&mut self, processor: &Value) {
        for kind in ["bos", "eos", "sep"] {
            self.flag(kind, true);
        }
        for (to, kind, from) in [(CLS, "cls", BOS), (SEP, "sep", EOS)] {
            if self.name(to).is_none() && self.configured {
                let given = processor.get(kind).and_then(|v| v.get(0)).cloned();
                self.rename(to, kind, given.or_else(|| self.name(from).cloned()));
            }
        }
    }

    fn template(&mut self, processor: &Value) {
        let list = |key: &str| processor.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let (single, pair) = (list("single"), list("pair"));
        let (mut first, mut last) = (None, None);
        if single.len() > 1 {
            first = single.first().and_then(special_of);
            last = single.last().and_then(special_of);
        }
        if let Some(first) = first {
            self.leading(first);
        }
        if let Some(last) = last {
            self.trailing(last);
        }
        self.separator(pair, first, last);
    }

    fn leading(&mut self, first: &str) {
        let value = || Some(Value::String(first.to_owned()));
        if !self.configured {
            self.rename(BOS, "bos", value());
        } else if !self.is(BOS, first) && !self.is(CLS, first) {
            if self.name(BOS).is_none() {
                self.rename(BOS, "bos", value());
            } else if self.name(CLS).is_none() {
                self.rename(CLS, "cls", value());
            }
        }
        self.flag("bos", self.is(BOS, first) || self.is(CLS, first));
    }

    fn trailing(&mut self, last: &str) {
        let value = Some(Value::String(last.to_owned()));
        if self.configured && !self.is(EOS, last) {
            let old = self.name(EOS).cloned();
            for kind in ["eot", "eom"] {
                if !self.kinds.contains(&kind) {
                    self.kinds.push(kind);
                    self.texts.push((kind, old));
                    break;
                }
            }
        }
        self.rename(EOS, "eos", value);
        self.flag("eos", true);
    }

    fn separator(&mut self, pair: &[Value], first: Option<&str>, last: Option<&str>) {
        let is =
            |entry: Option<&Value>, text: Option<&str>| text.is_some() && entry.and_then(special_of) == text;
        let start = usize::from(is(pair.first(), first));
        let end = pair.len().saturating_sub(usize::from(is(pair.last(), last)));
        let Some([a, middle @ .., b]) = pair.get(start..end) else { return };
        let sequence = |v: &Value| v.get("Sequence").and_then(|s| s.get("id")).cloned();
        let wanted = |id: &str| Some(Value::String(id.to_owned()));
        if sequence(a) != wanted("A") || sequence(b) != wanted("B") || middle.is_empty() {
            return;
        }
        let separates = |entry: Option<&Value>| {
            entry.and_then(special_of).is_some_and(|t| self.is(SEP, t) || self.is(EOS, t))
        };
        let mut add = separates(middle.first()) && last.is_none();
        if middle.len() == 2 && separates(middle.get(1)) {
            add = true;
        }
        self.flag("sep", add);
        if add && self.name(SEP).is_none() && self.configured {
            self.texts.push(("sep", self.name(EOS).cloned()));
        }
    }

    fn configuration(&mut self, files: &TokenizerFiles<'_>) -> Result<()> {
        if !self.configured {
            return Ok(());
        }
        for kind in self.kinds.clone() {
            if let Some(value) = files.flag(&format!("add_{kind}_token")) {
                self.flag(kind, value);
            }
            let key: String = format!("{kind}_token");
            let renamed = self.texts.iter().rev().find(|(k, _)| *k == kind).map(|(_, v)| v.as_ref());
            let Some(text) = renamed.unwrap_or_else(|| files.setting(&key)).and_then(token_text) else {
                continue;
            };
            let added = files.json.as_ref().map_or(&[][..], |j| j.added_tokens.as_slice());
            if let Some(token) = added.iter().find(|t| t.content == text) {
                self.set(kind, token.id)?;
            }
        }
        Ok(())
    }

    fn config_json(&mut self, config: &Value) -> Result<()> {
        for kind in self.kinds.clone() {
            let key = format!("{kind}_token_id");
            let at = |of: &Value| of.get(&key).filter(|v| !v.is_null()).cloned();
            let value = at(config).or_else(|| config.get("text_config").and_then(at));
            if let Some(id) = value.as_ref().and_then(Value::as_i64) {
                self.set(kind, id).map_err(|e| e.in_file("config.json"))?;
            }
        }
        Ok(())
    }
}

fn special_of(entry: &Value) -> Option<&str> {
    entry.get("SpecialToken")?.get("id")?.as_str().filter(|id| !id.is_empty())
}

/// True unless Python takes the value for false.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}
