//! Attention whose keys and values are made from one short vector.

use super::layer_input::{LayerRequest, Missing, Step, Weights};
use super::observe::{InputPart, SideInput, squares};
use super::spec::Rotary;
use super::{DecoderState, math};
use crate::error::Result;
use crate::model::arch::module::Module;
use crate::model::config::{Latent, RopeScaling};
use alloc::vec::Vec;

/// What the norms of the short vectors add to a mean square, whatever the configuration says of the others.
const EPS: f64 = 1e-6;

const QUERY: Module = Module::AttnQ;
const QUERY_DOWN: Module = Module::AttnQA;
const QUERY_NORM: Module = Module::AttnQANorm;
const QUERY_UP: Module = Module::AttnQB;
const DOWN: Module = Module::AttnKvA;
const NORM: Module = Module::AttnKvANorm;
const UP: Module = Module::AttnKvB;
const OUTPUT: Module = Module::AttnOutput;

pub(super) fn needs(needs: &mut LayerRequest<'_>, latent: &Latent) -> Result<()> {
    let (hidden, heads) = (needs.pass.config.hidden, needs.pass.config.heads);
    let queries = heads * (latent.plain_dim + latent.rotary_dim);
    if let Some(rank) = latent.query_rank {
        needs.linear(QUERY_DOWN, rank, hidden)?;
        needs.tensor(QUERY_NORM, &[rank])?;
        needs.linear(QUERY_UP, queries, rank)?;
    } else {
        needs.linear(QUERY, queries, hidden)?;
    }
    needs.linear(DOWN, latent.rank + latent.rotary_dim, hidden)?;
    needs.tensor(NORM, &[latent.rank])?;
    needs.linear(UP, heads * (latent.plain_dim + latent.value_dim), latent.rank)?;
    needs.linear(OUTPUT, hidden, heads * latent.value_dim)
}

impl DecoderState {
    /// The branch that latent attention makes of what it reads.
    pub(super) fn latent(&self, latent: &Latent, given: &Weights<'_>, read: &[f64]) -> Step<Vec<f64>> {
        if let Some(out) = self.projected(given, OUTPUT) {
            return Ok(out);
        }
        let heads = self.config.heads;
        let key_dim = latent.plain_dim + latent.rotary_dim;
        let rotary = if latent.interleaved { Rotary::Pairs } else { Rotary::Halves };
        let mut q = self.latent_queries(latent, given, read)?;
        for (vector, &t) in q.chunks_exact_mut(heads * key_dim).zip(&self.positions) {
            self.rope.rotate(rotary, vector, key_dim, latent.plain_dim, t);
        }
        let down = self.project(given, DOWN, self.config.hidden, read)?;
        let [short, mut shared] = math::split(&down, [latent.rank, latent.rotary_dim]);
        for (vector, &t) in shared.chunks_exact_mut(latent.rotary_dim).zip(&self.positions) {
            self.rope.rotate(rotary, vector, latent.rotary_dim, 0, t);
        }
        let short = math::rms_norm(&short, self.get(given, NORM), 0.0, EPS);
        let up = self.project(given, UP, latent.rank, &short)?;
        let [plain, v] = math::split(&up, [latent.plain_dim, latent.value_dim]);
        let mut k = Vec::with_capacity(q.len());
        for (head, plain) in plain.chunks_exact(latent.plain_dim).enumerate() {
            k.extend_from_slice(plain);
            k.extend_from_slice(&shared[head / heads * latent.rotary_dim..][..latent.rotary_dim]);
        }
        let scores = match self.config.rope_scaling {
            RopeScaling::Yarn { scores, .. } => scores,
            _ => 1.0,
        };
        let scale = scores / libm::sqrt(key_dim as f64);
        let value_dim = latent.value_dim;
        let all = math::AttentionHeads {
            heads,
            kv_heads: heads,
            key_dim,
            value_dim,
            scale,
            softcap: None,
            window: None,
            sinks: &[],
        };
        let arrays = [(&*q, heads * key_dim), (&*k, heads * key_dim), (&*v, heads * value_dim)];
        let mixed = self.by_sequence(given, arrays, |[q, k, v]| given.compute.attend(&all, q, k, v));
        let out = self.project(given, OUTPUT, heads * value_dim, &mixed);
        out.map_err(|missing| match self.observed {
            true => Missing { beside: self.absorbed(latent, given, &all, [&q, &k, &short]), ..missing },
            false => missing,
        })
    }

    /// The inputs of the halves of the up-projection, as engines that absorb it multiply them.
    fn absorbed(
        &self,
        latent: &Latent,
        given: &Weights<'_>,
        all: &math::AttentionHeads<'_>,
        [q, k, short]: [&[f64]; 3],
    ) -> Vec<SideInput> {
        let name = self.name(given.layer, UP.into());
        let (plain, rank) = (latent.plain_dim, latent.rank);
        let one = math::AttentionHeads { heads: 1, kv_heads: 1, value_dim: rank, ..*all };
        let count = self.positions.len() as u64;
        let of_head = |x: &[f64], head: usize| -> Vec<f64> {
            let vectors = x.chunks_exact(all.key_dim).skip(head).step_by(all.heads);
            vectors.flatten().copied().collect()
        };
        let side = |part, width, sums| SideInput { name: name.clone(), part, width, sums, count };
        let head = |head: usize| {
            let (q, k) = (of_head(q, head), of_head(k, head));
            let queries = self.by_sequence(given, [(&*q, all.key_dim)], |[q]| {
                let mut sums = squares(q, all.key_dim);
                sums.truncate(plain);
                sums
            });
            let arrays = [(&*q, all.key_dim), (&*k, all.key_dim), (short, rank)];
            let latents = self
                .by_sequence(given, arrays, |[q, k, v]| squares(&given.compute.attend(&one, q, k, v), rank));
            [
                side(InputPart::LatentKeys(head), plain, queries),
                side(InputPart::LatentValues(head), rank, latents),
            ]
        };
        (0..all.heads).flat_map(head).collect()
    }

    fn latent_queries(&self, latent: &Latent, given: &Weights<'_>, read: &[f64]) -> Step<Vec<f64>> {
        let Some(rank) = latent.query_rank else {
            return self.project(given, QUERY, self.config.hidden, read);
        };
        let short = self.project(given, QUERY_DOWN, self.config.hidden, read)?;
        let short = math::rms_norm(&short, self.get(given, QUERY_NORM), 0.0, EPS);
        self.project(given, QUERY_UP, rank, &short)
    }
}
