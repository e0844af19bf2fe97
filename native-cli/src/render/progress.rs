//! A progress bar on standard error, when that is a terminal and nobody asked for machine output.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quantoscope_core::plan::Plan;
use std::io::IsTerminal;

/// Progress in bytes of the outputs (elements, where nothing is written).
pub struct Progress {
    bar: ProgressBar,
    weights: Vec<f64>,
}

impl Progress {
    /// A bar for `plan`, or a silent one.
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

    /// Part of an output is done.
    pub fn advance(&self, output: u32, part: f64) {
        let cells = self.weights.get(output as usize).copied().unwrap_or(0.0);
        self.bar.inc((cells * part) as u64);
    }

    /// Everything begins anew.
    pub fn restart(&self) {
        self.bar.reset();
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
