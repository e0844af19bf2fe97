//! Progress bars on standard error, if that is a terminal and the output is not machine-readable.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quantoscope_core::plan::Plan;
use std::io::IsTerminal;

/// A bar of `length`; hidden if `quiet`.
fn bar(length: u64, verb: &'static str, quiet: bool) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let shown = !quiet && std::io::stderr().is_terminal();
    bar.set_draw_target(if shown {
        ProgressDrawTarget::stderr_with_hz(10)
    } else {
        ProgressDrawTarget::hidden()
    });
    let template = "{prefix} {wide_bar} {percent:>3} %  {elapsed} elapsed, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.set_prefix(verb);
    bar
}

/// Progress of forward passes, in weights that were multiplied.
pub(crate) struct PassProgress {
    bar: ProgressBar,
}

impl PassProgress {
    /// A bar; hidden if `quiet`.
    pub(crate) fn new(verb: &'static str, quiet: bool) -> PassProgress {
        PassProgress { bar: bar(0, verb, quiet) }
    }

    /// Starts with this many weights to multiply.
    pub(crate) fn start(&self, weights: u64) {
        self.bar.set_length(weights);
    }

    /// Adds weights that were multiplied.
    pub(crate) fn add(&self, weights: u64) {
        self.bar.inc(weights);
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Progress in elements of the plan's grids.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for `plan`; hidden if `quiet`.
    pub(crate) fn new(plan: &Plan, verb: &'static str, quiet: bool) -> Progress {
        let elements = plan.outputs.iter().map(|o| o.grid.rows.saturating_mul(o.grid.cols));
        Progress { bar: bar(elements.fold(0, u64::saturating_add), verb, quiet) }
    }

    /// Shows that this many elements are finished.
    pub(crate) fn show(&self, elements: u64) {
        self.bar.set_position(elements);
    }

    /// Starts again from zero, as the run does.
    pub(crate) fn restart(&self) {
        self.bar.reset();
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
