//! The metadata of a GGUF that is made of a Hugging Face checkpoint, in the order of llama.cpp's converter: architecture,
//! general keys, keys of the architecture, quantization version, tokenizer.
//!
//! Writing a key again keeps its first place and takes the new value. Empty texts and lists are not written.

use super::Contents;
use crate::error::Result;
use crate::plan::Warning;
use crate::plan::gguf_mapping::GgufMapping;
use crate::tensor::{MetaValue, Metadata};
use alloc::string::String;
use alloc::vec::Vec;

/// Keys with their values, in order.
type Keys = Vec<(String, MetaValue)>;

/// The metadata of the file, without the keys that only Quantoscope writes.
pub(super) fn metadata(
    contents: &Contents<'_>,
    mapping: &GgufMapping,
    warnings: &mut Vec<Warning>,
) -> Result<Metadata> {
    let mut keys = OrderedKeys::default();
    let architecture = mapping.arch.gguf.unwrap_or("unknown");
    keys.set("general.architecture".into(), MetaValue::String(architecture.into()));
    keys.extend(early_keys(contents, mapping)?);
    keys.extend(general_keys(contents, mapping)?);
    let own = architecture_keys(contents, mapping)?;
    let known = own.is_some();
    keys.extend(own.unwrap_or_default());
    if !known {
        keys.extend(super::file_type_key(contents));
    }
    keys.set("general.quantization_version".into(), MetaValue::U32(2));
    let tokenizer = tokenizer_keys(contents, mapping, warnings)?;
    if !known || tokenizer.is_none() {
        let message =
            "no keys of the architecture and no tokenizer are written: engines do not load this GGUF";
        warnings.push(Warning::new("not_runnable", message));
    }
    keys.extend(tokenizer.unwrap_or_default());
    Ok(Metadata(keys.0))
}

/// Keys that the converter writes while it converts tensors.
fn early_keys(_: &Contents<'_>, _: &GgufMapping) -> Result<Keys> {
    Ok(Keys::new())
}

/// `general.*` behind the architecture.
fn general_keys(_: &Contents<'_>, _: &GgufMapping) -> Result<Keys> {
    Ok(Keys::from([("general.type".into(), MetaValue::String("model".into()))]))
}

/// `<arch>.*`, with `general.file_type` in its place; `None` where the architecture's keys are not known.
fn architecture_keys(_: &Contents<'_>, _: &GgufMapping) -> Result<Option<Keys>> {
    Ok(None)
}

/// `tokenizer.*`; `None` where no tokenizer can be read.
fn tokenizer_keys(_: &Contents<'_>, _: &GgufMapping, _: &mut Vec<Warning>) -> Result<Option<Keys>> {
    Ok(None)
}

/// Keys in the order of their first values.
#[derive(Default)]
struct OrderedKeys(Keys);

impl OrderedKeys {
    fn set(&mut self, key: String, value: MetaValue) {
        let empty = match &value {
            MetaValue::String(text) => text.is_empty(),
            MetaValue::Array(array) => array.len == 0,
            _ => false,
        };
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            _ if empty => {}
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    fn extend(&mut self, keys: impl IntoIterator<Item = (String, MetaValue)>) {
        keys.into_iter().for_each(|(key, value)| self.set(key, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_written_twice_keeps_its_first_place_and_takes_the_last_value() {
        let mut keys = OrderedKeys::default();
        let text = |t: &str| MetaValue::String(t.into());
        for (key, value) in [("a", text("1")), ("b", text("2")), ("a", text("3")), ("c", text(""))] {
            keys.set(key.into(), value);
        }
        assert_eq!(keys.0, [("a".into(), text("3")), ("b".into(), text("2"))]);
    }
}
