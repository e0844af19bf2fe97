//! The divergence of one model from another on the same tokens.

use super::variants::{RunPass, add, mean_divergence};
use crate::error::{Code, Error, Result};
use crate::eval::scores::PositionScores;
use crate::eval::{EvalWindow, HEAD_ROWS};
use crate::model::forward::{Batch, MatMul};
use crate::model_pass::{ModelPass, ModelTensors};
use alloc::vec;
use alloc::vec::Vec;

/// Mean KL divergence of `model` from `reference` over the predicted tokens of a window, in nats a token. Each pass has a
/// runner of its own, for the two may be read from different files.
///
/// # Errors
///
/// `usage` if the vocabularies differ, `non_finite` if logits are not finite, and those of the passes.
pub fn divergence<M: MatMul + Copy>(
    (model, run): (&ModelTensors, RunPass<'_, M>),
    (reference, run_reference): (&ModelTensors, RunPass<'_, M>),
    matmul: M,
    window: &EvalWindow,
) -> Result<f64> {
    if model.config.vocab != reference.config.vocab {
        return Err(Error::new(Code::Usage, "the vocabularies differ"));
    }
    let batch = Batch { sequences: vec![window.input.clone()], scored_from: 0, head_rows: HEAD_ROWS };
    let mut scores: Vec<PositionScores> = window.targets.iter().map(|t| PositionScores::new(*t)).collect();
    let mut pass = ModelPass::batch(model, matmul, &batch)?;
    let mut other = ModelPass::batch(reference, matmul, &batch)?;
    while let (Some(a), Some(b)) = (run(&mut pass)?, run_reference(&mut other)?) {
        add(&mut scores, &a, &a.values, &b.values);
    }
    let infinite = || Error::new(Code::NonFinite, "the model's logits are NaN or infinite");
    mean_divergence(&scores).ok_or_else(infinite)
}
