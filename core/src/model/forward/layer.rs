//! The parts of a layer: what each asks for, and what it makes of it.

use super::dialect::Experts;
use super::{Ask, Forward, math, refused};
use crate::error::Result;
use crate::tensor::Shape;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// The tokens that chose an expert, with its weight for each.
pub(super) type Chosen = Vec<(usize, Vec<(usize, f64)>)>;

/// Values by the order in which they were asked for.
struct Taken<'a>(core::slice::Iter<'a, Vec<f32>>);

impl<'a> Taken<'a> {
    fn next(&mut self) -> &'a [f32] {
        self.0.next().map_or(&[], Vec::as_slice)
    }
}

impl Forward {
    /// A projection of a layer and its bias, where it has one.
    fn linear(&self, layer: usize, name: &str, axes: [usize; 2], asks: &mut Vec<Ask>) -> Result<()> {
        let weight = self.in_layer(layer, &format!("{name}.weight"));
        self.expect(&weight, &axes.map(|a| a as u64))?;
        asks.push(self.whole(weight));
        let bias = self.in_layer(layer, &format!("{name}.bias"));
        if self.shapes.contains_key(&bias) {
            self.expect(&bias, &[axes[0] as u64])?;
            asks.push(self.whole(bias));
        }
        Ok(())
    }

    fn vector(&self, layer: usize, name: &str, len: usize, asks: &mut Vec<Ask>) -> Result<()> {
        let name = self.in_layer(layer, name);
        self.expect(&name, &[len as u64])?;
        asks.push(self.whole(name));
        Ok(())
    }

    fn project(&self, layer: usize, name: &str, x: &[f64], taken: &mut Taken<'_>) -> Vec<f64> {
        let weight = self.in_layer(layer, &format!("{name}.weight"));
        let width = self.shapes.get(&weight).map_or(1, Shape::cols) as usize;
        let mut out = math::product(x, width, taken.next());
        if self.shapes.contains_key(&self.in_layer(layer, &format!("{name}.bias"))) {
            math::add_bias(&mut out, taken.next());
        }
        out
    }

    pub(super) fn attention_asks(&self, layer: usize) -> Result<Vec<Ask>> {
        let c = &self.config;
        let (queries, values) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let mut asks = Vec::new();
        self.vector(layer, "input_layernorm.weight", c.hidden, &mut asks)?;
        if self.dialect.fused {
            self.linear(layer, "self_attn.qkv_proj", [queries + 2 * values, c.hidden], &mut asks)?;
        } else {
            self.linear(layer, "self_attn.q_proj", [queries, c.hidden], &mut asks)?;
            self.linear(layer, "self_attn.k_proj", [values, c.hidden], &mut asks)?;
            self.linear(layer, "self_attn.v_proj", [values, c.hidden], &mut asks)?;
        }
        if self.dialect.head_norms {
            self.vector(layer, "self_attn.q_norm.weight", c.head_dim, &mut asks)?;
            self.vector(layer, "self_attn.k_norm.weight", c.head_dim, &mut asks)?;
        }
        self.linear(layer, "self_attn.o_proj", [c.hidden, queries], &mut asks)?;
        Ok(asks)
    }

    pub(super) fn attention(&mut self, layer: usize, values: &[Vec<f32>]) {
        let mut taken = Taken(values.iter());
        let gain = Vec::from(taken.next());
        let read = self.norm(&self.stream, Some(&gain));
        let (mut q, mut k, v) = self.queries_keys_values(layer, &read, &mut taken);
        let eps = self.config.norm_eps;
        if self.dialect.head_norms {
            q = math::rms_norm(&q, taken.next(), self.dialect.gain_plus, eps);
            k = math::rms_norm(&k, taken.next(), self.dialect.gain_plus, eps);
        }
        let c = &self.config;
        if !(self.dialect.fourth_without_rotary && (layer + 1).is_multiple_of(4)) {
            for (all, heads) in [(&mut q, c.heads), (&mut k, c.kv_heads)] {
                for (t, vector) in all.chunks_exact_mut(heads * c.head_dim).enumerate() {
                    math::rotary(vector, c.head_dim, t, &self.frequencies);
                }
            }
        }
        let scale = c.attention_multiplier.unwrap_or_else(|| 1.0 / libm::sqrt(c.head_dim as f64));
        let mixed = math::attend(c, scale, &q, &k, &v);
        let branch = self.project(layer, "self_attn.o_proj", &mixed, &mut taken);
        self.add(&branch);
    }

    fn queries_keys_values(
        &self,
        layer: usize,
        read: &[f64],
        taken: &mut Taken<'_>,
    ) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        if !self.dialect.fused {
            let mut of = |name: &str| self.project(layer, name, read, taken);
            return (of("self_attn.q_proj"), of("self_attn.k_proj"), of("self_attn.v_proj"));
        }
        let c = &self.config;
        let (queries, values) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let all = self.project(layer, "self_attn.qkv_proj", read, taken);
        let part = |from: usize, len: usize| -> Vec<f64> {
            all.chunks_exact(queries + 2 * values).flat_map(|v| v[from..from + len].iter().copied()).collect()
        };
        (part(0, queries), part(queries, values), part(queries + values, values))
    }

    /// Adds what a branch made to the stream.
    fn add(&mut self, branch: &[f64]) {
        let multiplier = self.config.residual_multiplier;
        self.stream.iter_mut().zip(branch).for_each(|(s, b)| *s += multiplier * b);
    }

    pub(super) fn router(&self) -> &'static str {
        match self.dialect.experts {
            Experts::BlockSparse => "block_sparse_moe.gate.weight",
            _ => "mlp.gate.weight",
        }
    }

    /// Names of gate, up and down of an expert.
    fn expert(&self, expert: usize) -> [String; 3] {
        match self.dialect.experts {
            Experts::BlockSparse => {
                ["w1", "w3", "w2"].map(|w| format!("block_sparse_moe.experts.{expert}.{w}"))
            }
            _ => ["gate_proj", "up_proj", "down_proj"].map(|w| format!("mlp.experts.{expert}.{w}")),
        }
    }

    /// The length of the feed-forward part's inside, as its gate has it.
    fn inner(&self, layer: usize, gate: &str) -> Result<usize> {
        let name = self.in_layer(layer, &format!("{gate}.weight"));
        let shape = self.shapes.get(&name);
        let rows = shape.and_then(|s| s.axes().first().copied()).and_then(|r| usize::try_from(r).ok());
        rows.ok_or_else(|| {
            refused("the forward pass needs this tensor, which is not there".into()).of_tensor(&name)
        })
    }

    fn gated_asks(&self, layer: usize, [gate, up, down]: &[String; 3], asks: &mut Vec<Ask>) -> Result<()> {
        let (inner, hidden) = (self.inner(layer, gate)?, self.config.hidden);
        self.linear(layer, gate, [inner, hidden], asks)?;
        self.linear(layer, up, [inner, hidden], asks)?;
        self.linear(layer, down, [hidden, inner], asks)
    }

    fn gated(&self, layer: usize, names: &[String; 3], read: &[f64], taken: &mut Taken<'_>) -> Vec<f64> {
        let [gate, up, down] = names;
        let mut inner = self.project(layer, gate, read, taken);
        let up = self.project(layer, up, read, taken);
        inner.iter_mut().zip(&up).for_each(|(g, u)| *g = self.config.activation.of(*g) * u);
        self.project(layer, down, &inner, taken)
    }

    pub(super) fn feed_asks(&self, layer: usize) -> Result<Vec<Ask>> {
        let hidden = self.config.hidden;
        let mut asks = Vec::new();
        self.vector(layer, "post_attention_layernorm.weight", hidden, &mut asks)?;
        if self.has_experts(layer) {
            let router = self.in_layer(layer, self.router());
            self.expect(&router, &[self.config.experts as u64, hidden as u64])?;
            asks.push(self.whole(router));
            if self.dialect.experts == Experts::MlpAndShared {
                self.gated_asks(layer, &SHARED.map(String::from), &mut asks)?;
                self.linear(layer, SHARED_GATE, [1, hidden], &mut asks)?;
            }
        } else if self.dialect.fused {
            let inner = self.inner(layer, "mlp.gate_up_proj")?;
            self.linear(layer, "mlp.gate_up_proj", [inner, hidden], &mut asks)?;
            self.linear(layer, "mlp.down_proj", [hidden, inner / 2], &mut asks)?;
        } else {
            self.gated_asks(layer, &DENSE.map(String::from), &mut asks)?;
        }
        Ok(asks)
    }

    /// The feed-forward part; where it is sparse, the experts that were chosen, and what they read.
    pub(super) fn feed_forward(
        &mut self,
        layer: usize,
        values: &[Vec<f32>],
    ) -> Result<Option<(Chosen, Vec<f64>)>> {
        let mut taken = Taken(values.iter());
        let gain = Vec::from(taken.next());
        let read = self.norm(&self.stream, Some(&gain));
        if self.has_experts(layer) {
            let scores = math::product(&read, self.config.hidden, taken.next());
            if self.dialect.experts == Experts::MlpAndShared {
                let mut shared = self.gated(layer, &SHARED.map(String::from), &read, &mut taken);
                let gates = self.project(layer, SHARED_GATE, &read, &mut taken);
                for (branch, gate) in shared.chunks_exact_mut(self.config.hidden).zip(gates) {
                    branch.iter_mut().for_each(|b| *b /= 1.0 + libm::exp(-gate));
                }
                self.add(&shared);
            }
            return Ok(Some((self.choose(&scores), read)));
        }
        let branch = if self.dialect.fused {
            let both = self.project(layer, "mlp.gate_up_proj", &read, &mut taken);
            let inner = both.len() / self.tokens.len() / 2;
            let halves = both.chunks_exact(2 * inner).flat_map(|v| v[..inner].iter().zip(&v[inner..]));
            let mixed: Vec<f64> = halves.map(|(g, u)| self.config.activation.of(*g) * u).collect();
            self.project(layer, "mlp.down_proj", &mixed, &mut taken)
        } else {
            self.gated(layer, &DENSE.map(String::from), &read, &mut taken)
        };
        self.add(&branch);
        Ok(None)
    }

    /// Each token's experts: those of greatest share, the first of equals.
    fn choose(&self, scores: &[f64]) -> Chosen {
        let mut chosen: Chosen = vec![(0, Vec::new()); self.config.experts];
        for (token, scores) in scores.chunks_exact(self.config.experts).enumerate() {
            let mut shares = scores.to_vec();
            math::softmax(&mut shares);
            let mut order: Vec<usize> = (0..shares.len()).collect();
            order.sort_by(|&a, &b| shares[b].total_cmp(&shares[a]));
            order.truncate(self.config.experts_per_token);
            let sum = order.iter().fold(0.0, |s, &e| s + shares[e]);
            let divisor = if self.config.normalised_experts { sum } else { 1.0 };
            for expert in order {
                chosen[expert].1.push((token, shares[expert] / divisor));
            }
        }
        chosen.iter_mut().enumerate().for_each(|(i, c)| c.0 = i);
        chosen.retain(|c| !c.1.is_empty());
        chosen
    }

    pub(super) fn expert_asks(&self, layer: usize, chosen: &Chosen) -> Result<Vec<Ask>> {
        let mut asks = Vec::new();
        for (expert, _) in chosen {
            self.gated_asks(layer, &self.expert(*expert), &mut asks)?;
        }
        Ok(asks)
    }

    pub(super) fn experts(&mut self, layer: usize, chosen: &Chosen, read: &[f64], values: &[Vec<f32>]) {
        let hidden = self.config.hidden;
        let mut taken = Taken(values.iter());
        let mut branch = vec![0.0; read.len()];
        for (expert, tokens) in chosen {
            let gathered: Vec<f64> =
                tokens.iter().flat_map(|(t, _)| read[t * hidden..(t + 1) * hidden].iter().copied()).collect();
            let made = self.gated(layer, &self.expert(*expert), &gathered, &mut taken);
            for (&(t, weight), made) in tokens.iter().zip(made.chunks_exact(hidden)) {
                branch[t * hidden..][..hidden].iter_mut().zip(made).for_each(|(b, m)| *b += weight * m);
            }
        }
        self.add(&branch);
    }
}

const DENSE: [&str; 3] = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];
const SHARED: [&str; 3] =
    ["mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj", "mlp.shared_expert.down_proj"];
const SHARED_GATE: &str = "mlp.shared_expert_gate";
