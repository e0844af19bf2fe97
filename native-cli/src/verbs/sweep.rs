//! `sweep`: the error of every type on every tensor, as stored or rotated.

use super::damage::{self, calibration};
use super::measure::{MeasureOptions, measure};
use super::target_size::measured_kl;
use crate::io::source::Source;
use crate::options::{CalibrationOptions, SweepOptions};
use quantoscope_core::DType;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::plan::measure::{every_encoding, sweep, sweep_encodings};
use quantoscope_core::plan::preview::{name, preview};
use quantoscope_core::plan::sample;
use quantoscope_core::quant::Encoding;
use quantoscope_core::recipe::rotation::RotationOptions;
use quantoscope_core::recipe::tensor_filter::Selection;
use quantoscope_core::recipe::{Recipe, TargetName};
use quantoscope_core::report::{
    RotationKlReport, RotationKlRow, RotationReport, SCHEMA_VERSION, StatsReport, rotated, stats,
};
use quantoscope_core::tensor::TensorInfo;

/// Measures the error of every type on every selected tensor.
///
/// # Errors
///
/// `no_such_tensor` if the filter selects nothing, and those of opening and reading the input.
pub fn run(options: &SweepOptions) -> Result<StatsReport> {
    let (source, types) = open(options)?;
    options.filter.check(&[&source.checkpoint])?;
    let selection = options.filter.in_checkpoint(&source.checkpoint);
    let wanted = |t: &TensorInfo| is_swept(options, selection, t);
    let mut plan = sweep(&source.checkpoint, &types, source.imatrix(), &wanted)?;
    if let Some(rows) = options.sample {
        sample(&mut plan, rows);
    }
    let collected = measure(&plan, &[&source], &measuring(options))?;
    Ok(stats(&plan, &collected, 0))
}

/// Measures the error of every type on every selected tensor, as stored and with each of the rotations. Uses
/// no importance matrix.
///
/// # Errors
///
/// As [`run`].
pub fn rotations(options: &SweepOptions, rotations: &[RotationOptions]) -> Result<RotationReport> {
    let (source, types) = open(options)?;
    options.filter.check(&[&source.checkpoint])?;
    let selection = options.filter.in_checkpoint(&source.checkpoint);
    let wanted = |t: &TensorInfo| is_swept(options, selection, t);
    let mut preview = preview(&source.checkpoint, &types, rotations, &wanted)?;
    if let Some(rows) = options.sample {
        sample(&mut preview.plan, rows);
    }
    let collected = measure(&preview.plan, &[&source], &measuring(options))?;
    Ok(rotated(&preview, &collected, 0))
}

/// Types whose divergence is measured if none are named.
const KL_TYPES: [DType; 3] = [DType::Q4_0, DType::Q4_1, DType::IQ4_NL];

/// Measures the divergence of the model's output from its source with all eligible tensors at each type, as stored and with each
/// of the rotations.
///
/// # Errors
///
/// `unsupported_architecture` if there is no forward pass for the model, `unsupported_rotation` if it cannot be rotated, `usage` for
/// options of weight errors, and those of reading.
pub fn rotation_kl(
    options: &SweepOptions,
    rotations: &[RotationOptions],
    calibrated: &CalibrationOptions,
) -> Result<RotationKlReport> {
    if options.sample.is_some() || !options.filter.is_empty() || options.journal.is_some() {
        let message = "--measure kl runs the whole model: it takes no --tensor, --include, --exclude, --sample or --journal";
        return Err(Error::new(Code::Usage, message));
    }
    let types = options.types.iter().map(|e| match e {
        Encoding::Type(dtype) => Ok(*dtype),
        other => Err(Error::new(Code::Usage, format!("--measure kl takes types of GGUF, not {other}"))),
    });
    let mut types = types.collect::<Result<Vec<_>>>()?;
    if types.is_empty() {
        types = KL_TYPES.to_vec();
    }
    let model = damage::open(&options.input)?;
    let window = calibration(calibrated, &model)?;
    let mut rows: Vec<RotationKlRow> = Vec::new();
    for &dtype in &types {
        let mut plain = None;
        for rotate in std::iter::once(None).chain(rotations.iter().copied().map(Some)) {
            let recipe = Recipe { rotate, ..Recipe::new(TargetName::Gguf, Some(dtype)) };
            let (kl, totals) =
                measured_kl(&options.input, &recipe, None, &window, &model, &options.resources)?;
            rows.push(RotationKlRow {
                dtype,
                rotation: rotate.as_ref().map_or_else(|| "none".into(), name),
                bytes: totals.total_bytes_out,
                quantized: totals.planned_quantized,
                kl,
                change: plain.map(|plain: f64| kl - plain),
            });
            plain.get_or_insert(kl);
        }
    }
    Ok(RotationKlReport {
        schema_version: SCHEMA_VERSION,
        model: options.input.to_string_lossy().into_owned(),
        tokens: window.window.targets.len() as u64,
        tokens_from: window.from.into(),
        seed: rotations.first().map_or(0, |r| r.seed),
        rows,
    })
}

/// The opened input and the types to measure.
fn open(options: &SweepOptions) -> Result<(Source, Vec<Encoding>)> {
    let source = Source::open_model(&options.input)?.weighted(options.imatrix.as_deref())?;
    let types = match options.types.as_slice() {
        [] if source.imatrix().is_some() => every_encoding(),
        [] => sweep_encodings(),
        named => named.to_vec(),
    };
    Ok((source, types))
}

/// Without a filter only matrices are measured: vectors are never quantized.
fn is_swept(options: &SweepOptions, selection: Selection<'_>, tensor: &TensorInfo) -> bool {
    selection.contains(&tensor.name) && (options.filter.includes() || tensor.shape.axes().len() >= 2)
}

fn measuring(options: &SweepOptions) -> MeasureOptions<'_> {
    MeasureOptions { resources: &options.resources, journal: options.journal.as_deref(), verb: "Sweeping" }
}
