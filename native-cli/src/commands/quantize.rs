//! `quantize`: plan, write, measure, report.

use super::plan::recipe;
use crate::args::QuantizeArgs;
use crate::drive::{Resources, RunOutcome, RunRequest, Sink, drive};
use crate::exit::no_thread;
use crate::io::output::{Intent, OutputFiles, check_space};
use crate::io::source::Source;
use crate::io::target::{Permission, target};
use crate::model_equivalence;
use crate::render;
use crate::render::events::{Event, Events};
use crate::render::progress::Progress;
use crate::render::quantized::{Document, write_text};
use crate::signals;
use crate::system_limits::fitting;
use quantoscope_core::error::{Code, Error, ErrorKind, Result};
use quantoscope_core::plan::{Plan, convert};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::report::{ConvertReport, EquivalenceView, RunInfo, converted};
use quantoscope_core::run::PlanMeasurements;
use quantoscope_core::schedule::{Budget, schedule};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

pub fn run(args: &QuantizeArgs) -> Result<ExitCode> {
    make(args, &recipe(&args.recipe, Some(&args.output))?)
}

/// Makes what `recipe` says of what `args` names.
pub fn make(args: &QuantizeArgs, recipe: &Recipe) -> Result<ExitCode> {
    let started = Instant::now();
    let resources = resources(args, recipe)?;
    let source = Source::open(&args.input)?.weighted(args.recipe.weights.path.as_deref())?;
    let mut plan = convert::plan(&source.checkpoint, recipe, source.imatrix(), !args.no_measure)?;
    let directory = plan.conversion.as_ref().is_some_and(|c| c.directory);
    let out = target(&[&source], &args.output, directory, permission(args))?;
    if directory {
        source.check_config()?;
    }
    source.fill_copies(&mut plan, !args.dry_run)?;
    let task = QuantizeTask { args, sources: &[&source], plan: &plan, out: &out, resources, started };
    task.execute(|quiet| model_equivalence::check(&args.gate, &source, &plan, resources, quiet))
}

/// A dry run may say what would be replaced.
pub fn permission(args: &QuantizeArgs) -> Permission {
    Permission { force: args.force || args.dry_run, resume: args.resume }
}

/// A plan, where it reads and where it writes.
pub struct QuantizeTask<'a> {
    pub args: &'a QuantizeArgs,
    /// The source of the tensors, and the other side of the plan where it has one.
    pub sources: &'a [&'a Source],
    pub plan: &'a Plan,
    pub out: &'a Path,
    pub resources: Resources,
    pub started: Instant,
}

impl QuantizeTask<'_> {
    /// Writes and reports what is planned, if `gate` lets it; for a dry run, reports it only.
    pub fn execute(&self, gate: impl FnOnce(bool) -> Result<Option<EquivalenceView>>) -> Result<ExitCode> {
        let QuantizeTask { args, sources, plan, out, resources, started } = *self;
        let Some(source) = sources.first() else { return Err(Error::new(Code::Io, "nothing to read")) };
        if args.dry_run {
            return dry_run(args, source, plan, resources);
        }
        check_space(plan, out)?;
        let resources = resources.with_selected_engine(plan)?;
        let quiet = args.json || args.events;
        if !quiet {
            render::warn(&plan.warnings);
        }
        let held = gate(quiet)?;
        let events = Events::new(args.events, source, plan);
        events.start(args, false)?;
        let rotates = plan.conversion.as_ref().is_some_and(|c| c.rotation.is_some());
        let (written, hashes) = std::thread::scope(|scope| -> Result<_> {
            let start = || std::thread::Builder::new().spawn_scoped(scope, || source.hashes());
            let hashes = rotates.then(start).transpose().map_err(|e| no_thread(&e))?;
            let written = write(args, out, sources, plan, resources, &events);
            let dead = |_| Err(Error::new(Code::Io, "the source could not be hashed"));
            Ok((written, hashes.map_or(Ok(Vec::new()), |h| h.join().unwrap_or_else(dead))))
        })?;
        let driven = written?;
        let run = resources.run(started, &driven);
        let mut report = report(source, plan, Some(&driven.collected))?;
        report.source_sha256 = hashes?;
        report.gate = held;
        if !quiet {
            render::warn(report.warnings.get(plan.warnings.len()..).unwrap_or_default());
        }
        events.done(&report, Some(&run), false)?;
        finish(args, &report, Some(&run))
    }
}

/// Windows of rotated tensors hold whole columns, so they get more room where nobody says how much.
pub fn resources(args: &QuantizeArgs, recipe: &Recipe) -> Result<Resources> {
    let mut resources = Resources::new(&args.work)?;
    if recipe.rotate.is_some() && args.work.memory.is_none() {
        let Budget { workers, .. } = resources.budget;
        resources.budget = fitting(Budget { memory: u64::from(workers) * (128 << 20), workers });
    }
    Ok(resources)
}

fn report<'a>(
    source: &'a Source,
    plan: &'a Plan,
    collected: Option<&'a PlanMeasurements>,
) -> Result<ConvertReport<'a>> {
    let none = || Error::new(Code::Io, "the plan is not one of a conversion");
    converted(&source.checkpoint, plan, collected).ok_or_else(none)
}

fn dry_run(args: &QuantizeArgs, source: &Source, plan: &Plan, resources: Resources) -> Result<ExitCode> {
    // A plan that could not run in this budget is no plan.
    drop(schedule(plan, &resources.budget)?);
    let report = report(source, plan, None)?;
    let events = Events::new(args.events, source, plan);
    events.start(args, true)?;
    if args.events {
        for index in 0..plan.outputs.len() {
            events.tensor(index, None)?;
        }
    } else if !args.json {
        render::warn(&plan.warnings);
    }
    events.done(&report, None, true)?;
    finish(args, &report, None)
}

fn finish(args: &QuantizeArgs, report: &ConvertReport<'_>, run: Option<&RunInfo>) -> Result<ExitCode> {
    if args.json {
        render::json(&Document::new(report, run, args.dry_run))?;
    } else if !args.events {
        render::stream(|out| write_text(out, report, run, Some(&args.output)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the artefact. Whatever fails, nothing stands under the final name, and what was written is removed, unless
/// it can be resumed.
fn write(
    args: &QuantizeArgs,
    out: &Path,
    sources: &[&Source],
    plan: &Plan,
    mut resources: Resources,
    events: &Events<'_>,
) -> Result<RunOutcome> {
    signals::watch();
    signals::survive_file_limits();
    let fingerprint = fingerprint(sources, plan)?;
    let intent =
        Intent { plan, permission: permission(args), fingerprint: &fingerprint, budget: resources.budget };
    let begun = OutputFiles::begin(out, intent)?;
    resources.budget = begun.budget;
    let artefact = begun.artefact;
    let progress = Progress::new(plan, verb(plan), args.events || args.json);
    let announce = |index: usize, collected: &PlanMeasurements| {
        // A broken standard output is found again when the run ends.
        let _ = events.tensor(index, Some(collected));
    };
    let doubt = || {
        if let Some(device) = resources.engine.device() {
            let _ = events.device_ended(device);
            if !(args.events || args.json) {
                let name = device.device().name();
                render::note(&format!("warning: {name} made wrong bytes; everything begins anew without it"));
            }
        }
    };
    let work = RunRequest {
        plan,
        sources,
        resources,
        progress: &progress,
        on_output: &announce,
        on_device_fault: &doubt,
    };
    let sink = Sink { artefact: &artefact, journal: begun.journal, records: begun.records };
    let collected = drive(&work, Some(sink));
    progress.finish();
    match collected {
        Ok(done) => {
            let unchanged = sources.iter().try_for_each(|source| source.check_unchanged());
            unchanged.inspect_err(|_| artefact.discard())?;
            artefact.commit()?;
            Ok(done)
        }
        Err(e) => {
            let keep = args.resume && matches!(e.code().kind(), ErrorKind::Interrupted | ErrorKind::System);
            if !keep {
                artefact.discard();
            }
            Err(e)
        }
    }
}

fn verb(plan: &Plan) -> &'static str {
    match &plan.conversion {
        Some(c) if !c.recipe.quantizes() && c.rotation.is_some() => "Rotating",
        _ => "Quantizing",
    }
}

/// Whatever decides the bytes: the plan, the sources, the version.
fn fingerprint(sources: &[&Source], plan: &Plan) -> Result<[u8; 32]> {
    let mut salt = env!("CARGO_PKG_VERSION").as_bytes().to_vec();
    for source in sources {
        salt.extend(source.salt()?);
    }
    Ok(plan.fingerprint(&salt))
}

/// The event for one run or another, so that `args` stays out of the renderer.
impl Events<'_> {
    fn start(&self, args: &QuantizeArgs, dry_run: bool) -> Result<()> {
        let path = |p: &Path| p.to_string_lossy().into_owned();
        self.emit(|plan, _| Event::start(plan, path(&args.input), path(&args.output), dry_run))
    }
}
