//! What `config.json` says of the rotary embedding.

use super::ConfigReader;
use crate::model::arch::ConfigDefaults;
use serde_json::Value;

/// How rotary frequencies are stretched for long contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// In a way that is not known here: taken for none by the check of rotations, refused by evaluations.
    Unknown,
    /// Every frequency divided by this.
    Linear(f64),
    /// Llama 3.1's: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// What low frequencies are divided by.
        factor: f64,
        /// Where the ramp begins, in turns over the original context.
        low: f64,
        /// Where it ends.
        high: f64,
        /// The context before stretching.
        original: f64,
    },
    /// YaRN: the same along the number of the frequency, and all that is rotated made longer.
    Yarn {
        /// What low frequencies are divided by.
        factor: f64,
        /// Frequencies that turn more often than this over the original context are kept.
        fast: f64,
        /// Those that turn less often are divided.
        slow: f64,
        /// The context before stretching.
        original: f64,
        /// Whether the ramp begins and ends at whole numbers.
        whole: bool,
        /// What the rotated values are multiplied by.
        magnitude: f64,
        /// What scores are multiplied by beside, in latent attention.
        scores: f64,
    },
}

/// A number of the rotary embedding, which newer configurations keep in an object of their own.
pub(super) fn rope(read: &ConfigReader<'_>, key: &str) -> Option<f64> {
    let parameters = read.get("rope_parameters");
    let full = parameters.and_then(|v| v.get(FULL)).filter(|v| v.is_object()).or(parameters);
    let own = full.and_then(|v| v.get(key)).and_then(Value::as_f64);
    own.or_else(|| read.number(key)).filter(|x| x.is_finite() && *x > 0.0)
}

/// The base of the rotary frequencies; of `dynamic` scaling with a fixed `alpha` (HunYuan), times `alpha^(d / (d - 2))`.
pub(super) fn theta(read: &ConfigReader<'_>, usual: &ConfigDefaults, head_dim: usize) -> f64 {
    let base =
        rope(read, "rope_theta").or_else(|| read.number("rotary_emb_base")).unwrap_or(usual.rope_theta);
    let dim = head_dim as f64;
    let alpha = scaled(read).and_then(|rope| fixed_alpha(rope, usual)).filter(|_| head_dim > 2);
    alpha.map_or(base, |alpha| base * libm::pow(alpha, dim / (dim - 2.0)))
}

/// The object that says how frequencies are stretched.
fn scaled<'a>(read: &ConfigReader<'a>) -> Option<&'a Value> {
    let rope = read.get("rope_scaling").or_else(|| read.get("rope_parameters"))?;
    Some(rope.get(FULL).filter(|v| v.is_object()).unwrap_or(rope))
}

/// `alpha` of `dynamic` scaling, where the architecture has it.
fn fixed_alpha(rope: &Value, usual: &ConfigDefaults) -> Option<f64> {
    let kind = rope.get("rope_type").or_else(|| rope.get("type")).and_then(Value::as_str);
    let alpha = rope.get("alpha").and_then(Value::as_f64).filter(|x| x.is_finite() && *x > 0.0);
    alpha.filter(|_| usual.dynamic_alpha && kind == Some("dynamic"))
}

/// The base of the rotary frequencies of layers with a sliding window, where the architecture has its own.
pub(super) fn local_theta(read: &ConfigReader<'_>, usual: Option<f64>) -> Option<f64> {
    let usual = usual?;
    let own = read.get("rope_parameters").and_then(|v| v.get(LOCAL)?.get("rope_theta")?.as_f64());
    let said = own.or_else(|| read.number("rope_local_base_freq"));
    Some(said.filter(|x| x.is_finite() && *x > 0.0).unwrap_or(usual))
}

/// The key of rotary parameters of layers with a sliding window, and of the others.
const LOCAL: &str = "sliding_attention";
const FULL: &str = "full_attention";

/// Kinds of stretching that are not here are taken for none: a probe's few positions hardly show them, and both sides of
/// a comparison leave them out.
pub(super) fn scaling(read: &ConfigReader<'_>, usual: &ConfigDefaults) -> RopeScaling {
    let Some(rope) = scaled(read) else { return RopeScaling::None };
    let number = |key: &str| rope.get(key).and_then(Value::as_f64).filter(|x| x.is_finite() && *x > 0.0);
    let kind = rope.get("rope_type").or_else(|| rope.get("type")).and_then(Value::as_str);
    let llama3 = || {
        Some(RopeScaling::Llama3 {
            factor: number("factor")?,
            low: number("low_freq_factor")?,
            high: number("high_freq_factor")?,
            original: number("original_max_position_embeddings")?,
        })
    };
    match kind {
        Some("linear") => number("factor").map_or(RopeScaling::Unknown, RopeScaling::Linear),
        Some("llama3") => llama3().unwrap_or(RopeScaling::Unknown),
        Some("yarn") => yarn(read, rope).unwrap_or(RopeScaling::Unknown),
        None | Some("default" | "mrope") => RopeScaling::None,
        Some("dynamic") if fixed_alpha(rope, usual).is_some() => RopeScaling::None,
        Some(_) => RopeScaling::Unknown,
    }
}

fn yarn(read: &ConfigReader<'_>, rope: &Value) -> Option<RopeScaling> {
    let number = |key: &str| rope.get(key).and_then(Value::as_f64).filter(|x| x.is_finite() && *x > 0.0);
    let factor = number("factor")?;
    let length = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * libm::log(factor) + 1.0 };
    let all = number("mscale_all_dim");
    let own = number("mscale").zip(all).map_or_else(|| length(1.0), |(own, all)| length(own) / length(all));
    let scores = all.map_or(1.0, length);
    Some(RopeScaling::Yarn {
        factor,
        fast: number("beta_fast").unwrap_or(32.0),
        slow: number("beta_slow").unwrap_or(1.0),
        original: number("original_max_position_embeddings")
            .or_else(|| read.number("max_position_embeddings"))?,
        whole: rope.get("truncate").and_then(Value::as_bool).unwrap_or(true),
        magnitude: number("attention_factor").unwrap_or(own),
        scores: scores * scores,
    })
}
