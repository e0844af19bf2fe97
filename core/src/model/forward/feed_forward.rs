//! Feed-forward parts that every token goes through.

use super::layer_input::{LayerRequest, Weights};
use super::spec::FeedForward;
use super::{Forward, math};
use crate::error::Result;
use alloc::format;
use alloc::vec::Vec;

pub(super) fn needs(needs: &mut LayerRequest<'_>, feed: FeedForward<'_>) -> Result<()> {
    let hidden = needs.pass.config.hidden;
    match feed {
        FeedForward::Gated([gate, up, down]) => {
            let inner = needs.made_by(gate)?;
            needs.linear(gate, inner, hidden)?;
            needs.linear(up, inner, hidden)?;
            needs.linear(down, hidden, inner)
        }
        FeedForward::Joined([both, down]) => {
            let half = needs.made_by(both)? / 2;
            needs.linear(both, 2 * half, hidden)?;
            needs.axis(&format!("{down}.weight"), 1)?;
            needs.linear(down, hidden, half)
        }
        FeedForward::Plain([up, down]) => {
            let inner = needs.made_by(up)?;
            needs.linear(up, inner, hidden)?;
            needs.linear(down, hidden, inner)
        }
    }
}

impl Forward {
    /// The branch that a feed-forward part makes of vectors.
    pub(super) fn fed(&self, feed: FeedForward<'_>, given: &Weights<'_>, read: &[f64]) -> Vec<f64> {
        let hidden = self.config.hidden;
        let activation = self.config.activation;
        let count = read.len() / hidden;
        let of = |name: &str| self.project(given, name, hidden, read);
        let (inner, down) = match feed {
            FeedForward::Gated([gate, up, down]) => {
                let mut inner = of(gate);
                inner.iter_mut().zip(of(up)).for_each(|(g, u)| *g = activation.of(*g) * u);
                (inner, down)
            }
            FeedForward::Joined([both, down]) => {
                let both = of(both);
                let [mut inner, up] = math::split(&both, [both.len() / count / 2; 2]);
                inner.iter_mut().zip(up).for_each(|(g, u)| *g = activation.of(*g) * u);
                (inner, down)
            }
            FeedForward::Plain([up, down]) => {
                let mut inner = of(up);
                inner.iter_mut().for_each(|x| *x = activation.of(*x));
                (inner, down)
            }
        };
        self.project(given, down, inner.len() / count, &inner)
    }
}
