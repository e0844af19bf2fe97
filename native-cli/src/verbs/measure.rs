//! The run of a plan that writes nothing, shared by the verbs that measure. With a journal, a run that was stopped goes on
//! where it was.

use super::convert::fingerprint;
use crate::drive::{Resources, RunRequest, Sink, drive};
use crate::exit::io_error;
use crate::io::journal::{Journal, Lock};
use crate::io::scratch::taken;
use crate::io::source::Source;
use crate::options::ResourceOptions;
use crate::render::progress::Progress;
use crate::render::{self, plural};
use quantoscope_core::error::{Code, Error, ErrorKind, Result};
use quantoscope_core::plan::Plan;
use quantoscope_core::run::PlanMeasurements;
use quantoscope_core::schedule::Budget;
use quantoscope_core::wire::Record;
use std::fs;
use std::io;
use std::path::Path;

/// How a plan is run.
pub(super) struct MeasureOptions<'a> {
    pub resources: &'a ResourceOptions,
    /// The file that finished windows are recorded in, and that a stopped run is continued from.
    pub journal: Option<&'a Path>,
    /// The word for the progress bar.
    pub verb: &'static str,
}

/// Runs `plan` and removes the journal at the end. It stays where the run was interrupted, or the system failed.
///
/// # Errors
///
/// Those of reading the sources; `partial_exists` if the journal is in use, not ours, or of another run.
pub(super) fn measure(
    plan: &Plan,
    sources: &[&Source],
    options: &MeasureOptions<'_>,
) -> Result<PlanMeasurements> {
    crate::signals::watch();
    let mut resources = Resources::new(options.resources)?.with_selected_engine(plan)?;
    let opened = match options.journal {
        Some(path) => Some(begin(path, &fingerprint(sources, plan)?, resources.budget)?),
        None => None,
    };
    let (sink, lock) = match opened {
        Some(OpenedJournal { lock, journal, budget, records }) => {
            resources.budget = budget;
            (Some(Sink { files: None, journal, records }), Some(lock))
        }
        None => (None, None),
    };
    let progress = Progress::new(plan, options.verb, !options.resources.progress);
    let work = RunRequest {
        plan,
        sources,
        resources,
        progress: &progress,
        on_output: &|_, _| {},
        on_device_fault: &|| {},
    };
    let driven = drive(&work, sink);
    progress.finish();
    let measured = driven.and_then(|driven| {
        sources.iter().try_for_each(|source| source.check_unchanged())?;
        Ok(driven.collected)
    });
    if let (Some(path), Some(lock)) = (options.journal, lock)
        && !measured.as_ref().is_err_and(can_go_on)
    {
        remove(path, lock)?;
    }
    measured
}

/// Whether a run that failed so may succeed when it goes on.
fn can_go_on(error: &Error) -> bool {
    matches!(error.code().kind(), ErrorKind::Interrupted | ErrorKind::System)
}

/// A journal to append to, and what an earlier run of the same plan recorded in it.
struct OpenedJournal {
    lock: Lock,
    journal: Journal,
    /// The budget of the first run: windows depend on it.
    budget: Budget,
    records: Vec<Record>,
}

/// Opens the journal at `path`, or creates it.
fn begin(path: &Path, fingerprint: &[u8; 32], budget: Budget) -> Result<OpenedJournal> {
    let about = |e: io::Error| io_error(&e, format!("cannot write {}", path.display()));
    let Some(lock) = Lock::take(path)? else {
        let message = format!("{} is in use by another run", path.display());
        return Err(Error::new(Code::PartialExists, message));
    };
    let earlier = lock.read().map_err(about)?;
    let Some(earlier) = earlier else {
        // Empty: created a moment ago, or by a run that was stopped before it began. Journals of other versions are kept.
        if lock.length().map_err(about)? > 0 {
            return Err(taken(path, "is a journal of another version of this program"));
        }
        let journal = lock.begin(fingerprint, &budget).map_err(about)?;
        return Ok(OpenedJournal { lock, journal, budget, records: Vec::new() });
    };
    if earlier.fingerprint != *fingerprint {
        return Err(taken(path, "is the journal of another run: other input, or other options"));
    }
    let windows = plural(earlier.records.len(), "window");
    render::note(&format!("{}: goes on after {windows} of an earlier run", path.display()));
    let journal = lock.go_on(earlier.sound).map_err(about)?;
    Ok(OpenedJournal { lock, journal, budget: earlier.budget, records: earlier.records })
}

/// Removes the journal, which is still locked.
fn remove(path: &Path, lock: Lock) -> Result<()> {
    fs::remove_file(path).map_err(|e| io_error(&e, format!("cannot remove {}", path.display())))?;
    drop(lock);
    Ok(())
}
