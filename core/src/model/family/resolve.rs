//! From the tensor map of an architecture and the tensors of a checkpoint to a role for each tensor.

use super::names::{ModuleTensor, NameMatch, RuledName, match_name, weight_name};
use super::values::{HeadsVerdict, ValueHeads, both_sides};
use super::{RotationRoles, RotationRules, StreamRole, StreamVerdict, UntiedHead, refuse, refuse_by};
use crate::dtype::DTypeKind as Elements;
use crate::error::{Error, Result};
use crate::model::arch::module::Module;
use crate::model::arch::row::{NameForm, StreamSide, TensorMapRow};
use crate::model::arch::{Arch, Prefix, RotationFacts};
use crate::model::config::{ConfigReader, LAYERS, LIMIT};
use crate::tensor::TensorInfo;
use crate::tensor::packed::Packed;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

struct Resolver<'a> {
    arch: &'static Arch,
    facts: &'static RotationFacts,
    prefix: Prefix,
    hidden: u64,
    layers: u32,
    tensors: &'a [TensorInfo],
    index: BTreeMap<&'a str, usize>,
    /// What each tensor is by its name.
    matches: Vec<NameMatch>,
    /// Norms that a module reads.
    read: BTreeSet<usize>,
}

/// The rules of a checkpoint of this architecture.
pub(super) fn resolve(
    arch: &'static Arch,
    facts: &'static RotationFacts,
    read: &ConfigReader<'_>,
    tensors: &[TensorInfo],
) -> Result<RotationRules> {
    let needed = |keys: &[&str], limit: u64| {
        let missing = || refuse_by(read, keys, format!("config.json does not say {}", keys.join(" or ")));
        read.size(keys, limit)?.ok_or_else(missing)
    };
    let hidden = needed(&["hidden_size", "n_embd"], LIMIT)? as u64;
    let layers = needed(&["num_hidden_layers", "n_layer"], LAYERS)? as u32;
    let index: BTreeMap<&str, usize> =
        tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
    let prefix = prefix(arch, &index)?;
    let matches = tensors.iter().map(|t| match_name(arch, facts, prefix, layers, &t.name)).collect();
    let read_norms = BTreeSet::new();
    let mut it = Resolver { arch, facts, prefix, hidden, layers, tensors, index, matches, read: read_norms };
    let heads = match facts.values_refused {
        Some(because) => HeadsVerdict::Refused { because },
        None => HeadsVerdict::Exact(ValueHeads::of(facts.values, read, hidden)?),
    };
    it.all_are_named(&heads)?;
    it.all_layers_are_there()?;
    it.none_is_packed(&heads)?;
    let mut parts = it.stream()?;
    it.heads(&heads, &mut parts)?;
    let tied = read.ties_head();
    let made_head = it.made_head(read, tied)?;
    it.every_norm_is_read()?;
    let stream = it.verdict();
    Ok(RotationRules {
        family: arch.name,
        hidden,
        layers,
        tied: tied == Some(true),
        stream,
        heads,
        parts,
        untied_head: made_head,
    })
}

/// How the names begin: where the embedding is.
fn prefix(arch: &Arch, index: &BTreeMap<&str, usize>) -> Result<Prefix> {
    let embedding = |p: &Prefix| weight_name(arch, *p, Module::TokenEmbd, None);
    let found = arch.prefixes.iter().find(|p| index.contains_key(embedding(p).as_str()));
    found.copied().ok_or_else(|| {
        let tried: Vec<String> = arch.prefixes.iter().map(embedding).collect();
        refuse(format!("the embedding of {} is missing ({})", arch.name, tried.join(", ")))
    })
}

impl Resolver<'_> {
    fn named(&self) -> impl Iterator<Item = (usize, &TensorInfo, &RuledName)> {
        self.tensors.iter().zip(&self.matches).enumerate().filter_map(|(i, (t, m))| match m {
            NameMatch::Ruled(named) => Some((i, t, named)),
            _ => None,
        })
    }

    /// By size, and only here: what no rule names may lie neither on the stream nor on the values.
    fn all_are_named(&self, heads: &HeadsVerdict) -> Result<()> {
        for (tensor, found) in self.tensors.iter().zip(&self.matches) {
            let NameMatch::Unnamed { in_layer } = *found else { continue };
            let axes = tensor.shape.axes();
            let (name, hidden) = (self.arch.name, self.hidden);
            if axes.contains(&hidden) {
                let what =
                    format!("no rule of {name} names it, and it has an axis of the stream's length {hidden}");
                return Err(refuse(what).of_tensor(&tensor.name));
            }
            let HeadsVerdict::Exact(heads) = heads else { continue };
            if in_layer && axes.iter().any(|&a| heads.is_width(a)) {
                let what =
                    format!("no rule of {name} names it, and it has an axis as long as a layer's values");
                return Err(refuse(what).of_tensor(&tensor.name));
            }
        }
        Ok(())
    }

    fn all_layers_are_there(&self) -> Result<()> {
        let seen: BTreeSet<u32> = self.named().filter_map(|(_, _, n)| n.layer).collect();
        match (0..self.layers).find(|n| !seen.contains(n)) {
            Some(n) => Err(refuse(format!("layer {n} of {} is missing", self.layers))),
            None => Ok(()),
        }
    }

    /// Codes cannot be turned.
    fn none_is_packed(&self, heads: &HeadsVerdict) -> Result<()> {
        let exact = matches!(heads, HeadsVerdict::Exact(_));
        for (_, tensor, named) in self.named() {
            let in_stream = self.facts.refused.is_none() && named.has_part();
            let in_heads = exact && (named.makes_values || named.reads_values);
            if !in_stream && !in_heads {
                continue;
            }
            let what = match (named.kind, tensor.dtype.kind()) {
                (ModuleTensor::Packed, _) => "it belongs to a quantized weight",
                (_, Elements::Float) => continue,
                (_, Elements::Quantized) if tensor.packed.is_some() => continue,
                (_, Elements::Quantized) => "it is quantized",
                (_, Elements::Integer) => "it has no floating-point values",
            };
            let what = format!("{what}: only plain weights can be rotated");
            return Err(refuse(what).of_tensor(&tensor.name));
        }
        Ok(())
    }

    /// R1's parts; only predictors of further tokens have one where no rotation is exact.
    fn stream(&mut self) -> Result<Vec<RotationRoles>> {
        let mut parts =
            vec![RotationRoles { stream: StreamRole::Untouched, heads: None }; self.tensors.len()];
        let mut read = BTreeSet::new();
        let all = self.tensors.iter().zip(&self.matches);
        for (part, (tensor, found)) in parts.iter_mut().zip(all) {
            part.stream = match found {
                NameMatch::Mtp => StreamRole::Mtp,
                NameMatch::Ruled(named) if self.facts.refused.is_none() => self.part(tensor, named)?,
                _ => StreamRole::Untouched,
            };
            if let StreamRole::Reader { fold, .. } | StreamRole::Head { fold, .. } = part.stream {
                read.insert(fold);
            }
        }
        self.read = read;
        Ok(parts)
    }

    fn part(&self, tensor: &TensorInfo, named: &RuledName) -> Result<StreamRole> {
        let bias = named.kind == ModuleTensor::Bias;
        let rank = 1 + usize::from(!bias) + usize::from(named.row.form != NameForm::Module);
        let along = |usual: usize| {
            let axis = if bias { rank - 1 } else { named.row.axis.unwrap_or(usual) };
            let axis = if is_transposed_stack(tensor) { swapped(axis) } else { axis };
            self.lies_on_the_stream(tensor, rank, axis).map(|()| axis)
        };
        Ok(match named.row.side {
            StreamSide::Embedding => StreamRole::Embedding { axis: along(1)? },
            StreamSide::Writes => StreamRole::Writer { axis: along(0)? },
            StreamSide::Reads(_) if bias => StreamRole::Untouched,
            StreamSide::Reads(norm) => {
                let axis = along(rank - 1)?;
                let fold = self.fold(norm, named.layer, &tensor.name)?;
                if named.is_head() {
                    StreamRole::Head { axis, fold }
                } else {
                    StreamRole::Reader { axis, fold }
                }
            }
            StreamSide::Norm => {
                self.lies_on_the_stream(tensor, 1, 0)?;
                match tensor.name.strip_suffix("bias").filter(|_| bias) {
                    Some(stem) => {
                        StreamRole::NormBias { of: self.gain(&format!("{stem}weight"), &tensor.name)? }
                    }
                    None => StreamRole::Norm { form: self.arch.norm_form },
                }
            }
            StreamSide::PreventsRotation | StreamSide::Untouched | StreamSide::Unknown => {
                StreamRole::Untouched
            }
        })
    }

    fn lies_on_the_stream(&self, tensor: &TensorInfo, rank: usize, axis: usize) -> Result<()> {
        let axes = tensor.shape.axes();
        if axes.len() == rank && axes.get(axis) == Some(&self.hidden) {
            return Ok(());
        }
        let what = format!(
            "its shape is {axes:?}, not one of {rank} axes with the stream's length {} at {axis}",
            self.hidden
        );
        Err(refuse(what).of_tensor(&tensor.name))
    }

    fn fold(&self, norm: Module, layer: Option<u32>, reader: &str) -> Result<usize> {
        self.gain(&weight_name(self.arch, self.prefix, norm, layer), reader)
    }

    fn gain(&self, name: &str, for_whom: &str) -> Result<usize> {
        let missing = || refuse(format!("the norm {name} that belongs to it is missing")).of_tensor(for_whom);
        self.index.get(name).copied().ok_or_else(missing)
    }

    fn heads(&self, verdict: &HeadsVerdict, parts: &mut [RotationRoles]) -> Result<()> {
        let HeadsVerdict::Exact(heads) = verdict else { return Ok(()) };
        let mut all = Vec::new();
        for (i, tensor, named) in self.named() {
            if let Some(part) = heads.part(tensor, named)? {
                all.push((i, part));
            }
        }
        both_sides(self.tensors, &all)?;
        for (i, head) in all {
            if let Some(part) = parts.get_mut(i) {
                part.heads = Some(head);
            }
        }
        Ok(())
    }

    /// The head that must be made, unless one is there.
    fn made_head(&mut self, read: &ConfigReader<'_>, tied: Option<bool>) -> Result<Option<UntiedHead>> {
        if self.facts.refused.is_some()
            || self.named().any(|(_, _, n)| n.is_head() && n.kind == ModuleTensor::Weight)
        {
            return Ok(None);
        }
        let head = |r: &&TensorMapRow| r.module == Module::Output;
        let Some((row, StreamSide::Reads(norm))) = self.arch.rows().find(head).map(|r| (r, r.side)) else {
            return Ok(None);
        };
        let name = format!("{}{}.weight", self.prefix.head, row.tail);
        if tied == Some(false) {
            let message = format!("the head {name} is missing, and config.json does not tie it");
            return Err(refuse_by(read, &["tie_word_embeddings"], message));
        }
        let source = self.gain(&weight_name(self.arch, self.prefix, Module::TokenEmbd, None), &name)?;
        let fold = self.fold(norm, None, &name)?;
        self.read.insert(fold);
        Ok(Some(UntiedHead { name, source, fold }))
    }

    fn every_norm_is_read(&self) -> Result<()> {
        let unread = |(i, _, n): &(usize, &TensorInfo, &RuledName)| {
            n.row.side == StreamSide::Norm && n.kind == ModuleTensor::Weight && !self.read.contains(i)
        };
        match self.named().find(unread).filter(|_| self.facts.refused.is_none()) {
            Some((_, tensor, _)) => Err(nobody_reads(tensor)),
            None => Ok(()),
        }
    }

    fn verdict(&self) -> StreamVerdict {
        let Some(because) = self.facts.refused else {
            return if self.facts.layer_norm { StreamVerdict::FixesOnes } else { StreamVerdict::Any };
        };
        let blocks = self.named().filter(|(_, _, n)| n.row.side == StreamSide::PreventsRotation);
        let mut blockers: Vec<String> = blocks.map(|(_, t, _)| t.name.to_string()).collect();
        blockers.sort();
        StreamVerdict::Refused { because, blockers }
    }
}

fn nobody_reads(norm: &TensorInfo) -> Error {
    refuse("nothing that reads this norm is there".into()).of_tensor(&norm.name)
}

/// Whether a stack of experts is stored with its last two axes exchanged.
fn is_transposed_stack(tensor: &TensorInfo) -> bool {
    tensor.packed.as_deref().is_some_and(Packed::is_transposed_stack)
}

/// The axis of a stack whose matrices are transposed.
fn swapped(axis: usize) -> usize {
    match axis {
        1 => 2,
        2 => 1,
        other => other,
    }
}
