//! Stretched rotary embedding: keys of linear, YaRN and LongRoPE scaling.

use super::super::config::hyperparameters::{Hyperparameters, missing};
use super::KeyWriter;
use crate::error::{Code, Error, Result};
use alloc::format;

/// The keys of `rope.scaling`; Llama 3's scaling is a tensor instead, and what is unknown has none.
pub(super) fn scaling(to: &mut KeyWriter) -> Result<()> {
    let kind = to.hyper.rope().kind();
    let factor = to.hyper.rope().real(&["factor"])?;
    match (kind.as_str(), factor) {
        ("linear", Some(factor)) => {
            to.text("rope.scaling.type", "linear");
            to.real("rope.scaling.factor", factor);
        }
        ("yarn", Some(factor)) => {
            to.text("rope.scaling.type", "yarn");
            to.real("rope.scaling.factor", factor);
            yarn(to)?;
        }
        ("su" | "longrope", _) => to.text("rope.scaling.type", "longrope"),
        _ => {}
    }
    Ok(())
}

fn yarn(to: &mut KeyWriter) -> Result<()> {
    const ORIGINAL: &str = "original_max_position_embeddings";
    let original = to.hyper.rope().count(ORIGINAL)?.ok_or_else(|| missing(&[ORIGINAL]))?;
    to.count("rope.scaling.original_context_length", original);
    for (key, from) in [
        ("rope.scaling.yarn_ext_factor", &["extrapolation_factor"][..]),
        ("rope.scaling.yarn_attn_factor", &["attention_factor", "attn_factor"]),
        ("rope.scaling.yarn_beta_fast", &["beta_fast"]),
        ("rope.scaling.yarn_beta_slow", &["beta_slow"]),
    ] {
        if let Some(x) = to.hyper.rope().real(from)? {
            to.real(key, x);
        }
    }
    Ok(())
}

/// The longest context that Phi-3 was first trained with.
///
/// # Errors
///
/// [`Code::BadValue`] if the configuration does not give it.
pub(super) fn original_context(hyper: &Hyperparameters) -> Result<u32> {
    const ORIGINAL: &str = "original_max_position_embeddings";
    match hyper.count(&[ORIGINAL])? {
        Some(n) => Ok(n),
        None => hyper.rope().count(ORIGINAL)?.ok_or_else(|| missing(&[ORIGINAL])),
    }
}

/// What Phi-3 multiplies attention by where its context is stretched; `None` where it is not.
///
/// # Errors
///
/// [`Code::BadValue`] if the kind of scaling is unknown, or a context length is absent.
pub fn attention_factor(hyper: &Hyperparameters) -> Result<Option<f64>> {
    let rope = hyper.rope();
    if !rope.full.contains_key("long_factor") {
        return Ok(None);
    }
    let original = f64::from(original_context(hyper)?);
    let scale = f64::from(hyper.required(&["max_position_embeddings"])?) / original;
    Ok(Some(match rope.kind().as_str() {
        _ if scale <= 1.0 => 1.0,
        "su" | "longrope" => libm::sqrt(1.0 + libm::log(scale) / libm::log(original)),
        "yarn" => 0.1 * libm::log(scale) + 1.0,
        kind => {
            let message = format!("the rope scaling {kind:?} is none of su, longrope, yarn");
            return Err(Error::new(Code::BadValue, message));
        }
    }))
}
