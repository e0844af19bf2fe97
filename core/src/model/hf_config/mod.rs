//! `config.json` of a model from the `<arch>.*` keys of its GGUF: the rules that write the keys, inverted.
//!
//! A key that is copied goes back to the name that the configuration class has. What a rule computes is proposed by
//! `proposals`; the rules are then applied to the configuration, and [`differences`] names every key that they write
//! otherwise. Knows no tokenizer files.

mod classes;
mod draft;
mod keys;
mod proposals;
mod rope;

pub use keys::{ArchKeys, counts, decimal, reals, same, texts};

use super::arch::{self, Arch};
use super::config::hyperparameters::hyperparameters;
use super::gguf_keys::{KeyRule, TensorFacts, architecture_keys, architecture_name, early_keys};
use crate::dtype::DType;
use crate::error::Result;
use crate::tensor::{MetaValue, Metadata, TensorInfo};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use draft::Draft;
use serde_json::Value;

/// A configuration that the GGUF may have been made with.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The architecture.
    pub arch: &'static Arch,
    /// The `model_type`.
    pub model_type: &'static str,
    /// The entry of `architectures`.
    pub class: &'static str,
}

/// What a GGUF holds beside its large tensors.
#[derive(Clone, Copy, Debug)]
pub struct GgufFacts<'a> {
    /// The metadata.
    pub metadata: &'a Metadata,
    /// The tensors.
    pub tensors: &'a [TensorInfo],
    /// The values of tensors that the converter computes, by name.
    pub computed: &'a BTreeMap<String, Vec<f32>>,
    /// The type of the folder's tensors.
    pub dtype: DType,
}

/// The configurations that a GGUF of this `general.architecture` may have been made with, the likeliest first: those of text
/// models, since a GGUF has no towers.
pub fn candidates(metadata: &Metadata, tensors: &[TensorInfo]) -> Vec<Candidate> {
    let architecture = metadata.text("general.architecture").unwrap_or("");
    let mut found: Vec<Candidate> = Vec::new();
    for arch in arch::of_gguf(architecture).filter(|a| a.gguf_rules.known) {
        let types = classes::model_types(arch);
        let text = types.iter().filter(|t| t.ends_with("_text"));
        for model_type in text.chain(types.iter().filter(|t| !t.ends_with("_text"))) {
            if let Some(class) = classes::class(arch, model_type) {
                found.push(Candidate { arch, model_type, class });
            }
        }
    }
    found.sort_by_key(|c| !likely(c.model_type, metadata, tensors));
    found
}

/// Whether a GGUF looks as models of a `model_type` do, where several have the same tensors.
fn likely(model_type: &str, metadata: &Metadata, tensors: &[TensorInfo]) -> bool {
    let has = |end: &str| tensors.iter().any(|t| t.name.ends_with(end));
    let tokenizer = metadata.text("tokenizer.ggml.model");
    let glm = metadata.text("tokenizer.ggml.pre") == Some("glm4");
    match model_type {
        "bert" => has("token_types.weight") && !matches!(tokenizer, Some("gpt2" | "t5")),
        "roberta" => tokenizer == Some("gpt2"),
        "xlm-roberta" => tokenizer == Some("t5"),
        "deepseek_v2" => !has(".exp_probs_b.bias") && !glm,
        "deepseek_v3" => !glm,
        "olmo2" => !has_key(metadata, "olmo2.attention.sliding_window"),
        _ => true,
    }
}

fn has_key(metadata: &Metadata, key: &str) -> bool {
    metadata.get(key).is_some()
}

/// The base of rotary embedding that engines assume for a GGUF without one; transformers cannot do without.
const ASSUMED_BASE: f64 = 10_000.0;

/// The configuration of a candidate; its keys are those of the GGUF where [`differences`] has none.
pub fn config(candidate: Candidate, facts: &GgufFacts<'_>) -> Value {
    let keys = ArchKeys::new(facts.metadata);
    let mut draft = Draft::new(candidate, facts);
    proposals::all(&keys, &mut draft);
    copied(candidate.arch, &keys, &mut draft);
    proposals::last(&keys, &mut draft);
    // A class adds values that the model does not have: a null takes them away.
    for key in too_many(candidate, facts, &draft.value()) {
        let Some(name) = name_of(candidate.arch, &draft, &key) else { continue };
        if key.ends_with(".rope.freq_base") || key.ends_with(".rope.freq_base_swa") {
            draft.force(&name, ASSUMED_BASE.into());
            continue;
        }
        draft.force(&name, Value::Null);
        if too_many(candidate, facts, &draft.value()).contains(&key) {
            draft.remove(&name);
        }
    }
    draft.value()
}

/// ArchKeys that rules copy from the configuration. Of several rules for one key, the last one counts.
fn copied(arch: &Arch, keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    let mut seen = BTreeSet::new();
    let rules: Vec<&KeyRule> = arch.gguf_keys.iter().copied().flatten().collect();
    for rule in rules.into_iter().rev() {
        let (key, names) = match rule {
            KeyRule::Count(key, names) | KeyRule::Real(key, names) | KeyRule::Flag(key, names) => {
                (*key, *names)
            }
            KeyRule::Blocks => ("block_count", LAYERS),
            _ => continue,
        };
        if !seen.insert(key) {
            continue;
        }
        let name = draft.pick(names);
        let value = match rule {
            KeyRule::Blocks => keys.layers().map(Value::from),
            KeyRule::Count(..) => keys.uint(key).map(Value::from),
            KeyRule::Real(..) => keys.real(key).and_then(decimal),
            _ => keys.flag(key).map(Value::from),
        };
        if let Some(value) = value {
            draft.set(name, value);
        }
    }
}

const LAYERS: &[&str] = &["num_hidden_layers", "n_layer", "n_layers", "num_layers"];

/// The name of the configuration that `key` (`llama.context_length`) is copied from.
fn name_of(arch: &Arch, draft: &Draft<'_>, key: &str) -> Option<String> {
    let short = key.split_once('.')?.1;
    let rules = arch.gguf_keys.iter().copied().flatten();
    let mut names = rules.filter_map(|rule| match rule {
        KeyRule::Count(k, names) | KeyRule::Real(k, names) | KeyRule::Flag(k, names) if *k == short => {
            Some(draft.pick(names))
        }
        _ => None,
    });
    let computed = match short {
        "rope.freq_base" => Some(draft.pick(rope::THETA)),
        "rope.freq_base_swa" => Some("rope_local_base_freq"),
        "attention.sliding_window" => Some("sliding_window"),
        "final_logit_softcapping" => Some("final_logit_softcapping"),
        _ => None,
    };
    names.next_back().or(computed).filter(|name| !draft.has(name)).map(String::from)
}

/// A key that a configuration does not give back.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The key.
    pub key: String,
    /// Its value in the file; none if the file lacks it.
    pub file: Option<MetaValue>,
    /// Its value by the configuration; none if it is not written.
    pub made: Option<MetaValue>,
}

/// The keys of the architecture as `config` gives them.
fn made(candidate: Candidate, facts: &GgufFacts<'_>, config: &Value) -> Result<Vec<(String, MetaValue)>> {
    let hyper = hyperparameters(config)?;
    let arch = candidate.arch;
    let name = architecture_name(arch.name, arch.gguf.unwrap_or_default(), &hyper)?;
    let keys = ArchKeys::new(facts.metadata);
    let count = |key: &str| keys.uint(key).and_then(|n| u32::try_from(n).ok());
    let blocks = count("block_count").unwrap_or(0);
    let tensors = TensorFacts {
        file_type: 0,
        mtp_blocks: blocks.saturating_sub(hyper.layers()?),
        no_mtp: false,
        pooling: count("pooling_type"),
    };
    let mut all = early_keys(name, &hyper)?;
    all.extend(architecture_keys(name, arch.gguf_keys, &hyper, &tensors)?);
    all.retain(|(key, _)| !key.starts_with("general."));
    Ok(all)
}

/// ArchKeys of the configuration that the file lacks.
fn too_many(candidate: Candidate, facts: &GgufFacts<'_>, config: &Value) -> Vec<String> {
    let made = made(candidate, facts, config).unwrap_or_default();
    made.into_iter().map(|(key, _)| key).filter(|key| facts.metadata.get(key).is_none()).collect()
}

/// The keys of the architecture that `config` does not give back.
///
/// # Errors
///
/// `bad_value` if the rules cannot read the configuration, because the file lacks keys.
pub fn differences(candidate: Candidate, facts: &GgufFacts<'_>, config: &Value) -> Result<Vec<Difference>> {
    let made: BTreeMap<String, MetaValue> = made(candidate, facts, config)?.into_iter().collect();
    let prefix = format!("{}.", ArchKeys::new(facts.metadata).architecture());
    let own = |key: &str| key.starts_with(&prefix) && !key.ends_with(".vocab_size");
    let file: BTreeMap<&str, &MetaValue> =
        facts.metadata.0.iter().filter(|(k, _)| own(k)).map(|(k, v)| (k.as_str(), v)).collect();
    let mut found = Vec::new();
    for (key, value) in &file {
        let ours = made.get(*key);
        if !ours.is_some_and(|ours| keys::same(ours, value)) {
            let (key, file) = ((*key).into(), Some((*value).clone()));
            found.push(Difference { key, file, made: ours.cloned() });
        }
    }
    let absent = made.into_iter().filter(|(key, _)| own(key) && !file.contains_key(key.as_str()));
    found.extend(absent.map(|(key, value)| Difference { key, file: None, made: Some(value) }));
    Ok(found)
}
