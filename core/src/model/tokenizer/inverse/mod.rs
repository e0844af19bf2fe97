//! Tokenizer files of a Hugging Face folder from the `tokenizer.*` keys of a GGUF: the inverse of this module's keys.
//!
//! Byte-level BPE, Unigram and WordPiece become `tokenizer.json`; SentencePiece models become `tokenizer.model`. Roles of
//! tokens and chat templates stand in `tokenizer_config.json`.

mod configuration;
mod json;
mod protobuf;
mod scored;

use super::TokenizerRules;
use super::list::looks_special;
use super::rules::TokenizerLayout;
use super::sentencepiece::piece;
use crate::error::{Code, Error, Result};
use crate::model::arch::Arch;
use crate::model::hf_config::{counts, reals, texts};
use crate::tensor::{MetaArray, MetaValue, Metadata};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A file of the folder.
pub type NamedFile = (String, Vec<u8>);

/// One token of the GGUF.
#[derive(Clone, Copy, Debug)]
struct GgufToken<'a> {
    text: &'a str,
    score: f32,
    kind: i32,
}

impl GgufToken<'_> {
    fn is_added(&self) -> bool {
        matches!(self.kind, piece::CONTROL | piece::USER_DEFINED)
    }

    /// Whether it is padding of id `id`, which the converter adds. XLM-RoBERTa's ids are moved by one after it.
    fn is_padding(&self, id: usize) -> bool {
        let text = self.text.trim_start_matches('\u{2581}');
        let number = text.strip_prefix("[PAD").and_then(|t| t.strip_suffix(']')).and_then(|n| n.parse().ok());
        self.kind == piece::UNUSED && number.is_some_and(|n: usize| n == id || n.checked_add(1) == Some(id))
    }
}

/// The tokenizer of a GGUF.
struct Tokenizer<'a> {
    metadata: &'a Metadata,
    rules: TokenizerRules,
    /// `tokenizer.ggml.model`.
    model: &'a str,
    tokens: Vec<GgufToken<'a>>,
}

impl<'a> Tokenizer<'a> {
    fn read(metadata: &'a Metadata, arch: &Arch) -> Result<Option<Tokenizer<'a>>> {
        let Some(model) = metadata.text("tokenizer.ggml.model") else { return Ok(None) };
        let wrong = |key: &str| {
            let message =
                format!("tokenizer.ggml.{key} is absent, or not a list with an entry for each token");
            Error::new(Code::BadValue, message)
        };
        let array = |key: &str| -> Option<&'a MetaArray> {
            match metadata.get(&format!("tokenizer.ggml.{key}"))? {
                MetaValue::Array(array) => Some(array),
                _ => None,
            }
        };
        let texts = array("tokens").and_then(texts).ok_or_else(|| wrong("tokens"))?;
        let kinds = array("token_type").map(|a| counts(a).ok_or_else(|| wrong("token_type"))).transpose()?;
        let scores = array("scores").and_then(reals);
        let n = texts.len();
        if kinds.as_ref().is_some_and(|k| k.len() != n) || scores.as_ref().is_some_and(|s| s.len() != n) {
            return Err(wrong("token_type"));
        }
        let token = |(id, text): (usize, &'a str)| GgufToken {
            text,
            score: scores.as_ref().and_then(|s| s.get(id)).copied().unwrap_or(0.0),
            kind: kinds.as_ref().and_then(|k| k.get(id)).map_or(piece::NORMAL, |k| *k as i32),
        };
        let tokens = texts.into_iter().enumerate().map(token).collect();
        Ok(Some(Tokenizer { metadata, rules: arch.tokenizer, model, tokens }))
    }

    /// The id of a role, where the file has one for a token.
    fn id(&self, key: &str) -> Option<(usize, &'a str)> {
        let id = self.metadata.uint(&format!("tokenizer.ggml.{key}_token_id"))?;
        let id = usize::try_from(id).ok()?;
        Some((id, self.tokens.get(id)?.text))
    }

    fn flag(&self, key: &str) -> Option<bool> {
        match self.metadata.get(&format!("tokenizer.ggml.{key}"))? {
            MetaValue::Bool(on) => Some(*on),
            _ => None,
        }
    }

    fn array(&self, key: &str) -> Option<&'a MetaArray> {
        match self.metadata.get(&format!("tokenizer.ggml.{key}"))? {
            MetaValue::Array(array) => Some(array),
            _ => None,
        }
    }

    /// Whether the ids are those of XLM-RoBERTa, whose SentencePiece model has others.
    fn is_realigned(&self) -> bool {
        let first = ["<s>", "<pad>", "</s>", "<unk>"];
        self.rules.layout == TokenizerLayout::Bert
            && self.tokens.iter().take(4).map(|t| t.text).eq(first)
            && self.without_padding().iter().skip(4).all(|t| t.kind == piece::NORMAL)
    }

    /// The pieces of XLM-RoBERTa's SentencePiece model.
    fn aligned(&self) -> Tokenizer<'a> {
        let first = [("<unk>", piece::UNKNOWN), ("<s>", piece::CONTROL), ("</s>", piece::CONTROL)];
        let first = first.into_iter().map(|(text, kind)| GgufToken { text, score: 0.0, kind });
        let rest = self.without_padding().iter().skip(4).copied();
        Tokenizer {
            metadata: self.metadata,
            rules: self.rules,
            model: self.model,
            tokens: first.chain(rest).collect(),
        }
    }

    /// The text of the end of a turn, where a template puts another token behind it that ends a text.
    fn end_of_turn(&self) -> Option<(usize, &'a str)> {
        let rules = &self.rules;
        let other = rules.by_text.iter().any(|(kind, _)| *kind == "eot") || !rules.fixed.is_empty();
        let configured = self.flag("add_eos_token").is_some() && !other && !rules.eot_of_generation;
        self.id("eot").filter(|eot| configured && Some(*eot) != self.id("eos"))
    }

    /// Tokens without the padding behind the last one.
    fn without_padding(&self) -> &[GgufToken<'a>] {
        let used = self.tokens.iter().enumerate().rposition(|(id, t)| !t.is_padding(id));
        self.tokens.get(..used.map_or(0, |u| u + 1)).unwrap_or_default()
    }

    /// The number of tokens of the model: the rest, up to padding, are added tokens.
    fn base(&self) -> usize {
        let used = self.without_padding();
        used.iter().rposition(|t| !t.is_added()).map_or(0, |last| last + 1)
    }
}

/// The files of the tokenizer in a GGUF; none if it has no tokenizer.
///
/// # Errors
///
/// `bad_value` if the token lists contradict each other; `unsupported_container` if the kind of tokenizer has no files.
pub fn tokenizer_files(metadata: &Metadata, arch: &Arch) -> Result<Vec<NamedFile>> {
    let Some(tokenizer) = Tokenizer::read(metadata, arch)? else { return Ok(Vec::new()) };
    let mut files = match tokenizer.model {
        "gpt2" | "bert" | "gemma4" => Vec::from([json::file(&tokenizer)?]),
        "t5" if tokenizer.is_realigned() => protobuf::files(&tokenizer.aligned(), "sentencepiece.bpe.model"),
        "t5" if json::fits_unigram(&tokenizer) || arch.tokenizer.layout == TokenizerLayout::Bert => {
            Vec::from([json::file(&tokenizer)?])
        }
        "t5" => protobuf::files(&tokenizer, "spiece.model"),
        "llama" => protobuf::files(&tokenizer, "tokenizer.model"),
        other => {
            let message = format!("tokenizers of the model {other:?} have no files in a Hugging Face folder");
            return Err(Error::new(Code::UnsupportedContainer, message));
        }
    };
    files.push(configuration::file(&tokenizer));
    Ok(files)
}

/// A `tokenizer.json` that encodes text as the tokenizer in a GGUF does; `None` if it has no tokenizer. SentencePiece models, which
/// have no such file of their own, get their merges from their scores.
///
/// # Errors
///
/// Those of [`tokenizer_files`].
pub fn encoder_file(metadata: &Metadata, arch: &Arch) -> Result<Option<Vec<u8>>> {
    let Some(tokenizer) = Tokenizer::read(metadata, arch)? else { return Ok(None) };
    match tokenizer.model {
        "gpt2" | "bert" | "gemma4" | "t5" | "llama" => Ok(Some(json::file(&tokenizer)?.1)),
        other => {
            let message = format!("tokenizers of the model {other:?} are not supported");
            Err(Error::new(Code::UnsupportedContainer, message))
        }
    }
}

/// Whether an added token can be an entry of `added_tokens_decoder`: those that look special become control tokens there.
fn survives(token: &GgufToken<'_>) -> bool {
    token.kind == piece::CONTROL || (!looks_special(token.text) && !token.text.contains('\u{2581}'))
}

fn owned(name: &str, bytes: Vec<u8>) -> NamedFile {
    (name.to_string(), bytes)
}
