//! A progress bar on standard error, if that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quantoscope_core::plan::Plan;
use std::io::IsTerminal;

/// Progress in elements of the outputs.
pub struct Progress {
    bar: ProgressBar,
    weights: Vec<f64>,
}

impl Progress {
    /// A bar for `plan`; hidden if `quiet`.
    pub fn new(plan: &Plan, verb: &'static str, quiet: bool) -> Progress {
        let cells = |o: &quantoscope_core::plan::Output| (o.grid.rows.saturating_mul(o.grid.cols)) as f64;
        let weights: Vec<f64> = plan.outputs.iter().map(cells).collect();
        let bar = ProgressBar::new(weights.iter().sum::<f64>() as u64);
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
        Progress { bar, weights }
    }

    /// Adds a share of an output, 0 to 1.
    pub fn advance(&self, output: u32, part: f64) {
        let cells = self.weights.get(output as usize).copied().unwrap_or(0.0);
        self.bar.inc((cells * part) as u64);
    }

    /// Goes back to the start.
    pub fn restart(&self) {
        self.bar.reset();
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
