//! `quantize_index.json`: the names behind the file names, and the seed of a rotation.
//!
//! Two shapes are in the world: a bare array of entries, and an object with the seed around it.

use super::super::{Warning, index::check_contained, json};
use crate::error::{Code, Error, Result};
use crate::tensor::Shape;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use json::{Located, Member};
use serde::{Deserialize, Serialize};

/// One tensor of a lattice directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Q4IndexEntry {
    /// The tensor's name in its source.
    pub name: String,
    /// Its file, relative to the directory.
    pub file: String,
    /// Whether that is a `.q4` file; else it is a `.f16` file.
    pub quantized: bool,
    /// Outermost axis first.
    pub shape: Shape,
    /// The number of elements.
    pub numel: u64,
}

/// The contents of an index.
pub(crate) struct Q4Index {
    pub entries: Vec<Q4IndexEntry>,
    /// File offset of each entry.
    pub at: Vec<u64>,
    pub seed: Option<u64>,
    /// The recipe of a rotated directory of Quantoscope, as JSON.
    pub recipe: Option<String>,
    pub warnings: Vec<Warning>,
}

/// The JSON of an index: a bare array, or with a seed an object around it, which lattice marks as not yet promoted.
///
/// The seed is written twice: as the number that lattice reads, and as text, because JSON numbers above 2^53 do not survive
/// every reader.
pub fn index_json(entries: &[Q4IndexEntry], seed: Option<u64>) -> Vec<u8> {
    index_json_by(entries, seed, None)
}

/// [`index_json`] with the recipe of the rotation: the seed alone does not show which parts were rotated.
pub fn index_json_by(entries: &[Q4IndexEntry], seed: Option<u64>, recipe: Option<&str>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Promotion {
        state: &'static str,
        reason: &'static str,
    }
    #[derive(Serialize)]
    struct RecordedRotation<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        quarot_seed: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        quarot_seed_hex: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        quantoscope_recipe: Option<&'a str>,
        tensors: &'a [Q4IndexEntry],
        promotion: Promotion,
    }
    let promotion = Promotion { state: "unpromoted", reason: "no perplexity was measured on this artefact" };
    let text = match (seed, recipe) {
        (None, None) => serde_json::to_vec_pretty(entries),
        _ => serde_json::to_vec_pretty(&RecordedRotation {
            quarot_seed: seed,
            quarot_seed_hex: seed.map(|seed| format!("0x{seed:016x}")),
            quantoscope_recipe: recipe,
            tensors: entries,
            promotion,
        }),
    };
    // Plain structs of text and integers: writing them to memory cannot fail.
    text.unwrap_or_default()
}

/// Whether JSON looks like this index and not like one of safetensors shards.
pub(crate) fn is_likely(json: Located<'_>) -> bool {
    json.is_array() || json.object().is_ok_and(|members| members.iter().any(|m| m.key == "tensors"))
}

/// Reads an index of either shape.
pub(crate) fn parse(json: Located<'_>) -> Result<Q4Index> {
    let mut index =
        Q4Index { entries: Vec::new(), at: Vec::new(), seed: None, recipe: None, warnings: Vec::new() };
    let mut list = json;
    if !json.is_array() {
        let top = json.object()?;
        json::unique(&top).map_err(|(_, e)| e)?;
        list = member(json, &top, "tensors")?;
        index.seed = seed(&top)?;
        let recipe = top.iter().find(|m| m.key == "quantoscope_recipe" && !m.value.is_null());
        index.recipe = recipe.map(|m| m.value.string()).transpose()?.map(|t| t.into_owned());
        index.warnings.extend(online(&top));
    }
    for item in list.array()? {
        index.entries.push(entry(item)?);
        index.at.push(item.at);
    }
    check_unique(&index)?;
    Ok(index)
}

fn member<'a>(of: Located<'a>, members: &[Member<'a>], name: &str) -> Result<Located<'a>> {
    let found = members.iter().find(|m| m.key == name).map(|m| m.value);
    found.ok_or_else(|| of.error(Code::BadJson, &format!("{name} is missing")))
}

/// The seed, preferably from its text; a reader that went through floating point may have bent the number.
fn seed(top: &[Member<'_>]) -> Result<Option<u64>> {
    let value = |name: &str| top.iter().find(|m| m.key == name).map(|m| m.value).filter(|v| !v.is_null());
    let number = value("quarot_seed").map(Located::u64).transpose()?;
    let Some(text) = value("quarot_seed_hex") else { return Ok(number) };
    let digits = text.string()?;
    let digits = digits.strip_prefix("0x").filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
    let exact = digits.and_then(|d| u64::from_str_radix(d, 16).ok());
    let exact =
        exact.ok_or_else(|| text.error(Code::BadValue, "the seed is no hexadecimal 64-bit number"))?;
    match number {
        Some(n) if n as f64 != exact as f64 => {
            Err(text.error(Code::BadIndex, "the two forms of the seed differ"))
        }
        _ => Ok(Some(exact)),
    }
}

/// An artefact that wants rotations at run time is read, but its tensors alone are not the model.
fn online(top: &[Member<'_>]) -> Option<Warning> {
    let online = top.iter().find(|m| m.key == "online" && !m.value.is_null())?;
    let message =
        format!("the index asks for rotations at run time (byte {}), which are not applied", online.key_at);
    Some(Warning { code: "online_rotation", message })
}

fn entry(json: Located<'_>) -> Result<Q4IndexEntry> {
    let members = json.object()?;
    json::unique(&members).map_err(|(_, e)| e)?;
    let get = |name: &str| member(json, &members, name);
    let name = get("name")?.string()?.into_owned();
    let rest = || -> Result<Q4IndexEntry> {
        let file = get("file")?;
        let path = file.string()?.into_owned();
        check_contained(&path).map_err(|e| e.at(file.at))?;
        let (quantized, numel) = (get("quantized")?.bool()?, get("numel")?.u64()?);
        Ok(Q4IndexEntry { name: name.clone(), file: path, quantized, shape: get("shape")?.shape()?, numel })
    };
    rest().map_err(|e| e.of_tensor(&name))
}

/// No tensor twice, and no file for two tensors: the sanitised names of two tensors may be the same.
fn check_unique(index: &Q4Index) -> Result<()> {
    let (mut names, mut files) = (BTreeMap::new(), BTreeMap::new());
    for (e, &at) in index.entries.iter().zip(&index.at) {
        let fail = |code, words: String| Err(Error::new(code, words).at(at).of_tensor(&e.name));
        if names.insert(&e.name, ()).is_some() {
            return fail(Code::DuplicateName, "the index lists it twice".to_owned());
        }
        if let Some(other) = files.insert(&e.file, &e.name) {
            return fail(Code::BadIndex, format!("its file {:?} is that of {other:?} too", e.file));
        }
    }
    Ok(())
}
