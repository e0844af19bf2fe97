//! Linear attention by the gated delta rule.

use super::layer_input::{LayerRequest, LayerTensor, Step, Weights};
use super::spec::DeltaProjections;
use super::{DecoderState, math};
use crate::error::Result;
use crate::model::arch::module::Module;
use crate::model::config::{Activation, Linear};
use crate::model::tensor_id::TensorPart;
use alloc::vec::Vec;

const KERNEL: Module = Module::SsmConv1d;
const OUTPUT: Module = Module::SsmOut;
const NORM: Module = Module::SsmNorm;
const RATE: LayerTensor = LayerTensor { module: Module::SsmA, expert: None, part: TensorPart::Bare };
const STEP: LayerTensor = LayerTensor { module: Module::SsmDt, expert: None, part: TensorPart::Bias };

/// What the input projections make: for every position, all heads.
struct DeltaInputs {
    /// All queries, all keys, all values.
    qkv: Vec<f64>,
    gates: Vec<f64>,
    strengths: Vec<f64>,
    steps: Vec<f64>,
}

fn sizes(linear: &Linear) -> (usize, usize) {
    (linear.key_heads * linear.key_dim, linear.value_heads * linear.value_dim)
}

pub(super) fn needs(needs: &mut LayerRequest<'_>, inputs: DeltaProjections, linear: &Linear) -> Result<()> {
    let hidden = needs.pass.config.hidden;
    let (keys, values) = sizes(linear);
    let heads = linear.value_heads;
    let made: &[(Module, usize)] = match inputs {
        DeltaProjections::Joined => &[(Module::SsmQkvz, 2 * keys + 2 * values), (Module::SsmBa, 2 * heads)],
        DeltaProjections::Separate => &[
            (Module::AttnQkv, 2 * keys + values),
            (Module::AttnGate, values),
            (Module::SsmBeta, heads),
            (Module::SsmAlpha, heads),
        ],
    };
    for (module, out) in made {
        needs.linear(*module, *out, hidden)?;
    }
    let reach = needs.axis(KERNEL, 2)?;
    needs.tensor(KERNEL, &[2 * keys + values, 1, reach])?;
    needs.tensor(RATE, &[heads])?;
    needs.tensor(STEP, &[heads])?;
    needs.tensor(NORM, &[linear.value_dim])?;
    needs.linear(OUTPUT, hidden, values)
}

impl DecoderState {
    /// The branch that the rule makes of what it reads.
    pub(super) fn delta(
        &self,
        inputs: DeltaProjections,
        linear: &Linear,
        given: &Weights<'_>,
        read: &[f64],
    ) -> Step<Vec<f64>> {
        if let Some(out) = self.projected(given, OUTPUT) {
            return Ok(out);
        }
        let (keys, values) = sizes(linear);
        let DeltaInputs { qkv, gates, mut strengths, mut steps } =
            self.delta_inputs(inputs, linear, given, read)?;
        let (width, kernels) = (2 * keys + values, self.get(given, KERNEL));
        let convolved = |[x]: [&[f64]; 1]| math::causal_convolution(x, width, kernels, &[]);
        let mut qkv = self.by_sequence(given, [(&*qkv, width)], convolved);
        qkv.iter_mut().for_each(|x| *x = Activation::Silu.of(*x));
        let [q, k, v] = math::split(&qkv, [keys, keys, values]);
        strengths.iter_mut().for_each(|b| *b = math::sigmoid(*b));
        let (rates, biases) = (self.get(given, RATE), self.get(given, STEP));
        for heads in steps.chunks_exact_mut(linear.value_heads) {
            for ((step, &rate), &bias) in heads.iter_mut().zip(rates).zip(biases) {
                *step = -libm::exp(f64::from(rate)) * math::softplus(*step + f64::from(bias));
            }
        }
        let heads = linear.value_heads;
        let arrays = [(&*q, keys), (&*k, keys), (&*v, values), (&*strengths, heads), (&*steps, heads)];
        let mixed = self.by_sequence(given, arrays, |[q, k, v, strengths, steps]| {
            math::delta_rule(linear, [q, k, v], strengths, steps)
        });
        // This norm adds nothing to its gains, whatever the others of the family do.
        let mut out = math::rms_norm(&mixed, self.get(given, NORM), 0.0, self.config.norm_eps);
        out.iter_mut().zip(&gates).for_each(|(o, z)| *o *= Activation::Silu.of(*z));
        self.project(given, OUTPUT, values, &out)
    }

    fn delta_inputs(
        &self,
        inputs: DeltaProjections,
        linear: &Linear,
        given: &Weights<'_>,
        read: &[f64],
    ) -> Step<DeltaInputs> {
        let of = |module: Module| self.project(given, module, self.config.hidden, read);
        if inputs == DeltaProjections::Separate {
            return Ok(DeltaInputs {
                qkv: of(Module::AttnQkv)?,
                gates: of(Module::AttnGate)?,
                strengths: of(Module::SsmBeta)?,
                steps: of(Module::SsmAlpha)?,
            });
        }
        let group = linear.value_heads / linear.key_heads;
        let values = group * linear.value_dim;
        let sizes_of_group = [linear.key_dim, linear.key_dim, values, values];
        let [q, k, v, gates] = math::split(&of(Module::SsmQkvz)?, sizes_of_group);
        let [strengths, steps] = math::split(&of(Module::SsmBa)?, [group; 2]);
        let (keys, values) = sizes(linear);
        let qkv = math::join([(&q, keys), (&k, keys), (&v, values)]);
        Ok(DeltaInputs { qkv, gates, strengths, steps })
    }
}
