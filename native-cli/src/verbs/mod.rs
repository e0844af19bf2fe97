//! One file per verb: options in, report out. These functions are what a language binding calls; the command
//! line adds only arguments, text and exit codes.
//!
//! A verb opens checkpoints, plans, drives the engines and returns what was measured. It prints nothing but a
//! progress bar, and that only where its options allow one. Knows no command line.

pub mod bench;
pub mod compare;
pub mod convert;
pub mod engines;
pub mod inspect;
pub mod metadata;
pub mod plan;
pub mod quantize;
pub mod rotate;
pub mod split;
pub mod sweep;
pub mod verify;

use crate::drive::{Resources, RunRequest, drive};
use crate::io::source::Source;
use crate::options::ResourceOptions;
use crate::render::progress::Progress;
use quantoscope_core::error::Result;
use quantoscope_core::plan::Plan;
use quantoscope_core::run::PlanMeasurements;
use std::num::NonZero;
use std::thread;

/// Worker threads: as many as `wanted`, or one per processor.
fn threads(wanted: Option<u32>) -> u32 {
    wanted.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get) as u32)
}

/// Runs a plan that writes nothing.
fn measure(
    plan: &Plan,
    sources: &[&Source],
    options: &ResourceOptions,
    verb: &'static str,
) -> Result<PlanMeasurements> {
    crate::signals::watch();
    let resources = Resources::new(options)?.with_selected_engine(plan)?;
    let progress = Progress::new(plan, verb, !options.progress);
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
