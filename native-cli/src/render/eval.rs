//! The report of `eval`.

use super::{clean, count, plural};
use quantoscope_core::error::Result;
use quantoscope_core::eval::{EvalReport, ReferenceFigures};

/// Prints the report, as JSON or as text.
///
/// # Errors
///
/// `io` if standard output cannot be written to.
pub fn print(report: &EvalReport, json: bool) -> Result<()> {
    if json {
        return super::json(report);
    }
    super::print(&as_text(report))?;
    super::warn(&report.warnings);
    Ok(())
}

/// A line: name, value, what it means.
fn line(name: &str, value: &str, meaning: &str) -> String {
    format!("{name:<24} {value:<22} {meaning}").trim_end().to_string() + "\n"
}

fn as_text(report: &EvalReport) -> String {
    let figures = &report.figures;
    let half = if report.scored == "half" { ", the second half of each scored as in llama.cpp" } else { "" };
    let mut text = format!(
        "{} ({})\n{} {} predicted in {} of up to {} tokens{half}\n\n",
        clean(&report.model),
        clean(&report.architecture),
        count(figures.tokens),
        if figures.tokens == 1 { "token" } else { "tokens" },
        plural(report.windows as usize, "window"),
        count(report.context),
    );
    let mean = with_error(figures.perplexity, figures.perplexity_error, 4);
    let meaning = match figures.nll_error {
        Some(_) => "lower is better; ± one standard error",
        None => "lower is better; a single token has no standard error",
    };
    text.push_str(&line("perplexity", &mean, meaning));
    let nll = with_error(figures.nll, figures.nll_error, 4);
    text.push_str(&line("mean NLL", &nll, "nats a token"));
    if let (Some(reference), Some(against)) = (&figures.reference, &report.against) {
        text.push_str(&format!("\nagainst {}\n\n", clean(against)));
        text.push_str(&against_text(reference));
    }
    text.push_str(&super::speed_line(&super::PassSpeed {
        verb: "evaluated",
        engine: report.engine,
        threads: report.threads,
        precision: report.precision,
        seconds: report.seconds,
        tokens_per_second: report.tokens_per_second,
    }));
    text
}

/// A figure and its standard error, if it has one, with this many decimals.
fn with_error(value: f64, error: Option<f64>, decimals: usize) -> String {
    match (value.is_finite(), error) {
        (false, _) => "above 1.8e308".into(),
        (true, None) => format!("{value:.decimals$}"),
        (true, Some(error)) => format!("{value:.decimals$} ± {error:.decimals$}"),
    }
}

fn against_text(figures: &ReferenceFigures) -> String {
    let nats = |x: f64| format!("{x:.6}");
    let percent = |x: f64| format!("{:.3} %", 100.0 * x);
    let kl = with_error(figures.kl_mean, figures.kl_mean_error, 6);
    let lines = [
        ("its perplexity", with_error(figures.reference_perplexity, None, 4), ""),
        ("perplexity ratio", with_error(figures.perplexity_ratio, None, 5), "1 is no loss"),
        ("mean KL divergence", kl, "nats a token; 0 is equal outputs"),
        ("median", nats(figures.kl_median), ""),
        ("90th percentile", nats(figures.kl_p90), ""),
        ("99th percentile", nats(figures.kl_p99), ""),
        ("maximum", nats(figures.kl_max), ""),
        ("same top token", percent(figures.top1), "positions with the same most likely token"),
        (
            "RMS difference of p",
            percent(figures.rms_probability_difference),
            "of the probability of the token that follows",
        ),
    ];
    lines.iter().map(|(name, value, meaning)| line(name, value, meaning)).collect()
}
