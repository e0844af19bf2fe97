//! The tensors of a plan that get their types by an allocation, and the plan that measures their errors.

use super::report::{SensitivityRow, TypeRow};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::imatrix::Imatrix;
use crate::format::{Checkpoint, Container};
use crate::model_pass::ModelTensors;
use crate::plan::convert;
use crate::plan::{Grid, MetricSet, Operand, Output, OutputOp, Plan, Segment, Side, ThinVec};
use crate::quant::{Encoding, ImportanceUse};
use crate::recipe::{Recipe, TargetName, can_target};
use crate::run::PlanMeasurements;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Outputs of a plan that get one type together: those that are made of the same source tensors. Nearly always a single one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeUnit {
    /// Indices of the outputs in the plan.
    pub outputs: Vec<usize>,
    /// The numbers of the tensors of the checkpoint that their values come from.
    pub sources: BTreeSet<u32>,
    /// The types that the blocks of all rows allow.
    pub types: Vec<DType>,
    /// The block type that the source has, whose bytes can be copied.
    pub copied: Option<DType>,
    /// The type that measures what the output of the model loses.
    pub base: DType,
}

/// The types that are chosen from if none are named. Where rows are whole blocks of 256, the types of blocks of 256 and Q8_0;
/// else those of blocks of 32.
pub const TYPES: [DType; 11] = [
    DType::Q2_K,
    DType::Q3_K,
    DType::IQ4_XS,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
    DType::MXFP4,
    DType::IQ4_NL,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
];

/// Values of a super-block.
const SUPER_BLOCK: u64 = 256;

/// The type that measures what the output of a model loses, if none is named.
pub const BASE: DType = DType::Q4_0;

/// The types of a default list that suit rows of `cols` values.
fn default_types(cols: u64) -> impl Iterator<Item = DType> {
    let super_blocks = cols.is_multiple_of(SUPER_BLOCK);
    let suits = move |d: &DType| *d == DType::Q8_0 || (d.block_len() == SUPER_BLOCK) == super_blocks;
    TYPES.into_iter().filter(suits)
}

/// Refuses types that cannot be chosen from.
///
/// # Errors
///
/// `usage` if a type needs an importance matrix, `unsupported_dtype` if it cannot be written to a GGUF.
pub fn check_types(types: &[DType]) -> Result<()> {
    for dtype in types {
        if !can_target(*dtype) {
            let message = format!("encoding to {dtype} is not supported");
            return Err(Error::new(Code::UnsupportedDtype, message));
        }
        if Encoding::Type(*dtype).importance() == ImportanceUse::Required {
            let message =
                format!("{dtype} needs an importance matrix and cannot be chosen by its error alone");
            return Err(Error::new(Code::Usage, message));
        }
    }
    Ok(())
}

/// A plan of a GGUF, and the units whose types are free.
#[derive(Clone, Debug)]
pub struct FreeTypes {
    /// The plan with one type for all units.
    pub plan: Plan,
    /// The units, in the order of the plan.
    pub units: Vec<TypeUnit>,
    /// The alignment of tensors in the file, in bytes.
    pub alignment: u64,
}

/// The recipe with one type for all weights.
fn uniform(recipe: &Recipe, dtype: DType) -> Recipe {
    Recipe { dtype: Some(dtype), preset: None, pure: true, ..recipe.clone() }
}

/// Finds the units: outputs whose type follows the recipe's, whatever other options say of single tensors.
///
/// # Errors
///
/// `usage` for another target than GGUF, a recipe that names a type or a preset, or if no type is free; those of
/// [`check_types`] and of [`convert::plan`].
pub fn free_types(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    imatrix: Option<&Imatrix>,
    types: &[DType],
    base: DType,
) -> Result<FreeTypes> {
    if recipe.to != TargetName::Gguf {
        return Err(Error::new(Code::Usage, "types are chosen for GGUF only; give --to gguf"));
    }
    check_types(types)?;
    check_types(&[base])?;
    let plan = convert::plan(checkpoint, &uniform(recipe, DType::Q8_0), imatrix, false)?;
    let other = convert::plan(checkpoint, &uniform(recipe, DType::Q5_0), imatrix, false)?;
    let pairs = plan.outputs.iter().zip(&other.outputs).enumerate();
    let free = pairs.filter(|(_, (a, b))| a.dtype == DType::Q8_0 && b.dtype == DType::Q5_0);
    let mut units: Vec<TypeUnit> = Vec::new();
    for (index, (output, _)) in free {
        let sources = output.segments.iter().map(|s| s.from.tensor).collect();
        let (mut outputs, mut all) = (Vec::from([index]), sources);
        // Outputs of the same source become one unit.
        let (same, rest): (Vec<TypeUnit>, Vec<TypeUnit>) =
            units.into_iter().partition(|u| !u.sources.is_disjoint(&all));
        for unit in same {
            outputs.extend(unit.outputs);
            all.extend(unit.sources);
        }
        outputs.sort_unstable();
        units = rest;
        units.push(TypeUnit { outputs, sources: all, types: Vec::new(), copied: None, base });
    }
    units.sort_by(|a, b| a.outputs.cmp(&b.outputs));
    for unit in &mut units {
        choose_types(checkpoint, &plan, unit, types, base);
    }
    if units.is_empty() {
        return Err(Error::new(Code::Usage, "the type of no tensor is free to be chosen"));
    }
    let alignment = match checkpoint.container {
        Container::Gguf => checkpoint.alignment,
        _ => ALIGNMENT,
    };
    Ok(FreeTypes { plan, units, alignment: alignment.max(1) })
}

/// The alignment of GGUF files that name none.
const ALIGNMENT: u64 = 32;

/// Sets the types of a unit: those that fit all its rows, and the type that its sources have, if that needs no decoding.
fn choose_types(checkpoint: &Checkpoint, plan: &Plan, unit: &mut TypeUnit, types: &[DType], base: DType) {
    let outputs = || unit.outputs.iter().filter_map(|i| plan.outputs.get(*i));
    let fits = |d: &DType| outputs().all(|o| o.shape.cols().is_multiple_of(d.block_len()));
    let cols = outputs().map(|o| o.shape.cols()).find(|c| !c.is_multiple_of(SUPER_BLOCK));
    let wanted: Vec<DType> = match types {
        [] => default_types(cols.unwrap_or(SUPER_BLOCK)).collect(),
        named => named.to_vec(),
    };
    let mut found: Vec<DType> = wanted.into_iter().filter(|d| fits(d)).collect();
    if found.is_empty() {
        found = default_types(1).filter(|d| fits(d)).collect();
    }
    let base = if fits(&base) { base } else { BASE };
    let mut stored = unit.sources.iter().filter_map(|i| checkpoint.tensors.get(*i as usize)).map(|t| {
        let whole = t.packed.is_none() && (can_target(t.dtype) || t.dtype.is_quantized());
        whole.then_some(t.dtype)
    });
    let first = stored.next().flatten();
    let kept = first.filter(|d| stored.all(|s| s == Some(*d)) && fits(d));
    let kept = kept.filter(|_| types.is_empty());
    let in_place = outputs().all(|o| o.segments.len() == 1 && !o.is_rotated());
    unit.copied = kept.filter(|d| d.is_quantized() && in_place);
    found.retain(|d| Some(*d) != unit.copied);
    found.extend(kept.filter(|d| !d.is_quantized()));
    found.sort_unstable();
    found.dedup();
    (unit.types, unit.base) = (found, base);
}

impl FreeTypes {
    /// The plan that measures the error of every type on every unit. Nothing is written.
    pub fn errors(&self, checkpoint: &Checkpoint) -> Plan {
        let mut outputs = Vec::new();
        for unit in &self.units {
            let encodings: Vec<Encoding> = unit.measured().into_iter().map(Encoding::Type).collect();
            for output in unit.outputs.iter().filter_map(|i| self.plan.outputs.get(*i)) {
                outputs.push(measured(checkpoint, output, &encodings));
            }
        }
        Plan { outputs, files: Vec::new(), conversion: None, warnings: Vec::new() }
    }

    /// The rows of [`FreeTypes::rows`] before anything is measured: names, weights and base types.
    pub fn unmeasured(&self) -> Vec<SensitivityRow> {
        self.rows(&PlanMeasurements::new(&Plan {
            outputs: Vec::new(),
            files: Vec::new(),
            conversion: None,
            warnings: Vec::new(),
        }))
    }

    /// What was measured of each unit, without its divergence. `measured` is that of the plan of [`FreeTypes::errors`].
    pub fn rows(&self, measured: &PlanMeasurements) -> Vec<SensitivityRow> {
        let mut next = 0;
        self.units
            .iter()
            .map(|unit| {
                let row = self.row(unit, measured, next);
                next += unit.outputs.len();
                row
            })
            .collect()
    }

    fn row(&self, unit: &TypeUnit, measured: &PlanMeasurements, first: usize) -> SensitivityRow {
        let outputs: Vec<&Output> = unit.outputs.iter().filter_map(|i| self.plan.outputs.get(*i)).collect();
        let dtypes = unit.measured();
        // Sums over the outputs: of squared errors, and of squares.
        let mut errors: Vec<Option<(f64, f64)>> = dtypes.iter().map(|_| Some((0.0, 0.0))).collect();
        for at in first..first + unit.outputs.len() {
            let Some(measured) = measured.output(at) else { continue };
            for (sum, result) in errors.iter_mut().zip(measured.encodings()) {
                let pair = result.ok().flatten();
                let squares = pair.map(|p| {
                    let e2 = p.mse() * p.n as f64;
                    (e2, p.relative_error().filter(|r| *r > 0.0).map_or(0.0, |r| e2 / (r * r)))
                });
                *sum = sum.zip(squares).map(|((e, r), (e2, r2))| (e + e2, r + r2));
            }
        }
        let norm = errors.iter().flatten().map(|(_, r2)| *r2).fold(0.0, f64::max);
        let stored = |d: DType| -> u64 {
            let one = |o: &&Output| {
                let bytes = d.bytes_for(o.shape.numel()).unwrap_or(u64::MAX);
                bytes.checked_next_multiple_of(self.alignment).unwrap_or(u64::MAX)
            };
            outputs.iter().map(one).fold(0, u64::saturating_add)
        };
        let weights = outputs.iter().map(|o| o.shape.numel()).fold(0, u64::saturating_add);
        let base = dtypes.iter().position(|d| *d == unit.base).and_then(|i| *errors.get(i)?);
        let row = |dtype: DType, squared_error: f64| {
            let relative_error = if norm > 0.0 { libm::sqrt(squared_error / norm) } else { 0.0 };
            TypeRow { dtype, bytes: stored(dtype), squared_error, relative_error, predicted_kl: None }
        };
        let types = dtypes.iter().zip(&errors).filter(|(d, _)| unit.types.contains(d));
        let types = types.filter_map(|(d, e)| Some(row(*d, e.map(|(e2, _)| e2)?)));
        let types = types.chain(unit.copied.map(|d| row(d, 0.0)));
        SensitivityRow {
            name: outputs.first().map(|o| String::from(&o.name)).unwrap_or_default(),
            with: outputs.iter().skip(1).map(|o| String::from(&o.name)).collect(),
            group: None,
            weights,
            base: unit.base,
            squared_error: base.map(|(e2, _)| e2),
            squared_norm: norm,
            kl: None,
            sensitivity: None,
            rank: None,
            types: types.collect(),
        }
    }

    /// The tensors of a model that each unit is, by name.
    pub fn tensors(&self, model: &ModelTensors) -> Vec<Vec<String>> {
        let mut of_source: BTreeMap<u32, usize> = BTreeMap::new();
        for (index, unit) in self.units.iter().enumerate() {
            of_source.extend(unit.sources.iter().map(|s| (*s, index)));
        }
        let mut names: Vec<Vec<String>> = self.units.iter().map(|_| Vec::new()).collect();
        for (name, sources) in model.sources() {
            let unit = sources.iter().find_map(|s| of_source.get(s).copied());
            if let Some(names) = unit.and_then(|u| names.get_mut(u)) {
                names.push(name.into());
            }
        }
        names
    }
}

impl TypeUnit {
    /// The types whose errors are measured: the base first, then its own types.
    fn measured(&self) -> Vec<DType> {
        let others = self.types.iter().copied().filter(|d| *d != self.base);
        core::iter::once(self.base).chain(others).collect()
    }
}

/// The output that measures what each encoding does to the values of `output`.
fn measured(checkpoint: &Checkpoint, output: &Output, encodings: &[Encoding]) -> Output {
    let metrics = MetricSet { encodings: encodings.to_vec().into(), ..MetricSet::default() };
    let mut segments: Vec<Segment> = output.segments.iter().cloned().collect();
    let grid = Grid::of(&output.shape);
    let source = segments.first().map(|s| s.from.tensor as usize);
    let tensor = source.and_then(|i| Some((i, checkpoint.tensors.get(i)?)));
    if let (true, Some((index, tensor))) = (segments.iter().all(|s| s.op == OutputOp::Copy), tensor) {
        // Copies run over bytes.
        segments =
            Vec::from([Segment::whole(grid, Operand::whole(Side::Source, index, tensor), OutputOp::Measure)]);
    }
    segments.iter_mut().for_each(|s| {
        s.op = OutputOp::Measure;
        s.importance = None;
    });
    Output {
        place: None,
        streams: ThinVec::new(),
        grid,
        segments: segments.into(),
        metrics,
        ..output.clone()
    }
}
