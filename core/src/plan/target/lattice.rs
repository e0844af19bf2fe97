//! A lattice directory: a `.q4` or `.f16` file per tensor, `quantize_index.json` and `config.json`.
//!
//! Matrices get the one block type of the format, everything else is F16; a recipe chooses the block form only. Layout:
//! <https://github.com/ohdearquant/lattice>.

use super::{Contents, Target, config_json, metadata_left_out, usage};
use crate::dtype::{DType, DTypeKind};
use crate::error::{Code, Error, Result};
use crate::format::limits::MAX_Q4_INDEX;
use crate::format::{Container, q4};
use crate::model::config::CONFIG;
use crate::model::tensor_role::{TensorRole, lattice_quantizes, role};
use crate::plan::{FileRange, OutFile, Output, Warning, provenance};
use crate::quant::Encoding;
use crate::recipe::select::TypeChoice;
use crate::recipe::{Action, Decision, Q4Scheme, Reason, Recipe, unsupported};
use crate::tensor::TensorInfo;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use sha2::{Digest, Sha256};

/// The file of the tensors' names.
const INDEX: &str = "quantize_index.json";

pub(super) struct Lattice;

impl Target for Lattice {
    fn container(&self) -> Container {
        Container::LatticeQ4
    }

    fn is_directory(&self) -> bool {
        true
    }

    fn check(&self, recipe: &Recipe) -> Result<()> {
        let refuse =
            |what: String| Err(usage(format!("the q4 container has one block form; leave out the {what}")));
        match (recipe.dtype, recipe.preset) {
            (Some(dtype), _) => refuse(format!("type {dtype}")),
            (_, Some(preset)) => refuse(format!("recipe {preset}")),
            _ if recipe.types().next().is_some() || recipe.leave_output => {
                refuse("types of single tensors".into())
            }
            _ => Ok(()),
        }
    }

    fn holds(&self, dtype: DType) -> bool {
        matches!(dtype, DType::LATTICE_Q4 | DType::F16)
    }

    fn decide(&self, recipe: &Recipe, tensor: &TensorInfo, _: TypeChoice) -> Result<Decision> {
        if tensor.dtype.kind() == DTypeKind::Integer {
            return Err(unsupported(tensor, format!("q4 cannot hold {}", tensor.dtype)));
        }
        let role = role(&tensor.name, &tensor.shape);
        if !lattice_quantizes(role) {
            return unquantized(recipe, tensor, role);
        }
        if tensor.dtype == DType::LATTICE_Q4 {
            return Ok(decision(Action::Copy, "same_type", "is a lattice block already".into()));
        }
        match recipe.q4_scheme {
            Q4Scheme::Asym => recipe.take(tensor, Encoding::LatticeAsym),
            Q4Scheme::Sym => recipe.take(tensor, Encoding::LatticeSym),
        }
    }

    /// The index does not name the form of a block.
    fn encodings(&self, dtype: DType) -> Vec<Encoding> {
        match dtype {
            DType::LATTICE_Q4 => vec![Encoding::LatticeAsym, Encoding::LatticeSym],
            DType::F16 => vec![Encoding::F16Finite],
            dtype => vec![Encoding::Type(dtype)],
        }
    }

    fn lay_out(
        &self,
        contents: &Contents<'_>,
        outputs: &mut [Output],
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<OutFile>> {
        let Contents { checkpoint, recipe, .. } = *contents;
        let (mut files, entries) = tensor_files(outputs)?;
        let rotated = recipe.rotate.filter(|r| r.stream && !r.fold).map(|r| r.seed);
        let made_by = recipe.rotate.map(|_| provenance::recipe(recipe));
        let index = q4::index_json_by(&entries, rotated.or(checkpoint.q4_seed), made_by.as_deref());
        check_index(index.len() as u64)?;
        files.push(OutFile::literal(INDEX, index));
        match config_json::config(checkpoint, recipe)? {
            Some(config) => files.push(OutFile::literal(CONFIG, config)),
            None => {
                let message = "no config.json beside the input, so none is written";
                warnings.push(Warning::new("no_config", message));
            }
        }
        warnings.extend(metadata_left_out(checkpoint));
        Ok(files)
    }
}

fn decision(action: Action, code: &'static str, text: String) -> Decision {
    Decision { action, reason: Reason { code, text: text.into() }.into() }
}

/// Stores a tensor as F16.
fn unquantized(recipe: &Recipe, tensor: &TensorInfo, role: TensorRole) -> Result<Decision> {
    if tensor.dtype == DType::F16 {
        // Even a copy is checked: readers of `.f16` refuse NaN and infinity.
        let text = format!("{} stays F16", role.words());
        return Ok(decision(Action::Encode(Encoding::F16Finite), "kept", text));
    }
    let taken = recipe.take(tensor, Encoding::F16Finite)?;
    match taken.reason.code {
        "requantized" => Ok(taken),
        _ => Ok(decision(taken.action, "kept", format!("{} is stored as F16", role.words()))),
    }
}

/// A file for each of `outputs`, which are sorted by name, and the entries of the index.
fn tensor_files(outputs: &mut [Output]) -> Result<(Vec<OutFile>, Vec<q4::Q4IndexEntry>)> {
    // The index is sorted by name, and so are the outputs: one order for everything.
    outputs.sort_by(|a, b| a.name.cmp(&b.name));
    let mut taken: BTreeSet<String> = [INDEX, CONFIG].map(String::from).into();
    let mut files = Vec::with_capacity(outputs.len() + 2);
    let (mut entries, mut index_bytes) = (Vec::with_capacity(outputs.len()), 0_u64);
    for output in outputs.iter_mut() {
        index_bytes += (output.name.len() + MIN_INDEX_ENTRY) as u64;
        check_index(index_bytes)?;
        let quantized = output.dtype == DType::LATTICE_Q4;
        let header = if quantized { q4::q4_header(&output.shape)? } else { q4::f16_header(&output.shape)? };
        let numel = output.shape.numel();
        let overflow =
            || Error::new(Code::Overflow, "the file would not fit 64 bits").of_tensor(&output.name);
        let bytes = output.dtype.bytes_for(numel).ok_or_else(overflow)?;
        let at = header.len() as u64;
        let len = at.checked_add(bytes).ok_or_else(overflow)?;
        let name = unique_file(&output.name, if quantized { "q4" } else { "f16" }, &mut taken);
        output.place = Some(FileRange { file: files.len() as u32, at, bytes });
        entries.push(q4::Q4IndexEntry {
            name: (&output.name).into(),
            file: name.clone(),
            quantized,
            shape: output.shape.clone(),
            numel,
        });
        files.push(OutFile { len, ..OutFile::literal(&name, header) });
    }
    Ok((files, entries))
}

/// Least bytes of an entry of the index, beside the tensor's name.
const MIN_INDEX_ENTRY: usize = 64;

/// Refuses an index that its readers would refuse.
fn check_index(bytes: u64) -> Result<()> {
    if bytes > MAX_Q4_INDEX {
        let message =
            format!("the index would have more than {MAX_Q4_INDEX} bytes, more than its readers accept");
        return Err(Error::new(Code::HeaderTooLarge, message).in_file(INDEX));
    }
    Ok(())
}

/// lattice's file name for a tensor, made unique: names may collide after sanitising, also where a file system
/// ignores case, and may be longer than a file system allows.
fn unique_file(tensor: &str, extension: &str, taken: &mut BTreeSet<String>) -> String {
    let stem = q4::file_stem(tensor);
    let plain = format!("{stem}.{extension}");
    if plain.len() <= 200 && taken.insert(plain.to_lowercase()) {
        return plain;
    }
    let short: String = stem.chars().take(40).collect();
    // A hostile input can have a tensor whose own file name is the one made here: then the next one is tried.
    let mut salted = String::from(tensor);
    loop {
        let digest = Sha256::digest(salted.as_bytes());
        let tag: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
        let name = format!("{short}__{tag}.{extension}");
        if taken.insert(name.to_lowercase()) {
            return name;
        }
        salted.push('\0');
    }
}
