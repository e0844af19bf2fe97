//! Files beside the weights of a model folder that a conversion reads: tokenizer, templates, model card. Knows their names, not
//! their content.

use super::Checkpoint;
use alloc::string::String;
use alloc::vec::Vec;

/// Files beside the weights of a model folder, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Companions(pub Vec<(String, Vec<u8>)>);

impl Companions {
    /// The content of the file `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, bytes)| bytes.as_slice())
    }

    /// The files and their content.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }
}

/// The list of a sentence-transformers model's parts, which names the folder of its pooling.
pub(crate) const MODULES: &str = "modules.json";

/// The files that a conversion reads where a folder has them.
pub(crate) const NAMES: &[&str] = &[
    "params.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "README.md",
    MODULES,
];

/// Files that hold a tokenizer, or its vocabulary.
const TOKENIZERS: &[&str] = &[
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "tekken.json",
];

/// Whether a tokenizer was read beside the weights.
pub(crate) fn has_tokenizer(checkpoint: &Checkpoint) -> bool {
    checkpoint.companion_files.iter().any(|(name, _)| TOKENIZERS.contains(&name))
}

/// Folder of further chat templates.
const TEMPLATES: &str = "additional_chat_templates/";

/// Whether a listed file is a further chat template.
pub(crate) fn is_template(name: &str) -> bool {
    name.strip_prefix(TEMPLATES).is_some_and(|rest| rest.ends_with(".jinja") && !rest.contains('/'))
}

/// The configuration files of the modules that `modules.json` lists: those of poolings.
pub(crate) fn pooling_configs(modules: &[u8]) -> Vec<String> {
    let Ok(serde_json::Value::Array(all)) = serde_json::from_slice(modules) else { return Vec::new() };
    let text = |v: &serde_json::Value, key: &str| v.get(key).and_then(|t| t.as_str().map(String::from));
    let pooling = all.iter().filter(|m| text(m, "type").is_some_and(|t| t.ends_with("Pooling")));
    let inside = |path: &String| {
        let part = |p: &str| !p.is_empty() && p != "." && p != ".." && !p.contains(['\\', ':', '\0']);
        path.split('/').all(part)
    };
    let paths = pooling.filter_map(|m| text(m, "path")).filter(inside);
    paths.map(|path| alloc::format!("{path}/config.json")).take(4).collect()
}
