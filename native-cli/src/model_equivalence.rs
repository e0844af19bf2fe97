//! Runs the gate of a rotation: source and plan compute the same logits, or nothing is written.

use crate::drive::{Resources, RunRequest, WINDOW, drive};
use crate::exit::no_thread;
use crate::io::source::Source;
use crate::options::EquivalenceOptions;
use crate::render::progress::Progress;
use crate::signals;
use indicatif::{ProgressBar, ProgressStyle};
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::Workspace;
use quantoscope_core::model::config::Config;
use quantoscope_core::model_equivalence::{ModelPass, compare_logits, tokens};
use quantoscope_core::plan::Plan;
use quantoscope_core::plan::rotate::tied_head::{self, TiedHead};
use quantoscope_core::report::EquivalenceView;
use quantoscope_core::run::Run;
use quantoscope_core::schedule::{Budget, windows_in};
use std::thread;

/// Compares `plan` with its source, and a stored head with the embedding that it is tied to. `None` if nothing is rotated.
///
/// # Errors
///
/// `rotation_off` if the logits differ by more than the tolerance, `unsupported_rotation` if the model cannot be run and
/// that is not allowed.
pub(crate) fn check(
    args: &EquivalenceOptions,
    source: &Source,
    plan: &Plan,
    resources: Resources,
    quiet: bool,
) -> Result<Option<EquivalenceView>> {
    let view = compare(args, source, plan, resources, quiet)?;
    let Some(view) = view else { return Ok(None) };
    let tied_head = tied_head(source, plan, resources)?;
    Ok(Some(EquivalenceView { tied_head, ..view }))
}

/// Compares a stored head with the embedding that `config.json` ties it to.
fn tied_head(source: &Source, plan: &Plan, resources: Resources) -> Result<Option<TiedHead>> {
    let Some(comparison) = tied_head::comparison(&source.checkpoint, plan) else { return Ok(None) };
    let quiet = Progress::new(&comparison, "Comparing", true);
    let request = RunRequest {
        plan: &comparison,
        sources: &[source, source],
        resources,
        progress: &quiet,
        on_output: &|_, _| {},
        on_device_fault: &|| {},
    };
    let found = drive(&request, None)?.collected;
    Ok(found.output(0).and_then(|measured| TiedHead::of(&source.checkpoint, &comparison, measured)))
}

/// Compares the logits of source and plan.
fn compare(
    args: &EquivalenceOptions,
    source: &Source,
    plan: &Plan,
    resources: Resources,
    quiet: bool,
) -> Result<Option<EquivalenceView>> {
    let Some(conversion) = &plan.conversion else { return Ok(None) };
    let (Some(rotated), Some(options)) = (&conversion.rotation, conversion.recipe.rotate) else {
        return Ok(None);
    };
    let config = Config::parse(source.checkpoint.config.as_deref().unwrap_or_default());
    let passes = config.and_then(|config| {
        let tokens = tokens(options.seed, args.probe_tokens, config.vocab);
        Ok((
            ModelPass::source(&source.checkpoint, &tokens)?,
            ModelPass::planned(&source.checkpoint, plan, &tokens)?,
        ))
    });
    let (mut before, mut after) = match passes {
        Ok(passes) => passes,
        Err(e) if args.allow_unprobed => {
            return Ok(Some(EquivalenceView::unprobed(rotated.elements, e.to_string())));
        }
        Err(e) => {
            let message = format!(
                "{}: the rotated model cannot be tried; --allow-unprobed writes it all the same",
                e.detail().message
            );
            return Err(e.explained(Code::UnsupportedRotation, message));
        }
    };
    let bar = spinner(quiet);
    let passes = run_both([&mut before, &mut after], (source, plan), resources, &bar);
    bar.finish_and_clear();
    passes?;
    let found = compare_logits(&before, &after, args.probe_tokens, args.tolerance)?;
    Ok(Some(EquivalenceView::probed(rotated.elements, found)))
}

/// Runs both passes within the memory budget: side by side with half of it each, or one after the other where that does not
/// suffice or one thread was asked for.
fn run_both(
    [before, after]: [&mut ModelPass; 2],
    (source, plan): (&Source, &Plan),
    resources: Resources,
    bar: &ProgressBar,
) -> Result<()> {
    let Budget { memory, workers } = resources.budget;
    let half = Budget { memory: memory / 2, workers: 1 };
    // Windows of the check need about as much as those of the plan.
    if workers > 1 && windows_in(plan, &half, WINDOW).is_ok() {
        let fits = thread::scope(|scope| {
            let first = || run(before, source, resources, half, &ProgressBar::hidden());
            let other = thread::Builder::new().spawn_scoped(scope, first).map_err(|e| no_thread(&e))?;
            let this = run(after, source, resources, half, bar);
            let dead = |_| Err(Error::new(Code::Io, "the forward pass of the source ended before its time"));
            other.join().unwrap_or_else(dead)?;
            this
        });
        match fits {
            Err(e) if e.code() == Code::MemoryBudget => {}
            done => return done,
        }
    }
    let whole = Budget { memory, workers: 1 };
    run(before, source, resources, whole, bar)?;
    run(after, source, resources, whole, bar)
}

fn spinner(quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
    bar.set_message("Trying the rotated model on a few tokens");
    bar
}

/// Runs a pass to its end. After `memory_budget` it goes on where it stopped, with another budget.
fn run(
    pass: &mut ModelPass,
    source: &Source,
    resources: Resources,
    budget: Budget,
    bar: &ProgressBar,
) -> Result<()> {
    let mut scratch = Workspace::default();
    let mut inputs: Vec<Vec<u8>> = Vec::new();
    while let Some(request) = pass.request()? {
        let mut run = Run::new(&request.plan, budget, WINDOW)?;
        while let Some(job) = run.next_job() {
            bar.tick();
            if signals::interrupted() {
                return Err(Error::new(Code::Interrupted, "interrupted"));
            }
            inputs.resize_with(job.reads.len(), Vec::new);
            for (read, buffer) in job.reads.iter().zip(&mut inputs) {
                source.read(read.file, &read.region, buffer)?;
            }
            let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
            let output = request.plan.outputs.first();
            let named = |e: Error| match output {
                Some(o) => untriable(e).map_element(|at| o.element(at)).of_tensor(&o.name),
                None => e,
            };
            pollster::block_on(resources.engine.run(&job, &slices, &mut scratch)).map_err(named)?;
            pass.feed(&request, &job.window, &scratch.out)?;
        }
    }
    Ok(())
}

/// A value that is no number is refused here whatever is allowed: every logit would be none.
fn untriable(error: Error) -> Error {
    match (error.code(), error.detail().element) {
        (Code::NonFinite, Some(at)) => {
            let message = "the value is NaN or infinite: a rotated model with it cannot be tried";
            Error::new(Code::NonFinite, message).element(at)
        }
        _ => error,
    }
}
