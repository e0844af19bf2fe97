//! The Hugging Face tensors that the tensors of a GGUF were made of: names and shapes, by the rows and value maps that make
//! the GGUF. Reads no values.

use super::config_view::ConfigView;
use super::maps::applies;
use super::source_names::{as_predictor, block};
use crate::model::arch::Arch;
use crate::model::arch::gguf_rules::{BeyondRule, ValueMap};
use crate::model::arch::module::Module;
use crate::model::arch::row::TensorMapRow;
use crate::model::tensor_id::TensorId;
use crate::tensor::{Shape, TensorInfo};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Most experts or heads of one stack.
const MAX_STACK: u64 = 1 << 16;
/// Most tensors of a folder.
const MAX_TENSORS: u64 = 1 << 20;

/// A tensor of a Hugging Face checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct HfTensor {
    /// The name.
    pub name: String,
    /// The shape, outermost axis first.
    pub shape: Shape,
}

/// The tensors of a checkpoint of `arch` with this `config.json` that a GGUF with `tensors` was made of, in the order of the
/// GGUF; and a sentence for each GGUF tensor that has none. Tensors that the converter computes have no source.
pub fn hf_tensors(
    arch: &'static Arch,
    config: &ConfigView<'_>,
    tensors: &[TensorInfo],
) -> (Vec<HfTensor>, Vec<String>) {
    let by_name = tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut inverse =
        Inverse { arch, config, by_name, used: BTreeSet::new(), found: Vec::new(), findings: Vec::new() };
    for tensor in tensors {
        if inverse.used.contains(tensor.name.as_str()) || is_generated(arch, &tensor.name) {
            continue;
        }
        if let Err(why) = inverse.add(tensor) {
            inverse.findings.push(format!("{}: {why}", tensor.name));
        }
    }
    (inverse.found, inverse.findings)
}

/// Whether the converter computes the GGUF tensor `name` instead of copying it.
pub fn is_generated(arch: &Arch, name: &str) -> bool {
    let module = arch.parse_gguf(name).map(|id| id.module);
    matches!(module, Some(Module::RopeFreqs | Module::RopeFactorsLong | Module::RopeFactorsShort))
}

type Result<T> = core::result::Result<T, String>;

struct Inverse<'a> {
    arch: &'static Arch,
    config: &'a ConfigView<'a>,
    by_name: BTreeMap<&'a str, &'a TensorInfo>,
    used: BTreeSet<&'a str>,
    found: Vec<HfTensor>,
    findings: Vec<String>,
}

/// A row whose tensor becomes GGUF tensors of the file.
struct RowSource<'a> {
    row: &'static TensorMapRow,
    id: TensorId,
    made: Vec<&'a TensorInfo>,
}

impl<'a> Inverse<'a> {
    /// Adds the source of a GGUF tensor; one per expert of a stack.
    fn add(&mut self, tensor: &'a TensorInfo) -> Result<()> {
        let source = self.source(tensor)?;
        self.used.extend(source.made.iter().map(|t| t.name.as_str()));
        let axes: Vec<&[u64]> = source.made.iter().map(|t| t.shape.axes()).collect();
        if source.row.tail.contains("{expert}") {
            let Some((count, each)) = axes.first().and_then(|a| a.split_first()) else {
                return Err("it is no stack".into());
            };
            if *count > MAX_STACK || each.is_empty() {
                return Err(format!("its shape {:?} is no stack", tensor.shape.axes()));
            }
            if count.saturating_add(self.found.len() as u64) > MAX_TENSORS {
                return Err(format!("a checkpoint of more than {MAX_TENSORS} tensors"));
            }
            let shape = shape(each)?;
            for expert in 0..*count as u32 {
                let id = TensorId { expert: Some(expert), ..source.id };
                let name = self.name(source.row, id)?;
                self.found.push(HfTensor { name, shape: shape.clone() });
            }
            return Ok(());
        }
        let maps = self.arch.gguf_rules.maps;
        let map = maps.iter().find(|(m, _)| *m == source.id.module).map(|(_, map)| *map);
        let map = map.filter(|m| applies(*m, source.id, axes.first().copied().unwrap_or_default()));
        let axes = self.source_axes(map, &axes)?;
        let name = self.name(source.row, source.id)?;
        self.found.push(HfTensor { name, shape: shape(&axes)? });
        Ok(())
    }

    /// The row that a GGUF tensor was made by: the first whose GGUF names the file has all of.
    fn source(&self, tensor: &'a TensorInfo) -> Result<RowSource<'a>> {
        let fits = |row: &'static TensorMapRow| self.source_by(row, &tensor.name);
        let mut sources: Vec<RowSource<'a>> = self.arch.rows().filter_map(fits).collect();
        let alike = |s: &RowSource<'_>| sources.first().is_some_and(|f| f.row.module == s.row.module);
        let last = sources.iter().rposition(alike);
        let partner = last.filter(|at| *at > 0).and_then(|_| partner(sources.first()?.row.module));
        let at = match partner {
            // The last name is that of models without the partner.
            Some(partner) if !self.has_module(partner) => last,
            _ => Some(0),
        };
        match at.filter(|at| *at < sources.len()) {
            Some(at) => Ok(sources.swap_remove(at)),
            None => Err(format!("{} checkpoints have no such tensor", self.arch.name)),
        }
    }

    /// The source under one row.
    fn source_by(&self, row: &'static TensorMapRow, name: &str) -> Option<RowSource<'a>> {
        let gguf = row.gguf_names();
        let plain = row.module.is_shared_expert() && self.config.experts() == 0;
        let plain = plain && self.arch.has_gate_up_shared();
        let cut = |text: &str| if plain { text.replace("_shexp", "") } else { text.into() };
        let id = gguf.iter().find_map(|g| TensorId::of_gguf_name(name, &cut(g), row.module))?;
        let made = gguf.iter().map(|g| self.by_name.get(id.gguf_text(&cut(g))?.as_str()).copied());
        let made: Vec<&'a TensorInfo> = made.collect::<Option<_>>()?;
        let stacked = row.tail.contains("{expert}");
        let id = TensorId { expert: stacked.then_some(0), ..id };
        (!made.is_empty() && row.names_part(id)).then_some(RowSource { row, id, made })
    }

    fn has_module(&self, module: Module) -> bool {
        self.by_name.keys().any(|name| self.arch.parse_gguf(name).is_some_and(|id| id.module == module))
    }

    /// The name under the usual prefix; that of a predictor where checkpoints keep it apart.
    fn name(&self, row: &TensorMapRow, id: TensorId) -> Result<String> {
        let prefix = self.arch.prefixes.first().ok_or("the architecture has no names")?;
        let name = row.hf_name(*prefix, id).ok_or("it has no name in a checkpoint")?;
        let beyond = self.arch.gguf_rules.beyond == BeyondRule::Mtp;
        let layers = self.config.layers().filter(|_| beyond);
        let in_predictor = |layers: &u64| block(&name).is_some_and(|b| u64::from(b) >= *layers);
        Ok(match layers.filter(in_predictor).and_then(|layers| as_predictor(&name, layers)) {
            Some(renamed) => renamed,
            None => name,
        })
    }

    /// The axes of the source of GGUF tensors with these axes.
    fn source_axes(&self, map: Option<ValueMap>, made: &[&[u64]]) -> Result<Vec<u64>> {
        let misfit = || format!("its shape {:?} is none that the converter makes", made.first());
        let add = |a: u64, b: u64| a.checked_add(b).ok_or_else(misfit);
        let mul = |a: u64, b: u64| a.checked_mul(b).ok_or_else(misfit);
        Ok(match (map, made) {
            (Some(ValueMap::Transpose), &[&[rows, cols]]) => Vec::from([cols, rows]),
            (Some(ValueMap::TransposeEach), &[&[n, rows, cols]]) => Vec::from([n, cols, rows]),
            (Some(ValueMap::TransposeEach | ValueMap::Transpose), _) => return Err(misfit()),
            (Some(ValueMap::Squeeze | ValueMap::VHeadsOfConv), &[&[channels, kernel]]) => {
                Vec::from([channels, 1, kernel])
            }
            (Some(ValueMap::Column | ValueMap::NegExpColumn), &[&[n, 1]]) => Vec::from([n]),
            (Some(ValueMap::Groups), &[&[groups, each]]) => Vec::from([mul(groups, each)?]),
            (Some(ValueMap::Halves), &[&[n, a, cols], &[_, b, _]]) => Vec::from([n, add(a, b)?, cols]),
            (Some(ValueMap::Halves | ValueMap::Qkvz), &[&[a, cols], &[b, _]]) => {
                Vec::from([add(a, b)?, cols])
            }
            (
                Some(ValueMap::HalvesTransposed | ValueMap::EvenOddTransposed),
                &[&[n, a, rows], &[_, b, _]],
            ) => Vec::from([n, rows, add(a, b)?]),
            (Some(ValueMap::EvenOddTransposed), &[&[n, a], &[_, b]]) => Vec::from([n, add(a, b)?]),
            (Some(ValueMap::LatentKv), &[&[heads, rank, nope], &[_, v, _]]) => {
                Vec::from([mul(heads, add(nope, v)?)?, rank])
            }
            (Some(ValueMap::CutPositions), &[&[rows, cols]]) => {
                let pad = self.config.count(&["pad_token_id"]).ok_or("the file has no padding token")?;
                Vec::from([add(rows, add(pad, 1)?)?, cols])
            }
            (_, &[axes]) => axes.to_vec(),
            _ => return Err(misfit()),
        })
    }
}

/// A module whose absence tells that the model is of an older form, with other names for `module`.
fn partner(module: Module) -> Option<Module> {
    match module {
        Module::AttnNorm => Some(Module::AttnNorm2),
        Module::EncFfnUp => Some(Module::EncFfnGate),
        Module::DecFfnUp => Some(Module::DecFfnGate),
        _ => None,
    }
}

fn shape(axes: &[u64]) -> Result<Shape> {
    Shape::new(axes).ok_or_else(|| "its shape does not fit 64 bits".into())
}
