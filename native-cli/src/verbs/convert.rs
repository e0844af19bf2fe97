//! A conversion: plan, write, measure, report. Shared by `quantize` and `rotate`.

use crate::drive::{Resources, RunOutcome, RunRequest, Sink, drive};
use crate::exit::no_thread;
use crate::io::output::{Intent, OutputFiles, check_space};
use crate::io::source::Source;
use crate::io::target::{OutputForm, Permission, set_stem, target};
use crate::model_equivalence;
use crate::options::{EquivalenceOptions, ModelPath, OutputOptions, ResourceOptions};
use crate::render::progress::Progress;
use crate::signals;
use crate::system_limits::fitting;
use quantoscope_accel::device::Offload;
use quantoscope_core::error::{Code, Error, ErrorKind, Result};
use quantoscope_core::format::Checkpoint;
use quantoscope_core::plan::rotate::tied_head::TiedHead;
use quantoscope_core::plan::{Plan, convert, target as plan_target};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::report::{
    ConvertReport, EquivalenceView, RotationChoiceView, RunInfo, TargetView, converted,
};
use quantoscope_core::run::PlanMeasurements;
use quantoscope_core::schedule::{Budget, schedule};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Receives what happens during a conversion. Every method does nothing by default.
pub trait ConversionObserver: Sync {
    /// The plan is complete, and only headers were read.
    fn planned(&self, _plan: &Plan) {}

    /// The first tensor is about to be written.
    ///
    /// # Errors
    ///
    /// Any error ends the conversion.
    fn started(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    /// Output `index` of the plan is written, or planned in a dry run, where `measured` is absent. Called in
    /// the order of the outputs; after [`Self::device_failed`] from the first one on again.
    ///
    /// # Errors
    ///
    /// Any error ends a dry run. Otherwise the conversion goes on.
    fn tensor_finished(
        &self,
        _source: &Checkpoint,
        _plan: &Plan,
        _index: usize,
        _measured: Option<&PlanMeasurements>,
    ) -> Result<()> {
        Ok(())
    }

    /// A device returned wrong bytes. The conversion restarts without it.
    fn device_failed(&self, _device: &Offload) {}
}

/// Ignores everything.
impl ConversionObserver for () {}

/// A finished conversion, or the plan of a dry run.
pub struct ConversionResult {
    /// The source of the tensors comes first.
    sources: Vec<Source>,
    plan: Plan,
    measured: Option<PlanMeasurements>,
    run: Option<RunInfo>,
    source_sha256: Vec<(String, String)>,
    equivalence: Option<EquivalenceView>,
    /// What the types were chosen for.
    pub(super) target: Option<TargetView>,
    /// What decided the rotation.
    pub(super) rotation_choice: Option<RotationChoiceView>,
}

impl ConversionResult {
    /// The report: a row per tensor, totals and warnings. Rows are computed when they are read.
    ///
    /// # Errors
    ///
    /// `io` if the plan is not one of a conversion.
    pub fn report(&self) -> Result<ConvertReport<'_>> {
        let none = || Error::new(Code::Io, "the plan is not one of a conversion");
        let source = self.sources.first().ok_or_else(none)?;
        let mut report =
            converted(&source.checkpoint, &self.plan, self.measured.as_ref()).ok_or_else(none)?;
        report.source_sha256.clone_from(&self.source_sha256);
        report.gate.clone_from(&self.equivalence);
        report.target.clone_from(&self.target);
        report.rotation_choice.clone_from(&self.rotation_choice);
        let head = self.equivalence.as_ref().and_then(|e| e.tied_head.as_ref());
        report.warnings.extend(head.and_then(TiedHead::warning));
        Ok(report)
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Threads, engine and duration; absent for a dry run.
    pub fn run(&self) -> Option<&RunInfo> {
        self.run.as_ref()
    }
}

/// What is converted, into what.
pub(super) struct ConversionRequest<'a> {
    pub input: &'a ModelPath,
    pub output: &'a OutputOptions,
    pub recipe: &'a Recipe,
    pub imatrix: Option<&'a Path>,
    /// Whether errors are measured.
    pub measure: bool,
    pub equivalence: &'a EquivalenceOptions,
    pub resources: &'a ResourceOptions,
}

/// Converts the request's input by its recipe.
pub(super) fn run(
    request: &ConversionRequest<'_>,
    observer: &dyn ConversionObserver,
) -> Result<ConversionResult> {
    let started = Instant::now();
    let ConversionRequest { output, recipe, .. } = *request;
    let resources = resources(request.resources, recipe)?;
    let mut source = Source::open_for(request.input, recipe)?.weighted(request.imatrix)?;
    if recipe.gguf.verbatim {
        // Files are split and merged as they are: parts of packed weights stay apart.
        source.checkpoint = source.checkpoint.clone().into_stored();
    }
    let mut plan = convert::plan(&source.checkpoint, recipe, source.imatrix(), request.measure)?;
    if plan.is_file_set() {
        plan_target::name_files(&mut plan, &set_stem(&output.path)?)?;
    }
    let form = OutputForm::of(&plan);
    let out = target(&[&source], &output.path, &form, permission(output))?;
    if form == OutputForm::Directory {
        source.check_config()?;
    }
    source.fill_copies(&mut plan, !output.dry_run)?;
    let quiet = !request.resources.progress;
    let task =
        ConversionTask { output, sources: vec![source], plan, out, resources, quiet, started, observer };
    task.execute(|source, plan| model_equivalence::check(request.equivalence, source, plan, resources, quiet))
}

/// A dry run reports even what it may not replace.
pub(super) fn permission(output: &OutputOptions) -> Permission {
    Permission { force: output.force || output.dry_run, resume: output.resume }
}

/// Windows of rotated tensors hold whole columns and need more memory by default.
pub(super) fn resources(options: &ResourceOptions, recipe: &Recipe) -> Result<Resources> {
    let mut resources = Resources::new(options)?;
    if recipe.rotate.is_some() && options.memory.is_none() {
        let Budget { workers, .. } = resources.budget;
        resources.budget = fitting(Budget { memory: u64::from(workers) * (128 << 20), workers });
    }
    Ok(resources)
}

/// A plan with its sources and its output.
pub(super) struct ConversionTask<'a> {
    pub output: &'a OutputOptions,
    /// The source of the tensors, and the other side of the plan if it has one.
    pub sources: Vec<Source>,
    pub plan: Plan,
    /// The path to write, as [`target`] returned it.
    pub out: PathBuf,
    pub resources: Resources,
    /// Whether no progress bar may be drawn.
    pub quiet: bool,
    pub started: Instant,
    pub observer: &'a dyn ConversionObserver,
}

impl ConversionTask<'_> {
    /// Writes the output if `gate` allows it. A dry run only plans it.
    pub(super) fn execute(
        mut self,
        gate: impl FnOnce(&Source, &Plan) -> Result<Option<EquivalenceView>>,
    ) -> Result<ConversionResult> {
        let nothing = || Error::new(Code::Io, "nothing to read");
        if self.output.dry_run {
            self.dry_run(self.sources.first().ok_or_else(nothing)?)?;
            return Ok(self.result(None, None, Vec::new(), None));
        }
        check_space(&self.plan, &self.out)?;
        self.resources = self.resources.with_selected_engine(&self.plan)?;
        self.observer.planned(&self.plan);
        let source = self.sources.first().ok_or_else(nothing)?;
        let equivalence = gate(source, &self.plan)?;
        self.observer.started(&self.plan)?;
        let rotates = self.plan.conversion.as_ref().is_some_and(|c| c.rotation.is_some());
        let (written, hashes) = std::thread::scope(|scope| -> Result<_> {
            let start = || std::thread::Builder::new().spawn_scoped(scope, || source.hashes());
            let hashes = rotates.then(start).transpose().map_err(|e| no_thread(&e))?;
            let written = self.write(source);
            let dead = |_| Err(Error::new(Code::Io, "the source could not be hashed"));
            Ok((written, hashes.map_or(Ok(Vec::new()), |h| h.join().unwrap_or_else(dead))))
        })?;
        let driven = written?;
        let run = self.resources.run(self.started, &driven);
        Ok(self.result(Some(driven.collected), Some(run), hashes?, equivalence))
    }

    fn result(
        self,
        measured: Option<PlanMeasurements>,
        run: Option<RunInfo>,
        source_sha256: Vec<(String, String)>,
        equivalence: Option<EquivalenceView>,
    ) -> ConversionResult {
        ConversionResult {
            sources: self.sources,
            plan: self.plan,
            measured,
            run,
            source_sha256,
            equivalence,
            target: None,
            rotation_choice: None,
        }
    }

    fn dry_run(&self, source: &Source) -> Result<()> {
        // A plan that does not fit the memory budget is refused here too.
        drop(schedule(&self.plan, &self.resources.budget)?);
        self.observer.planned(&self.plan);
        self.observer.started(&self.plan)?;
        let mut outputs = 0..self.plan.outputs.len();
        outputs.try_for_each(|i| self.observer.tensor_finished(&source.checkpoint, &self.plan, i, None))
    }

    /// Writes the output. If this fails, nothing has the final name, and what was written is removed, unless
    /// it can be resumed.
    fn write(&self, source: &Source) -> Result<RunOutcome> {
        let ConversionTask { output, ref plan, observer, mut resources, .. } = *self;
        signals::watch();
        signals::survive_file_limits();
        let sources: Vec<&Source> = self.sources.iter().collect();
        let fingerprint = fingerprint(&sources, plan)?;
        let permission = permission(output);
        let intent = Intent { plan, permission, fingerprint: &fingerprint, budget: resources.budget };
        let begun = OutputFiles::begin(&self.out, intent)?;
        resources.budget = begun.budget;
        let files = begun.files;
        let progress = Progress::new(plan, verb(plan), self.quiet);
        let announce = |index: usize, measured: &PlanMeasurements| {
            // A broken standard output is reported when the run ends.
            let _ = observer.tensor_finished(&source.checkpoint, plan, index, Some(measured));
        };
        let doubt = || {
            if let Some(device) = resources.engine.device() {
                observer.device_failed(device);
            }
        };
        let work = RunRequest {
            plan,
            sources: &sources,
            resources,
            progress: &progress,
            on_output: &announce,
            on_device_fault: &doubt,
        };
        let sink = Sink { files: Some(&files), journal: begun.journal, records: begun.records };
        let driven = drive(&work, Some(sink));
        progress.finish();
        match driven {
            Ok(done) => {
                let unchanged = sources.iter().try_for_each(|source| source.check_unchanged());
                unchanged.inspect_err(|_| files.discard())?;
                files.commit()?;
                Ok(done)
            }
            Err(e) => {
                let keep =
                    output.resume && matches!(e.code().kind(), ErrorKind::Interrupted | ErrorKind::System);
                if !keep {
                    files.discard();
                }
                Err(e)
            }
        }
    }
}

/// The word for the progress bar.
fn verb(plan: &Plan) -> &'static str {
    match &plan.conversion {
        Some(c) if !c.recipe.quantizes() && c.rotation.is_some() => "Rotating",
        Some(c) if c.recipe.gguf.verbatim => "Copying",
        _ => "Quantizing",
    }
}

/// A digest of everything that determines the bytes and measurements: the plan, the sources, the version.
pub(super) fn fingerprint(sources: &[&Source], plan: &Plan) -> Result<[u8; 32]> {
    let mut salt = env!("CARGO_PKG_VERSION").as_bytes().to_vec();
    for source in sources {
        salt.extend(source.salt()?);
    }
    Ok(plan.fingerprint(&salt))
}
