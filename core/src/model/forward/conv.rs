//! Mixing by a short convolution between two gates.

use super::layer_input::{LayerRequest, Weights};
use super::{Forward, math};
use crate::error::Result;
use alloc::vec::Vec;

/// A layer that has this mixes by a convolution.
pub(super) const KERNEL: &str = "conv.conv.weight";
const BIAS: &str = "conv.conv.bias";
const INPUT: &str = "conv.in_proj";
const OUTPUT: &str = "conv.out_proj";

pub(super) fn needs(needs: &mut LayerRequest<'_>) -> Result<()> {
    let hidden = needs.pass.config.hidden;
    needs.linear(INPUT, 3 * hidden, hidden)?;
    let reach = needs.axis(KERNEL, 2)?;
    needs.tensor(KERNEL, &[hidden, 1, reach])?;
    needs.optional(BIAS, &[hidden])?;
    needs.linear(OUTPUT, hidden, hidden)
}

impl Forward {
    /// The branch that the convolution makes of what it reads.
    pub(super) fn convolution(&self, given: &Weights<'_>, read: &[f64]) -> Vec<f64> {
        let hidden = self.config.hidden;
        let [before, after, mut x] = math::split(&self.project(given, INPUT, hidden, read), [hidden; 3]);
        x.iter_mut().zip(&before).for_each(|(x, b)| *x *= b);
        let bias = given.find(BIAS).unwrap_or(&[]);
        let mut mixed = math::causal_convolution(&x, hidden, given.get(KERNEL), bias);
        mixed.iter_mut().zip(&after).for_each(|(m, a)| *m *= a);
        self.project(given, OUTPUT, hidden, &mixed)
    }
}
