//! Types for a size: what `quantize --target-size` and `plan --target-size` choose, and what `--rotate auto` decides.

use super::damage::{self, CalibrationWindow, SensitivityWork, calibration};
use super::eval::{OpenedModel, about};
use super::passes::PassResources;
use super::sensitivity::check_same;
use crate::exit::io_error;
use crate::io::source::Source;
use crate::options::{AutoRotation, DamageSource, ModelPath, ResourceOptions, TargetOptions};
use quantoscope_core::DType;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::Checkpoint;
use quantoscope_core::model_pass::ModelTensors;
use quantoscope_core::plan::{Plan, Totals, convert};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::presets::Preset;
use quantoscope_core::report::{RotationChoiceView, TargetView};
use quantoscope_core::sensitivity::fit::{CurvePoint, SizeLimit, damage_of, fit};
use quantoscope_core::sensitivity::report::{SensitivityReport, SensitivityRow};
use quantoscope_core::sensitivity::units::{FreeTypes, TYPES, free_types};
use std::path::Path;

/// A recipe that fits a size, and its report.
pub(super) struct FittedTarget {
    pub recipe: Recipe,
    pub view: TargetView,
}

/// The tensors with free types, and the damage of each type to them.
struct MeasuredTypes {
    free: FreeTypes,
    rows: Vec<SensitivityRow>,
    view: TargetView,
}

/// The input of a choice of types.
pub(super) struct TargetWork<'a> {
    pub input: &'a ModelPath,
    pub recipe: &'a Recipe,
    pub imatrix: Option<&'a Path>,
    pub target: &'a TargetOptions,
}

impl TargetWork<'_> {
    fn open(&self) -> Result<Source> {
        Source::open_for(self.input, self.recipe)?.weighted(self.imatrix)
    }

    /// Chooses a type for each tensor.
    ///
    /// # Errors
    ///
    /// `usage` if the size is too small or the recipe names a type for all; those of measuring.
    pub(super) fn choose(&self) -> Result<FittedTarget> {
        let source = self.open()?;
        let MeasuredTypes { free, rows, mut view } = self.measured(&source, &self.target.types)?;
        let limit = self.target.limit;
        let fitted = fit(&source.checkpoint, self.recipe, source.imatrix(), &free, &rows, limit)?;
        view.bytes = fitted.bytes;
        // Without a single divergence, damage has no unit.
        let measured = rows.iter().any(|r| r.sensitivity.is_some());
        view.predicted_kl = (measured && fitted.damage.is_finite()).then_some(fitted.damage);
        Ok(FittedTarget { recipe: fitted.recipe, view })
    }

    /// Bytes, error and predicted damage of each tensor at each of these types.
    fn measured(&self, source: &Source, types: &[DType]) -> Result<MeasuredTypes> {
        let TargetOptions { limit, ref damage, ref calibration, ref resources, .. } = *self.target;
        if self.recipe.dtype.is_some() || self.recipe.preset.is_some() {
            let message = "a target size chooses the types: it takes neither --type nor --recipe";
            return Err(Error::new(Code::Usage, message));
        }
        let free = free_types(&source.checkpoint, self.recipe, source.imatrix(), types, calibration.base)?;
        let work = SensitivityWork { source, free: &free, journal: None, resources };
        let mut view = TargetView {
            target_bytes: match limit {
                SizeLimit::Bytes(bytes) => Some(bytes),
                SizeLimit::BitsPerWeight(_) => None,
            },
            target_bits_per_weight: match limit {
                SizeLimit::Bytes(_) => None,
                SizeLimit::BitsPerWeight(bits) => Some(bits),
            },
            bytes: 0,
            chosen_by: "heuristic",
            tokens: None,
            tokens_from: None,
            base: None,
            grouped: false,
            predicted_kl: None,
            measured_kl: None,
            checked_tokens: None,
            checked_tokens_from: None,
        };
        let rows = match damage {
            DamageSource::Heuristic => work.errors()?,
            DamageSource::File(_) if self.recipe.rotate.is_some() => {
                let message = "--sensitivity is of the model without a rotation; leave it out, and it is measured with it";
                return Err(Error::new(Code::Usage, message));
            }
            DamageSource::File(path) => {
                let report = read_report(path)?;
                if let Some(architecture) = architecture(&source.checkpoint) {
                    report.check_architecture(&architecture).map_err(|e| in_file(e, path))?;
                }
                let mut rows = work.errors()?;
                report.apply(&mut rows).map_err(|e| in_file(e, path))?;
                view = TargetView {
                    chosen_by: "sensitivity_file",
                    tokens: Some(report.tokens),
                    tokens_from: Some(report.tokens_from.clone()),
                    base: Some(report.base),
                    grouped: report.grouped,
                    ..view
                };
                rows
            }
            DamageSource::Measured => self.measure(&work, &mut view)?,
        };
        Ok(MeasuredTypes { free, rows, view })
    }

    /// Measures errors and divergences.
    fn measure(&self, work: &SensitivityWork<'_>, view: &mut TargetView) -> Result<Vec<SensitivityRow>> {
        let hint = |e: Error| match e.code() {
            code @ (Code::UnsupportedArchitecture | Code::UnsupportedForward) => {
                let message =
                    format!("{}; --no-sensitivity chooses types by weight errors alone", e.detail().message);
                e.explained(code, message)
            }
            _ => e,
        };
        let options = &self.target.calibration;
        let model = damage::open(self.input).map_err(hint)?;
        check_same(work.source, &model.source)?;
        let CalibrationWindow { window, from } = calibration(options, &model)?;
        let (rows, grouped) = match self.recipe.rotate {
            None => work.measure(&model.source, &model.tensors, &window, options.grouping)?,
            Some(_) => {
                let rotated = ModelTensors::planned(&work.source.checkpoint, &work.free.plan)?;
                rotated.check_sensitivity(&self.input.to_string_lossy())?;
                work.measure(work.source, &rotated, &window, options.grouping)?
            }
        };
        *view = TargetView {
            chosen_by: "measured",
            tokens: Some(window.targets.len() as u64),
            tokens_from: Some(from.into()),
            base: Some(options.base),
            grouped,
            ..view.clone()
        };
        Ok(rows)
    }

    /// Sizes and predicted damage of allocations from the smallest to the largest, and of the presets.
    ///
    /// # Errors
    ///
    /// As [`TargetWork::choose`].
    pub(super) fn curve(&self) -> Result<Vec<CurvePoint>> {
        let source = self.open()?;
        let checkpoint = &source.checkpoint;
        let presets = presets(checkpoint, self.recipe, &source)?;
        let mut types: Vec<DType> = match self.target.types.as_slice() {
            [] => TYPES.to_vec(),
            named => named.to_vec(),
        };
        let own = types.clone();
        types.extend(presets.iter().flat_map(|(_, plan)| &plan.outputs).map(|o| o.dtype));
        types.retain(|d| d.is_quantized());
        types.sort_unstable();
        types.dedup();
        let MeasuredTypes { free, rows, .. } = self.measured(&source, &types)?;
        let mut points: Vec<CurvePoint> = presets
            .iter()
            .filter_map(|(preset, plan)| {
                Some(point(plan, damage_of(&free, &rows, plan)?, Some(preset.name().to_string())))
            })
            .collect();
        let chosen = with_types(&rows, &own);
        let sizes = |most: bool| -> u64 {
            let end = |r: &SensitivityRow| {
                let bytes = r.types.iter().map(|t| t.bytes);
                if most { bytes.max() } else { bytes.min() }
            };
            chosen.iter().filter_map(end).sum()
        };
        let beside = free.plan.conversion.as_ref().map_or(0, |c| c.totals.total_bytes_out);
        let uniform: u64 = free
            .units
            .iter()
            .flat_map(|u| &u.outputs)
            .filter_map(|i| free.plan.outputs.get(*i))
            .filter_map(|o| o.dtype.bytes_for(o.shape.numel()))
            .sum();
        let beside = beside.saturating_sub(uniform);
        // A little more than the least: the header holds the recipe.
        let (least, most) = (sizes(false) + beside, sizes(true) + beside);
        for step in 0..=CURVE_STEPS {
            let budget = least + (most - least) / CURVE_STEPS * step + (beside / 8).max(1 << 16);
            let limit = SizeLimit::Bytes(budget);
            let fitted = match fit(checkpoint, self.recipe, source.imatrix(), &free, &chosen, limit) {
                // The header is longer than it was guessed.
                Err(e) if e.code() == Code::Usage && step == 0 => continue,
                fitted => fitted?,
            };
            let plan = convert::plan(checkpoint, &fitted.recipe, source.imatrix(), false)?;
            points.push(point(&plan, fitted.damage, None));
        }
        points.sort_by(|a, b| a.bytes.cmp(&b.bytes).then_with(|| a.preset.cmp(&b.preset)));
        points.dedup();
        Ok(points)
    }
}

/// Steps of the curve.
const CURVE_STEPS: u64 = 12;

/// Rows with these types only; all of a row's if it has none of them.
fn with_types(rows: &[SensitivityRow], types: &[DType]) -> Vec<SensitivityRow> {
    let one = |row: &SensitivityRow| {
        let mut kept = row.clone();
        kept.types.retain(|t| types.contains(&t.dtype));
        if kept.types.is_empty() { row.clone() } else { kept }
    };
    rows.iter().map(one).collect()
}

fn point(plan: &Plan, damage: f64, preset: Option<String>) -> CurvePoint {
    let totals = plan.conversion.as_ref().map(|c| c.totals);
    CurvePoint {
        bytes: totals.map_or(0, |t| t.total_bytes_out),
        bits_per_weight: totals.and_then(|t| t.bits_per_weight),
        predicted_kl: damage,
        preset,
    }
}

/// The plans of all presets of block types that need no importance matrix.
fn presets(checkpoint: &Checkpoint, recipe: &Recipe, source: &Source) -> Result<Vec<(Preset, Plan)>> {
    let mut found = Vec::new();
    for &preset in Preset::ALL.iter().filter(|p| p.base().is_quantized()) {
        let recipe = Recipe { preset: Some(preset), lenient: true, ..recipe.clone() };
        match convert::plan(checkpoint, &recipe, source.imatrix(), false) {
            Ok(plan) => found.push((preset, plan)),
            Err(e) if e.code() == Code::NeedsImportance => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

/// The `model_type` of a checkpoint, as a forward pass names it; `None` where there is no configuration.
fn architecture(checkpoint: &Checkpoint) -> Option<String> {
    ModelTensors::of(checkpoint).ok().map(|model| model.config.model_type)
}

fn in_file(error: Error, path: &Path) -> Error {
    let message = format!("{}: {}", path.display(), error.detail().message);
    let code = error.code();
    error.explained(code, message)
}

/// Bytes of a report.
const REPORT_LIMIT: u64 = 1 << 30;

/// Reads the JSON of `sensitivity`.
fn read_report(path: &Path) -> Result<SensitivityReport> {
    let about = |e: std::io::Error| io_error(&e, format!("cannot read {}", path.display()));
    if std::fs::metadata(path).map_err(about)?.len() > REPORT_LIMIT {
        let message = format!("{} has more than {REPORT_LIMIT} bytes", path.display());
        return Err(Error::new(Code::TooMany, message));
    }
    let bytes = std::fs::read(path).map_err(about)?;
    SensitivityReport::parse(&bytes).map_err(|e| in_file(e, path))
}

/// The mean divergence of what a recipe makes of a model from the model, in nats a token, and the totals of its plan.
///
/// # Errors
///
/// `unsupported_architecture` if there is no forward pass for the model; those of planning and reading.
pub(super) fn measured_kl(
    input: &ModelPath,
    recipe: &Recipe,
    imatrix: Option<&Path>,
    window: &CalibrationWindow,
    model: &OpenedModel,
    resources: &ResourceOptions,
) -> Result<(f64, Totals)> {
    let source = Source::open_for(input, recipe)?.weighted(imatrix)?;
    let plan = convert::plan(&source.checkpoint, recipe, source.imatrix(), false)?;
    let written = model.tensors.written(&source.checkpoint, &plan).map_err(|e| about(e, input))?;
    check_same(&source, &model.source)?;
    let passes = PassResources::new(resources)?;
    let kl = passes.divergence((&source, &written), (&model.source, &model.tensors), &window.window)?;
    let none = || Error::new(Code::Io, "the plan is not one of a conversion");
    Ok((kl, plan.conversion.as_ref().map(|c| c.totals).ok_or_else(none)?))
}

/// A recipe, and what its types were chosen for.
pub(super) struct ChosenRecipe {
    pub recipe: Recipe,
    pub target: Option<TargetView>,
}

/// The recipe with types for the target, if there is one.
pub(super) fn chosen(
    input: &ModelPath,
    recipe: Recipe,
    imatrix: Option<&Path>,
    target: Option<&TargetOptions>,
) -> Result<ChosenRecipe> {
    let Some(target) = target else { return Ok(ChosenRecipe { recipe, target: None }) };
    let work = TargetWork { input, recipe: &recipe, imatrix, target };
    let mut fitted = work.choose()?;
    if target.check {
        check(&work, &mut fitted)?;
    }
    Ok(ChosenRecipe { recipe: fitted.recipe, target: Some(fitted.view) })
}

/// Measures the divergence of what was planned.
fn check(work: &TargetWork<'_>, fitted: &mut FittedTarget) -> Result<()> {
    let model = damage::open(work.input)?;
    let window = calibration(&work.target.calibration, &model)?;
    let resources = &work.target.resources;
    let (kl, _) = measured_kl(work.input, &fitted.recipe, work.imatrix, &window, &model, resources)?;
    fitted.view.measured_kl = Some(kl);
    fitted.view.checked_tokens = Some(window.window.targets.len() as u64);
    fitted.view.checked_tokens_from = Some(window.from.into());
    Ok(())
}

/// Decides by the model's output whether a rotation helps: `recipes` are without and with it.
pub(super) fn decide(
    input: &ModelPath,
    imatrix: Option<&Path>,
    auto: &AutoRotation,
    resources: &ResourceOptions,
    plain: &Recipe,
    rotated: &Recipe,
) -> Result<RotationChoiceView> {
    let model = damage::open(input)?;
    let window = calibration(&auto.calibration, &model)?;
    let kl = |recipe| measured_kl(input, recipe, imatrix, &window, &model, resources);
    let (kl_plain, kl_rotated) = (kl(plain)?.0, kl(rotated)?.0);
    Ok(RotationChoiceView {
        rotated: kl_rotated < kl_plain,
        kl_plain,
        kl_rotated,
        tokens: window.window.targets.len() as u64,
        tokens_from: window.from.into(),
    })
}
