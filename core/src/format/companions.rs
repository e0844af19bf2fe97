//! Files beside the weights of a model folder: configuration, tokenizer, model card. Knows no key of them.

use alloc::string::String;
use alloc::vec::Vec;

/// Files beside the weights of a model folder, by name.
#[derive(Clone, Debug, Default)]
pub struct Companions(pub Vec<(String, Vec<u8>)>);

impl Companions {
    /// The content of the file of this name (`additional_chat_templates/rag.jinja` for a file in a subfolder).
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, content)| content.as_slice())
    }
}
