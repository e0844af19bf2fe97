//! A progress bar on standard error, if that is a terminal and the output is not machine-readable.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quantoscope_core::plan::Plan;
use std::io::IsTerminal;

/// Progress in elements of the plan's grids.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for `plan`, or a silent one.
    pub fn new(plan: &Plan, verb: &'static str, quiet: bool) -> Progress {
        let elements = plan.outputs.iter().map(|o| o.grid.rows.saturating_mul(o.grid.cols));
        let bar = ProgressBar::new(elements.fold(0, u64::saturating_add));
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
        Progress { bar }
    }

    /// Shows that this many elements are finished.
    pub fn show(&self, elements: u64) {
        self.bar.set_position(elements);
    }

    /// Starts again from zero, as the run does.
    pub fn restart(&self) {
        self.bar.reset();
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
