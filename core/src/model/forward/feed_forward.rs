//! Feed-forward parts that every token goes through.

use super::layer_input::{LayerRequest, LayerTensor, Step, Weights};
use super::matmul::{Compute, StageWork};
use super::spec::FeedForward;
use super::{DecoderState, math};
use crate::error::Result;
use crate::model::arch::module::Module;
use crate::model::config::Activation;
use crate::model::tensor_id::TensorPart;
use alloc::boxed::Box;
use alloc::vec::Vec;

const fn slot(module: Module) -> LayerTensor {
    LayerTensor { module, expert: None, part: TensorPart::Weight }
}

/// Gate, up and down of the part for every token.
pub(super) const DENSE: [LayerTensor; 3] =
    [slot(Module::FfnGate), slot(Module::FfnUp), slot(Module::FfnDown)];
/// The same of the shared expert.
pub(super) const SHARED: [LayerTensor; 3] =
    [slot(Module::FfnGateShexp), slot(Module::FfnUpShexp), slot(Module::FfnDownShexp)];

/// The shared expert with gate and up in one.
pub(super) const SHARED_JOINED: [LayerTensor; 3] =
    [slot(Module::FfnGateUpShexp), slot(Module::FfnGateUpShexp), slot(Module::FfnDownShexp)];

/// The same of one expert.
pub(super) fn of_expert(expert: usize) -> [LayerTensor; 3] {
    [Module::FfnGateExps, Module::FfnUpExps, Module::FfnDownExps].map(|m| slot(m).expert(expert))
}

pub(super) fn needs(needs: &mut LayerRequest<'_>, feed: FeedForward, parts: &[LayerTensor; 3]) -> Result<()> {
    let hidden = needs.pass.config.hidden;
    let &[gate, up, down] = parts;
    match feed {
        FeedForward::Gated => {
            let inner = needs.made_by(gate)?;
            needs.linear(gate, inner, hidden)?;
            needs.linear(up, inner, hidden)?;
            needs.linear(down, hidden, inner)
        }
        FeedForward::Joined => {
            let half = needs.made_by(up)? / 2;
            needs.linear(up, 2 * half, hidden)?;
            needs.axis(down, 1)?;
            needs.linear(down, hidden, half)
        }
        FeedForward::Plain => {
            let inner = needs.made_by(up)?;
            needs.linear(up, inner, hidden)?;
            needs.linear(down, hidden, inner)
        }
    }
}

/// Values that one thread computes at once.
const PART: usize = 1 << 14;

/// The activation of gates, times their partners.
fn gated(compute: &dyn Compute, activation: Activation, gate: &[f64], up: &[f64]) -> Vec<f64> {
    let parts = gate.chunks(PART).zip(up.chunks(PART)).map(|(gate, up)| -> StageWork<'_> {
        Box::new(move || gate.iter().zip(up).map(|(g, u)| activation.of(*g) * u).collect())
    });
    compute.join(parts.collect())
}

impl DecoderState {
    /// The branch that a feed-forward part makes of vectors.
    pub(super) fn fed(
        &self,
        feed: FeedForward,
        parts: &[LayerTensor; 3],
        given: &Weights<'_>,
        read: &[f64],
    ) -> Step<Vec<f64>> {
        let &[gate, up, down] = parts;
        if let Some(out) = self.projected(given, down) {
            return Ok(out);
        }
        let hidden = self.config.hidden;
        let activation = self.config.activation;
        let count = read.len() / hidden;
        let of = |slot: LayerTensor| self.project(given, slot, hidden, read);
        let inner = match feed {
            FeedForward::Gated => {
                let (gate, up) = (of(gate)?, of(up)?);
                gated(given.compute, activation, &gate, &up)
            }
            FeedForward::Joined => {
                let both = of(up)?;
                let [gate, up] = math::split(&both, [both.len() / count / 2; 2]);
                gated(given.compute, activation, &gate, &up)
            }
            FeedForward::Plain => {
                let up = of(up)?;
                let part = |x: &'_ [f64]| x.iter().map(|x| activation.of(*x)).collect();
                let parts = up.chunks(PART).map(|x| -> StageWork<'_> { Box::new(move || part(x)) });
                given.compute.join(parts.collect())
            }
        };
        self.project(given, down, inner.len() / count, &inner)
    }
}
