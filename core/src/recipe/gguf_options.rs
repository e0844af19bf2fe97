//! Options that only a GGUF has: its metadata, and which tensors of a Hugging Face checkpoint it holds.

use super::key_value::KeyValue;
use crate::error::{Code, Error, Result};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The options of a GGUF. The names are those of llama.cpp's converter and of llama-quantize.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GgufOptions {
    /// Whether only the metadata is written, tokenizer included.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub vocab_only: bool,
    /// Whether the layers of a multi-token predictor (MTP, NextN) are left out.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub no_mtp: bool,
    /// Whether query, key and value projections become one tensor.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub fuse_qkv: bool,
    /// Whether the gate and up projections of experts become one tensor.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub fuse_gate_up_exps: bool,
    /// `general.name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    /// The JSON text of an object of `general.*` keys, which override those of the model card and the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// Keys that override all others, each as `KEY=TYPE:VALUE`: see [`KeyValue`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub override_kv: Vec<String>,
    /// Whether the metadata of a GGUF source stays as it is, but for the keys of a split, and no key of Quantoscope is
    /// added.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub verbatim: bool,
}

impl GgufOptions {
    /// Whether every option has its default.
    pub fn is_default(&self) -> bool {
        *self == GgufOptions::default()
    }

    /// Whether an option needs the tensors of a Hugging Face checkpoint under their GGUF names.
    pub fn needs_mapping(&self) -> Option<&'static str> {
        match () {
            () if self.no_mtp => Some("--no-mtp"),
            () if self.fuse_qkv => Some("--fuse-qkv"),
            () if self.fuse_gate_up_exps => Some("--fuse-gate-up-exps"),
            () if self.metadata.is_some() => Some("--metadata"),
            () if self.model_name.is_some() => Some("--model-name"),
            () => None,
        }
    }

    /// The file of metadata, parsed.
    ///
    /// # Errors
    ///
    /// `bad_json` if it is not JSON, `bad_value` if it is not an object.
    pub fn metadata_override(&self) -> Result<Option<Value>> {
        let Some(text) = &self.metadata else { return Ok(None) };
        let parsed: Value = serde_json::from_str(text).map_err(|e| {
            Error::new(Code::BadJson, alloc::format!("the file of metadata is not JSON: {e}"))
        })?;
        if !parsed.is_object() {
            return Err(Error::new(Code::BadValue, "the file of metadata is not a JSON object"));
        }
        Ok(Some(parsed))
    }

    /// The keys of `override_kv`, parsed.
    ///
    /// # Errors
    ///
    /// `usage` as [`KeyValue::parse`].
    pub fn overridden(&self) -> Result<Vec<KeyValue>> {
        self.override_kv.iter().map(|text| KeyValue::parse(text)).collect()
    }
}
