//! Attention over all positions.

use super::layer_input::{LayerRequest, LayerTensor, Step, Weights};
use super::spec::{QkvProjection, Rotary};
use super::{DecoderState, math, refused, refused_by};
use crate::error::Result;
use crate::model::arch::module::Module;
use alloc::vec::Vec;

/// Queries, keys and values, and the gates of what is mixed, where there are some: for every position, all heads.
struct AttentionInputs {
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    gates: Vec<f64>,
}

pub(super) fn needs(needs: &mut LayerRequest<'_>) -> Result<()> {
    let (c, d) = (&needs.pass.config, needs.pass.spec.attention);
    let (queries, values) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    match d.inputs {
        QkvProjection::Separate => {
            needs.linear(Module::AttnQ, if d.gated { 2 * queries } else { queries }, c.hidden)?;
            needs.linear(Module::AttnK, values, c.hidden)?;
            needs.linear(Module::AttnV, values, c.hidden)?;
        }
        QkvProjection::JoinedByHead if c.kv_heads != c.heads => {
            let message = "config.json: the family has as many heads of keys as of queries".into();
            return Err(refused_by(c.places.kv_heads, message));
        }
        QkvProjection::Joined | QkvProjection::JoinedByHead | QkvProjection::JoinedByGroup => {
            needs.linear(Module::AttnQkv, queries + 2 * values, c.hidden)?;
        }
    }
    let norm = LayerTensor::from(Module::AttnQNorm);
    if let Some(norm) = [norm, norm.expert(0)].into_iter().find(|n| !d.head_norms && needs.has(*n)) {
        let message = "the checkpoint normalises queries, which the forward pass of the family does not";
        return Err(refused(message.into()).of_tensor(&needs.name(norm)));
    }
    if d.joint_norms {
        needs.tensor(Module::AttnQNorm, &[queries])?;
        needs.tensor(Module::AttnKNorm, &[values])?;
    } else if d.head_norms {
        let own = |heads| if d.own_gains { Vec::from([heads, c.head_dim]) } else { Vec::from([c.head_dim]) };
        needs.tensor(Module::AttnQNorm, &own(c.heads))?;
        needs.tensor(Module::AttnKNorm, &own(c.kv_heads))?;
    }
    if d.sinks {
        needs.tensor(Module::AttnSinks, &[c.heads])?;
    }
    needs.linear(Module::AttnOutput, c.hidden, queries)
}

impl DecoderState {
    /// The branch that attention makes of what it reads.
    pub(super) fn attention(&self, layer: usize, given: &Weights<'_>, read: &[f64]) -> Step<Vec<f64>> {
        if let Some(out) = self.projected(given, Module::AttnOutput) {
            return Ok(out);
        }
        let (c, d) = (&self.config, self.spec.attention);
        let AttentionInputs { mut q, mut k, mut v, gates } = self.heads_of(given, read)?;
        if d.head_norms && !d.norms_after_rotary {
            (q, k) = self.head_norms(given, [&q, &k]);
        }
        if let Some(limit) = c.qkv_clip {
            [&mut q, &mut k, &mut v].into_iter().flatten().for_each(|x| *x = x.clamp(-limit, limit));
        }
        let window = c.sliding.of(layer);
        let full = d.unrotated_full && window.is_none() && c.sliding.window.is_some();
        let rotary = if full || c.unrotated.get(layer) == Some(&true) { Rotary::None } else { d.rotary };
        let rope = self.local_rope.as_ref().filter(|_| window.is_some()).unwrap_or(&self.rope);
        for (all, heads) in [(&mut q, c.heads), (&mut k, c.kv_heads)] {
            for (vector, &t) in all.chunks_exact_mut(heads * c.head_dim).zip(&self.positions) {
                rope.rotate(rotary, vector, c.head_dim, 0, t);
            }
        }
        if d.head_norms && d.norms_after_rotary {
            (q, k) = self.head_norms(given, [&q, &k]);
        }
        if d.chunked {
            self.tune(rotary != Rotary::None, &mut q, &mut k);
        }
        let heads = math::AttentionHeads {
            heads: c.heads,
            kv_heads: c.kv_heads,
            key_dim: c.head_dim,
            value_dim: c.head_dim,
            scale: c.attention_multiplier.unwrap_or_else(|| 1.0 / libm::sqrt(c.head_dim as f64)),
            softcap: c.attention_softcap,
            window,
            sinks: self.find(given, Module::AttnSinks).unwrap_or(&[]),
        };
        let (queries, values) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let arrays = [(&*q, queries), (&*k, values), (&*v, values)];
        let chunk = c.chunk.filter(|_| d.chunked && rotary != Rotary::None);
        let mut mixed =
            self.by_chunk(given, chunk, arrays, |[q, k, v]| given.compute.attend(&heads, q, k, v));
        mixed.iter_mut().zip(&gates).for_each(|(m, g)| *m *= math::sigmoid(*g));
        self.project(given, Module::AttnOutput, c.heads * c.head_dim, &mixed)
    }

    /// Queries and keys, normalised head by head or together.
    fn head_norms(&self, given: &Weights<'_>, [q, k]: [&[f64]; 2]) -> (Vec<f64>, Vec<f64>) {
        let (c, d) = (&self.config, self.spec.attention);
        let joint = |heads: usize| if d.joint_norms { heads * c.head_dim } else { c.head_dim };
        let q = self.normalised(q, joint(c.heads), self.get(given, Module::AttnQNorm));
        (q, self.normalised(k, joint(c.kv_heads), self.get(given, Module::AttnKNorm)))
    }

    /// Llama 4: rotated queries and keys are divided by their root mean square; queries of layers without a rotary embedding grow
    /// with the logarithm of their position.
    fn tune(&self, rotated: bool, q: &mut [f64], k: &mut [f64]) {
        let c = &self.config;
        if rotated && c.head_norms {
            for head in q.chunks_exact_mut(c.head_dim).chain(k.chunks_exact_mut(c.head_dim)) {
                let scale = 1.0 / libm::sqrt(math::dot(head, head) / c.head_dim as f64 + c.norm_eps);
                head.iter_mut().for_each(|x| *x *= scale);
            }
        }
        if let Some((weight, floor)) = c.temperature.filter(|_| !rotated) {
            for (vector, &t) in q.chunks_exact_mut(c.heads * c.head_dim).zip(&self.positions) {
                let scale = libm::log1p(libm::floor((t as f64 + 1.0) / floor)) * weight + 1.0;
                vector.iter_mut().for_each(|x| *x *= scale);
            }
        }
    }

    fn heads_of(&self, given: &Weights<'_>, read: &[f64]) -> Step<AttentionInputs> {
        let (c, gated) = (&self.config, self.spec.attention.gated);
        let (queries, values) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let of = |module: Module| self.project(given, module, c.hidden, read);
        match self.spec.attention.inputs {
            QkvProjection::Separate => {
                let (all, k, v) = (of(Module::AttnQ)?, of(Module::AttnK)?, of(Module::AttnV)?);
                let [q, gates] = if gated { math::split(&all, [c.head_dim; 2]) } else { [all, Vec::new()] };
                Ok(AttentionInputs { q, k, v, gates })
            }
            QkvProjection::Joined => {
                let [q, k, v] = math::split(&of(Module::AttnQkv)?, [queries, values, values]);
                Ok(AttentionInputs { q, k, v, gates: Vec::new() })
            }
            QkvProjection::JoinedByGroup => {
                let own = c.heads / c.kv_heads * c.head_dim;
                let [q, k, v] = math::split(&of(Module::AttnQkv)?, [own, c.head_dim, c.head_dim]);
                Ok(AttentionInputs { q, k, v, gates: Vec::new() })
            }
            QkvProjection::JoinedByHead => {
                let [q, k, v] = math::split(&of(Module::AttnQkv)?, [c.head_dim; 3]);
                Ok(AttentionInputs { q, k, v, gates: Vec::new() })
            }
        }
    }
}
