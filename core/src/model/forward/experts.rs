//! Feed-forward parts of which every token chooses some.

use super::feed_forward::{SHARED, SHARED_JOINED, of_expert};
use super::layer_input::{LayerRequest, LayerTensor, Step, Weights};
use super::spec::{FeedForward, MoeSpec, RouterScores, SharedExpert};
use super::{DecoderState, math, refused_by};
use crate::error::Result;
use crate::model::arch::module::Module;
use crate::model::tensor_id::TensorPart;
use alloc::vec;
use alloc::vec::Vec;

/// The tokens that chose an expert, with its weight for each.
pub(super) type Chosen = Vec<(usize, Vec<(usize, f64)>)>;

const ROUTER: Module = Module::FfnGateInp;
const CORRECTION: LayerTensor =
    LayerTensor { module: Module::ExpProbsB, expert: None, part: TensorPart::Bias };
/// Gate and up of all experts.
const BOTH: Module = Module::FfnGateUpExps;
/// Down of all experts.
const DOWN: Module = Module::FfnDownExps;
/// Gate of all experts.
const GATES: Module = Module::FfnGateExps;
/// Up of all experts.
const UPS: Module = Module::FfnUpExps;

/// What is asked for before any are chosen: the router, and what every token uses.
pub(super) fn router_needs(needs: &mut LayerRequest<'_>, experts: &MoeSpec) -> Result<()> {
    let c = &needs.pass.config;
    let grouped = c.experts.is_multiple_of(c.expert_groups) && c.groups_per_token <= c.expert_groups;
    if experts.shares != RouterScores::Sigmoid && c.expert_groups > 1 {
        let message =
            "config.json: groups of experts are supported with corrected sigmoid scores only".into();
        return Err(refused_by(c.places.experts, message));
    }
    if c.experts_per_token == 0 || c.experts_per_token > c.experts || !grouped {
        return Err(refused_by(c.places.experts, "config.json: experts do not divide".into()));
    }
    needs.linear(ROUTER, c.experts, c.hidden)?;
    let corrected = matches!(experts.shares, RouterScores::Sigmoid | RouterScores::SoftmaxCorrected);
    if corrected && (!experts.optional_correction || needs.has(CORRECTION)) {
        // Some checkpoints store it as a row.
        let axes = [1, c.experts];
        let row = needs.axis(CORRECTION, 0)? == 1 && needs.axis(CORRECTION, 1).is_ok();
        needs.tensor(CORRECTION, if row { &axes } else { &axes[1..] })?;
    }
    if let Some((feed, parts)) = needs.shared_expert(experts) {
        super::feed_forward::needs(needs, feed, parts)?;
    }
    if experts.shared_gate { needs.linear(Module::FfnGateInpShexp, 1, c.hidden) } else { Ok(()) }
}

/// The layout of an expert that every token uses.
fn shared_parts(shared: SharedExpert) -> (FeedForward, &'static [LayerTensor; 3]) {
    match shared {
        SharedExpert::Gated | SharedExpert::GatedIfStored => (FeedForward::Gated, &SHARED),
        SharedExpert::JoinedIfStored => (FeedForward::Joined, &SHARED_JOINED),
    }
}

impl LayerRequest<'_> {
    /// The expert that every token uses, if the layer has one.
    fn shared_expert(&self, experts: &MoeSpec) -> Option<(FeedForward, &'static [LayerTensor; 3])> {
        let shared = experts.shared?;
        let (feed, parts) = shared_parts(shared);
        let [_, _, down] = *parts;
        (shared == SharedExpert::Gated || self.has(down)).then_some((feed, parts))
    }
}

/// The weights that one chosen expert needs next, of stacks of gates and of ups.
fn separate_needs(needs: &mut LayerRequest<'_>, expert: usize) -> Result<()> {
    let (count, hidden) = (needs.pass.config.experts, needs.pass.config.hidden);
    let inner = needs.axis(GATES, 1)?;
    for (module, made, read) in [(GATES, inner, hidden), (UPS, inner, hidden), (DOWN, hidden, inner)] {
        needs.entry(module, &[count, made, read], expert)?;
        let bias = LayerTensor::from(module).bias();
        if needs.has(bias) {
            needs.entry(bias, &[count, made], expert)?;
        }
    }
    Ok(())
}

/// The weights that one chosen expert needs next.
pub(super) fn needs(needs: &mut LayerRequest<'_>, experts: &MoeSpec, expert: usize) -> Result<()> {
    let (count, hidden) = (needs.pass.config.experts, needs.pass.config.hidden);
    if needs.has(GATES) {
        return separate_needs(needs, expert);
    }
    if !needs.has(BOTH) {
        return super::feed_forward::needs(needs, FeedForward::Gated, &of_expert(expert));
    }
    let columns = needs.pass.has_columns(experts);
    let made = needs.axis(BOTH, if columns { 2 } else { 1 })?;
    let inner = needs.axis(DOWN, if columns { 1 } else { 2 })?;
    // The second shape is checked first: only then is twice the length known to fit.
    let (first, second) = if columns {
        ([count, hidden, made], [count, inner, hidden])
    } else {
        ([count, made, hidden], [count, hidden, inner])
    };
    needs.pass.expect(&needs.name(DOWN), &second)?;
    if made != 2 * inner {
        let both = if columns { [count, hidden, 2 * inner] } else { [count, 2 * inner, hidden] };
        needs.pass.expect(&needs.name(BOTH), &both)?;
    }
    needs.entry(BOTH, &first, expert)?;
    needs.entry(DOWN, &second, expert)?;
    for (module, len) in [(BOTH, made), (DOWN, hidden)] {
        let bias = LayerTensor::from(module).bias();
        if needs.has(bias) {
            needs.entry(bias, &[count, len], expert)?;
        }
    }
    Ok(())
}

impl DecoderState {
    /// Adds what every token uses, and gives the experts that tokens chose.
    pub(super) fn choose(
        &self,
        experts: &MoeSpec,
        given: &Weights<'_>,
        read: &[f64],
    ) -> Step<(Vec<f64>, Chosen)> {
        let hidden = self.config.hidden;
        let shared = LayerRequest::new(self, given.layer).shared_expert(experts);
        let mut shared = match shared {
            Some((feed, parts)) => self.fed(feed, parts, given, read)?,
            None => vec![0.0; read.len()],
        };
        if experts.shared_gate {
            let gates = self.project(given, Module::FfnGateInpShexp, hidden, read)?;
            for (branch, gate) in shared.chunks_exact_mut(hidden).zip(gates) {
                branch.iter_mut().for_each(|b| *b *= math::sigmoid(gate));
            }
        }
        let scores = self.project(given, ROUTER, hidden, read)?;
        let correction = self.find(given, CORRECTION).unwrap_or(&[]);
        Ok((shared, self.chosen(experts, &scores, correction)))
    }

    /// Each token's experts: those of greatest share, the first of equals.
    fn chosen(&self, experts: &MoeSpec, scores: &[f64], correction: &[f32]) -> Chosen {
        let c = &self.config;
        let mut chosen: Chosen = (0..c.experts).map(|expert| (expert, Vec::new())).collect();
        for (token, scores) in scores.chunks_exact(c.experts).enumerate() {
            let mut shares = scores.to_vec();
            let order = match experts.shares {
                RouterScores::Softmax => {
                    math::softmax(&mut shares);
                    greatest(&shares, c.experts_per_token)
                }
                RouterScores::SoftmaxCorrected => {
                    math::softmax(&mut shares);
                    greatest(&self.corrected(&shares, correction), c.experts_per_token)
                }
                RouterScores::SigmoidOfInput => {
                    shares.iter_mut().for_each(|s| *s = math::sigmoid(*s));
                    greatest(scores, c.experts_per_token)
                }
                RouterScores::Sigmoid => {
                    shares.iter_mut().for_each(|s| *s = math::sigmoid(*s));
                    greatest(&self.corrected(&shares, correction), c.experts_per_token)
                }
            };
            let sum = order.iter().fold(0.0, |s, &e| s + shares[e]);
            let divisor = if c.normalised_experts { sum + experts.share_epsilon } else { 1.0 };
            for expert in order {
                chosen[expert].1.push((token, shares[expert] / divisor * c.expert_scale));
            }
        }
        chosen.retain(|c| !c.1.is_empty());
        chosen
    }

    /// Shares with their correction; minus infinity in groups that a token does not choose from. A group counts as much
    /// as its two greatest.
    fn corrected(&self, shares: &[f64], correction: &[f32]) -> Vec<f64> {
        let c = &self.config;
        let corrections = correction.iter().copied().chain(core::iter::repeat(0.0));
        let mut out: Vec<f64> = shares.iter().zip(corrections).map(|(s, b)| s + f64::from(b)).collect();
        let size = c.experts / c.expert_groups;
        let of_group = |group: &[f64]| greatest(group, 2).iter().fold(0.0, |sum, &e| sum + group[e]);
        let groups: Vec<f64> = out.chunks_exact(size).map(of_group).collect();
        let kept = greatest(&groups, c.groups_per_token);
        for (i, group) in out.chunks_exact_mut(size).enumerate() {
            if !kept.contains(&i) {
                group.fill(f64::NEG_INFINITY);
            }
        }
        out
    }

    /// Adds the output of one expert, for the tokens that chose it, to `branch`.
    pub(super) fn add_expert(
        &self,
        experts: &MoeSpec,
        (expert, tokens): &(usize, Vec<(usize, f64)>),
        given: &Weights<'_>,
        read: &[f64],
        branch: &mut [f64],
    ) -> Step<()> {
        let hidden = self.config.hidden;
        let first = experts.shares == RouterScores::SigmoidOfInput;
        let of_token = |&(t, weight): &(usize, f64)| {
            let weight = if first { weight } else { 1.0 };
            read[t * hidden..(t + 1) * hidden].iter().map(move |x| x * weight)
        };
        let gathered: Vec<f64> = tokens.iter().flat_map(of_token).collect();
        let made = self.expert(experts, *expert, given, &gathered)?;
        for (&(t, weight), made) in tokens.iter().zip(made.chunks_exact(hidden)) {
            let weight = if first { 1.0 } else { weight };
            branch[t * hidden..][..hidden].iter_mut().zip(made).for_each(|(b, m)| *b += weight * m);
        }
        Ok(())
    }

    /// Whether matrices of a stack are stored `[in, out]`.
    fn has_columns(&self, experts: &MoeSpec) -> bool {
        experts.columns && !self.packed_stacks
    }

    fn expert(&self, experts: &MoeSpec, expert: usize, given: &Weights<'_>, read: &[f64]) -> Step<Vec<f64>> {
        let (hidden, activation) = (self.config.hidden, self.config.activation);
        if self.has(given, GATES) {
            let gate = self.project_by(false, given, GATES, hidden, read)?;
            let up = self.project_by(false, given, UPS, hidden, read)?;
            let inner = gate.len() / (read.len() / hidden);
            let pairs = gate.iter().zip(&up);
            let mixed: Vec<f64> = match experts.interleaved_gate_up {
                true => pairs.map(|(gate, up)| math::clamped(*gate, *up, self.config.clamp)).collect(),
                false => pairs.map(|(gate, up)| activation.of(*gate) * up).collect(),
            };
            return self.project_by(false, given, DOWN, inner, &mixed);
        }
        if !self.has(given, BOTH) {
            return self.fed(FeedForward::Gated, &of_expert(expert), given, read);
        }
        let columns = self.has_columns(experts);
        let made = self.project_by(columns, given, BOTH, hidden, read)?;
        let inner = made.len() / (read.len() / hidden) / 2;
        let mixed: Vec<f64> = if experts.interleaved_gate_up {
            made.as_chunks().0.iter().map(|&[gate, up]| math::clamped(gate, up, self.config.clamp)).collect()
        } else {
            let [gate, up] = math::split(&made, [inner; 2]);
            gate.iter().zip(up).map(|(g, u)| activation.of(*g) * u).collect()
        };
        self.project_by(columns, given, DOWN, inner, &mixed)
    }
}

/// The places of the greatest values, greatest first, the first of equals.
fn greatest(values: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order.truncate(count);
    order
}
