//! Mixing by a short convolution between two gates.

use super::layer_input::{LayerRequest, LayerTensor, Step, Weights};
use super::{DecoderState, math};
use crate::error::Result;
use crate::model::arch::module::Module;
use alloc::vec::Vec;

const KERNEL: Module = Module::ShortConv;
const INPUT: Module = Module::ShortConvIn;
const OUTPUT: Module = Module::ShortConvOut;

pub(super) fn needs(needs: &mut LayerRequest<'_>) -> Result<()> {
    let hidden = needs.pass.config.hidden;
    needs.linear(INPUT, 3 * hidden, hidden)?;
    let reach = needs.axis(KERNEL, 2)?;
    needs.tensor(KERNEL, &[hidden, 1, reach])?;
    needs.optional(LayerTensor::from(KERNEL).bias(), &[hidden])?;
    needs.linear(OUTPUT, hidden, hidden)
}

impl DecoderState {
    /// The branch that the convolution makes of what it reads.
    pub(super) fn convolution(&self, given: &Weights<'_>, read: &[f64]) -> Step<Vec<f64>> {
        if let Some(out) = self.projected(given, OUTPUT) {
            return Ok(out);
        }
        let hidden = self.config.hidden;
        let [before, after, mut x] = math::split(&self.project(given, INPUT, hidden, read)?, [hidden; 3]);
        x.iter_mut().zip(&before).for_each(|(x, b)| *x *= b);
        let bias = self.find(given, LayerTensor::from(KERNEL).bias()).unwrap_or(&[]);
        let kernels = self.get(given, KERNEL);
        let convolved = |[x]: [&[f64]; 1]| math::causal_convolution(x, hidden, kernels, bias);
        let mut mixed = self.by_sequence(given, [(&*x, hidden)], convolved);
        mixed.iter_mut().zip(&after).for_each(|(m, a)| *m *= a);
        self.project(given, OUTPUT, hidden, &mixed)
    }
}
