//! One file per verb. A verb opens, plans, drives and prints; it never computes.

pub mod bench;
pub mod compare;
pub mod engines;
pub mod help;
pub mod inspect;
pub mod plan;
pub mod quantize;
pub mod rotate;
mod rotations;
pub mod sweep;
pub mod verify;

use crate::args::{FilterArgs, OutputFormat};
use crate::drive::{Resources, RunRequest, drive};
use crate::io::source::Source;
use crate::render::progress::Progress;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::plan::Plan;
use quantoscope_core::run::PlanMeasurements;
use std::io::IsTerminal;

/// The tensors that a filter lets through; all, where it names none.
struct TensorFilter(Option<GlobSet>);

impl TensorFilter {
    fn new(filter: &FilterArgs) -> Result<TensorFilter> {
        if filter.tensors.is_empty() {
            return Ok(TensorFilter(None));
        }
        let usage = |e: globset::Error| Error::new(Code::Usage, e.to_string());
        let mut set = GlobSetBuilder::new();
        for pattern in &filter.tensors {
            set.add(GlobBuilder::new(pattern).build().map_err(usage)?);
        }
        Ok(TensorFilter(Some(set.build().map_err(usage)?)))
    }

    fn takes(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|set| set.is_match(name))
    }

    /// A filter that lets nothing through is a mistake, and is told.
    fn check(&self, source: &Source) -> Result<()> {
        if self.0.is_some() && !source.checkpoint.tensors.iter().any(|t| self.takes(&t.name)) {
            return Err(Error::new(Code::NoSuchTensor, "no tensor matches --tensor"));
        }
        Ok(())
    }
}

/// The format that was asked for, or the one that fits where the output goes.
fn format(asked: Option<OutputFormat>, json: bool) -> OutputFormat {
    match asked {
        _ if json => OutputFormat::Json,
        Some(format) => format,
        None if std::io::stdout().is_terminal() => OutputFormat::Table,
        None => OutputFormat::Tsv,
    }
}

/// A count and its noun.
fn plural(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Runs a plan that writes nothing.
fn measure(
    plan: &Plan,
    sources: &[&Source],
    resources: Resources,
    verb: &'static str,
    quiet: bool,
) -> Result<PlanMeasurements> {
    crate::signals::watch();
    let resources = resources.with_selected_engine(plan)?;
    let progress = Progress::new(plan, verb, quiet);
    let work = RunRequest {
        plan,
        sources,
        resources,
        progress: &progress,
        on_output: &|_, _| {},
        on_device_fault: &|| {},
    };
    let collected = drive(&work, None);
    progress.finish();
    let collected = collected?.collected;
    sources.iter().try_for_each(|source| source.check_unchanged())?;
    Ok(collected)
}
