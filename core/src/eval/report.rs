//! The figures of an evaluation, as data. Names follow llama.cpp's perplexity tool.

use super::scores::Score;
use crate::error::{Code, Error, Result};
use crate::format::Warning;
use alloc::string::String;
use alloc::vec::Vec;
use serde::Serialize;

/// What an evaluation measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvalReport {
    /// Version of the report's schema.
    pub schema_version: u32,
    /// The path of the model.
    pub model: String,
    /// The path of the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// The architecture.
    pub architecture: String,
    /// The arithmetic of products: `f32` or `f64`.
    pub precision: &'static str,
    /// Tokens of a window.
    pub context: u64,
    /// Windows.
    pub windows: u64,
    /// How a window is scored: `whole`, or `half` as llama.cpp does.
    pub scored: &'static str,
    /// The token that starts each window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos: Option<u32>,
    /// The engine.
    pub engine: &'static str,
    /// Worker threads.
    pub threads: u32,
    /// Seconds of the evaluation.
    pub seconds: f64,
    /// Tokens that went through the models in a second; through both, with a reference.
    pub tokens_per_second: f64,
    /// What a reader of the models should know.
    pub warnings: Vec<Warning>,
    /// The figures.
    #[serde(flatten)]
    pub figures: EvalFigures,
    /// The figures of every predicted token, on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<Vec<PositionView>>,
}

/// The figures of all predicted tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvalFigures {
    /// Predicted tokens.
    pub tokens: u64,
    /// Mean negative log likelihood, in nats a token.
    pub nll: f64,
    /// Its standard error; a single token has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nll_error: Option<f64>,
    /// `exp(nll)`. In JSON, `null` if it is beyond the range of binary64.
    pub perplexity: f64,
    /// Its standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity_error: Option<f64>,
    /// The mean negative log likelihood of each window.
    pub window_nll: Vec<f64>,
    /// The figures against a reference.
    #[serde(flatten)]
    pub reference: Option<ReferenceFigures>,
}

/// The figures of all predicted tokens against a reference. KL is that of the model from the reference, in nats a token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReferenceFigures {
    /// Mean negative log likelihood by the reference.
    pub reference_nll: f64,
    /// Perplexity of the reference; like the ratio, `null` in JSON if it is beyond the range of binary64.
    pub reference_perplexity: f64,
    /// Perplexity divided by that of the reference.
    pub perplexity_ratio: f64,
    /// Mean KL divergence.
    pub kl_mean: f64,
    /// Its standard error; a single token has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_mean_error: Option<f64>,
    /// Median.
    pub kl_median: f64,
    /// 90th percentile.
    pub kl_p90: f64,
    /// 99th percentile.
    pub kl_p99: f64,
    /// Maximum.
    pub kl_max: f64,
    /// The share of positions with the same most likely token.
    pub top1: f64,
    /// The mean difference of the probabilities of the predicted tokens.
    pub mean_probability_difference: f64,
    /// The root of the mean squared difference of the probabilities of the predicted tokens.
    pub rms_probability_difference: f64,
}

/// The figures of a predicted token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PositionView {
    /// The window.
    pub window: u64,
    /// The id of the token.
    pub token: u32,
    /// Its negative log likelihood.
    pub nll: f64,
    /// The divergence from the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// Whether the most likely token is that of the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1: Option<bool>,
}

/// Mean and standard error of numbers, added in order; a single number has no error.
fn mean(numbers: impl Iterator<Item = f64> + Clone) -> (f64, Option<f64>) {
    let n = numbers.clone().count() as f64;
    let mean = numbers.clone().fold(0.0, |a, x| a + x) / n;
    let squares = numbers.fold(0.0, |a, x| a + (x - mean) * (x - mean));
    let error = (n > 1.0).then(|| libm::sqrt(squares / n / (n - 1.0)));
    (mean, error)
}

/// A percentile of sorted numbers, interpolated between neighbours.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let below = libm::floor(place);
    let at = |i: usize| sorted.get(i).or(sorted.last()).copied().unwrap_or(0.0);
    let (low, high) = (at(below as usize), at(below as usize + 1));
    low + (place - below) * (high - low)
}

impl EvalFigures {
    /// The figures of the scores of each window, in order.
    ///
    /// # Errors
    ///
    /// `empty` if there are none.
    pub fn of(windows: &[Vec<Score>]) -> Result<EvalFigures> {
        let scores = || windows.iter().flatten();
        if scores().next().is_none() {
            return Err(Error::new(Code::Empty, "no token was predicted"));
        }
        let (nll, nll_error) = mean(scores().map(|s| s.nll));
        let perplexity = libm::exp(nll);
        let references: Vec<_> = scores().filter_map(|s| s.reference).collect();
        let reference = (!references.is_empty()).then(|| {
            let of = |f: fn(&super::scores::ReferenceScore) -> f64| mean(references.iter().map(f));
            let mut sorted: Vec<f64> = references.iter().map(|r| r.kl).collect();
            sorted.sort_by(f64::total_cmp);
            let (reference_nll, _) = of(|r| r.nll);
            let (kl_mean, kl_mean_error) = of(|r| r.kl);
            let (squared, _) = of(|r| r.probability_difference * r.probability_difference);
            ReferenceFigures {
                reference_nll,
                reference_perplexity: libm::exp(reference_nll),
                perplexity_ratio: libm::exp(nll - reference_nll),
                kl_mean,
                kl_mean_error,
                kl_median: percentile(&sorted, 0.5),
                kl_p90: percentile(&sorted, 0.9),
                kl_p99: percentile(&sorted, 0.99),
                kl_max: sorted.last().copied().unwrap_or(0.0),
                top1: of(|r| f64::from(u8::from(r.same_top))).0,
                mean_probability_difference: of(|r| r.probability_difference).0,
                rms_probability_difference: libm::sqrt(squared),
            }
        });
        Ok(EvalFigures {
            tokens: scores().count() as u64,
            nll,
            nll_error,
            perplexity,
            perplexity_error: nll_error.map(|error| perplexity * error),
            window_nll: windows.iter().map(|w| mean(w.iter().map(|s| s.nll)).0).collect(),
            reference,
        })
    }
}

impl PositionView {
    /// The figures of each predicted token.
    pub fn all(windows: &[Vec<Score>]) -> Vec<PositionView> {
        let of = |(window, scores): (u64, &Vec<Score>)| {
            let view = move |s: &Score| PositionView {
                window,
                token: s.target,
                nll: s.nll,
                kl: s.reference.map(|r| r.kl),
                top1: s.reference.map(|r| r.same_top),
            };
            scores.iter().map(view).collect::<Vec<_>>()
        };
        (0..).zip(windows).flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_interpolated() {
        assert_eq!(percentile(&[1.0, 2.0, 4.0], 0.5), 2.0);
        assert_eq!(percentile(&[1.0, 2.0], 0.5), 1.5);
        assert_eq!(percentile(&[1.0, 2.0, 4.0], 0.9), 3.6);
        assert_eq!(percentile(&[3.0], 0.99), 3.0);
    }

    #[test]
    fn standard_error_is_that_of_the_mean() {
        let (mean, error) = mean([1.0, 2.0, 3.0, 4.0].into_iter());
        assert_eq!(mean, 2.5);
        assert!(error.is_some_and(|e| (e - libm::sqrt(5.0 / 4.0 / 3.0)).abs() < 1e-15));
        assert_eq!(super::mean([3.0].into_iter()), (3.0, None));
    }
}
