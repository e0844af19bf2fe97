//! `inspect`: the container, metadata and tensors of a checkpoint, and statistics of its values.

use super::measure::{MeasureOptions, measure};
use crate::io::source::Source;
use crate::options::{InspectOptions, Statistics};
use quantoscope_core::error::Result;
use quantoscope_core::format::Checkpoint;
use quantoscope_core::plan::Warning;
use quantoscope_core::plan::measure as plan_measure;
use quantoscope_core::report::{StatsTensor, stats};
use quantoscope_core::tensor::{Name, TensorInfo};
use std::collections::BTreeMap;
use std::path::Path;

/// Bins of a histogram.
const BINS: usize = 64;

/// What was found in a checkpoint.
pub struct Inspection {
    source: Source,
    /// Indices of the selected tensors.
    selected: Vec<usize>,
    measured: Option<Measured>,
}

/// Statistics of the selected tensors.
struct Measured {
    tensors: BTreeMap<Name, StatsTensor>,
    warnings: Vec<Warning>,
}

impl Inspection {
    /// The path that was given.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// The headers.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.source.checkpoint
    }

    /// The selected tensors, in the order of the checkpoint.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> + Clone {
        self.selected.iter().filter_map(|i| self.source.checkpoint.tensors.get(*i))
    }

    /// Whether values were measured.
    pub fn is_measured(&self) -> bool {
        self.measured.is_some()
    }

    /// What was measured in the tensor called `name`.
    pub fn statistics(&self, name: &str) -> Option<&StatsTensor> {
        self.measured.as_ref()?.tensors.get(name)
    }

    /// Tensors that could not be measured.
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        let all = self.measured.iter().flat_map(|m| &m.warnings);
        all.filter(|w| matches!(w.code, "not_measured" | "no_scale" | "config_quantization"))
    }
}

/// Reads the headers of the input, and measures its values if statistics are wanted.
///
/// # Errors
///
/// `no_such_tensor` if the filter selects nothing, and those of opening and reading the input.
pub fn run(options: &InspectOptions) -> Result<Inspection> {
    let source = Source::open_model(&options.input)?;
    options.filter.check(&[&source.checkpoint])?;
    let selection = options.filter.in_checkpoint(&source.checkpoint);
    let takes = |t: &TensorInfo| selection.contains(&t.name);
    let plan = match options.statistics {
        Statistics::None => None,
        Statistics::Moments => Some(plan_measure::moments(&source.checkpoint, &takes)?),
        Statistics::Histograms => Some(plan_measure::stats(&source.checkpoint, &takes)?),
    };
    let measured = match plan {
        None => None,
        Some(plan) => {
            let collected = measure(&plan, &[&source], &measuring(options))?;
            let report = stats(&plan, &collected, BINS);
            let tensors = report.tensors.into_iter().map(|t| (t.name.clone(), t)).collect();
            Some(Measured { tensors, warnings: report.warnings })
        }
    };
    let tensors = source.checkpoint.tensors.iter().enumerate();
    let selected = tensors.filter(|(_, t)| takes(t)).map(|(i, _)| i).collect();
    Ok(Inspection { source, selected, measured })
}

fn measuring(options: &InspectOptions) -> MeasureOptions<'_> {
    MeasureOptions { resources: &options.resources, journal: options.journal.as_deref(), verb: "Measuring" }
}
