//! Feed-forward parts of which every token chooses some.

use super::layer_input::{LayerRequest, Weights};
use super::spec::{FeedForward, MoeSpec, RouterScores};
use super::{Forward, math, refused_by};
use crate::error::Result;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// The tokens that chose an expert, with its weight for each.
pub(super) type Chosen = Vec<(usize, Vec<(usize, f64)>)>;

fn weight(router: &str) -> String {
    format!("{router}.weight")
}

fn correction(router: &str) -> String {
    format!("{router}.e_score_correction_bias")
}

/// Whether a layer has experts.
pub(super) fn are_in(experts: &MoeSpec, needs: &LayerRequest<'_>) -> bool {
    needs.has(&weight(experts.router))
}

/// What is asked for before any are chosen: the router, and what every token uses.
pub(super) fn router_needs(needs: &mut LayerRequest<'_>, experts: &MoeSpec) -> Result<()> {
    let c = &needs.pass.config;
    let grouped = c.experts.is_multiple_of(c.expert_groups) && c.groups_per_token <= c.expert_groups;
    if c.experts_per_token == 0 || c.experts_per_token > c.experts || !grouped {
        return Err(refused_by(c.places.experts, "config.json: experts do not divide".into()));
    }
    needs.linear(experts.router, c.experts, c.hidden)?;
    if experts.shares == RouterScores::Sigmoid {
        needs.tensor(&correction(experts.router), &[c.experts])?;
    }
    if let Some(names) = experts.shared {
        super::feed_forward::needs(needs, FeedForward::Gated(names))?;
    }
    experts.shared_gate.map_or(Ok(()), |gate| needs.linear(gate, 1, c.hidden))
}

fn stacks(experts: &MoeSpec) -> [String; 2] {
    [format!("{}.gate_up_proj", experts.folder), format!("{}.down_proj", experts.folder)]
}

fn single(experts: &MoeSpec, expert: usize) -> [String; 3] {
    experts.parts.map(|part| format!("{}.{expert}.{part}", experts.folder))
}

/// What is asked for of the experts that were chosen: as much for each.
pub(super) fn needs(needs: &mut LayerRequest<'_>, experts: &MoeSpec, chosen: &Chosen) -> Result<()> {
    let (count, hidden) = (needs.pass.config.experts, needs.pass.config.hidden);
    let [both, down] = stacks(experts);
    if !needs.has(&both) {
        for (expert, _) in chosen {
            let [gate, up, down] = single(experts, *expert);
            super::feed_forward::needs(needs, FeedForward::Gated([&gate, &up, &down]))?;
        }
        return Ok(());
    }
    let made = needs.axis(&both, if experts.turns { 2 } else { 1 })?;
    let inner = needs.axis(&down, if experts.turns { 1 } else { 2 })?;
    // The second shape is checked first: only then is twice the length known to fit.
    let (first, second) = if experts.turns {
        ([count, hidden, made], [count, inner, hidden])
    } else {
        ([count, made, hidden], [count, hidden, inner])
    };
    needs.pass.expect(&needs.full(&down), &second)?;
    if made != 2 * inner {
        needs.pass.expect(&needs.full(&both), &[count, hidden, 2 * inner])?;
    }
    for (expert, _) in chosen {
        needs.entry(&both, &first, *expert)?;
        needs.entry(&down, &second, *expert)?;
        for (name, len) in [(&both, made), (&down, hidden)] {
            let bias = format!("{name}_bias");
            if needs.has(&bias) {
                needs.entry(&bias, &[count, len], *expert)?;
            }
        }
    }
    Ok(())
}

impl Forward {
    /// Adds what every token uses, and gives the experts that tokens chose.
    pub(super) fn choose(&self, experts: &MoeSpec, given: &Weights<'_>, read: &[f64]) -> (Vec<f64>, Chosen) {
        let hidden = self.config.hidden;
        let mut shared = experts
            .shared
            .map_or_else(|| vec![0.0; read.len()], |names| self.fed(FeedForward::Gated(names), given, read));
        if let Some(gate) = experts.shared_gate {
            let gates = self.project(given, gate, hidden, read);
            for (branch, gate) in shared.chunks_exact_mut(hidden).zip(gates) {
                branch.iter_mut().for_each(|b| *b *= math::sigmoid(gate));
            }
        }
        let scores = self.project(given, experts.router, hidden, read);
        let correction = given.find(&correction(experts.router)).unwrap_or(&[]);
        (shared, self.chosen(experts.shares, &scores, correction))
    }

    /// Each token's experts: those of greatest share, the first of equals.
    fn chosen(&self, kind: RouterScores, scores: &[f64], correction: &[f32]) -> Chosen {
        let c = &self.config;
        let mut chosen: Chosen = (0..c.experts).map(|expert| (expert, Vec::new())).collect();
        for (token, scores) in scores.chunks_exact(c.experts).enumerate() {
            let mut shares = scores.to_vec();
            let order = match kind {
                RouterScores::Softmax => {
                    math::softmax(&mut shares);
                    greatest(&shares, c.experts_per_token)
                }
                RouterScores::Sigmoid => {
                    shares.iter_mut().for_each(|s| *s = math::sigmoid(*s));
                    greatest(&self.corrected(&shares, correction), c.experts_per_token)
                }
            };
            let sum = order.iter().fold(0.0, |s, &e| s + shares[e]);
            let divisor = if c.normalised_experts { sum } else { 1.0 };
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
        let mut out: Vec<f64> = shares.iter().zip(correction).map(|(s, &b)| s + f64::from(b)).collect();
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

    /// Adds what the chosen experts make of what their tokens read.
    pub(super) fn expert_branch(
        &self,
        experts: &MoeSpec,
        chosen: &Chosen,
        given: &Weights<'_>,
        read: &[f64],
    ) -> Vec<f64> {
        let hidden = self.config.hidden;
        let mut branch = vec![0.0; read.len()];
        for (place, (expert, tokens)) in chosen.iter().enumerate() {
            let given = given.of(place, chosen.len());
            let gathered: Vec<f64> =
                tokens.iter().flat_map(|(t, _)| read[t * hidden..(t + 1) * hidden].iter().copied()).collect();
            let made = self.expert(experts, *expert, &given, &gathered);
            for (&(t, weight), made) in tokens.iter().zip(made.chunks_exact(hidden)) {
                branch[t * hidden..][..hidden].iter_mut().zip(made).for_each(|(b, m)| *b += weight * m);
            }
        }
        branch
    }

    fn expert(&self, experts: &MoeSpec, expert: usize, given: &Weights<'_>, read: &[f64]) -> Vec<f64> {
        let (hidden, activation) = (self.config.hidden, self.config.activation);
        let [both, down] = stacks(experts);
        if given.find(&both).is_none() {
            let [gate, up, down] = single(experts, expert);
            return self.fed(FeedForward::Gated([&gate, &up, &down]), given, read);
        }
        let product = if experts.turns { math::product_of_columns } else { math::product };
        let biased = |name: &str, width: usize, x: &[f64]| {
            let mut out = product(x, width, given.get(name));
            if let Some(bias) = given.find(&format!("{name}_bias")) {
                math::add_bias(&mut out, bias);
            }
            out
        };
        let made = biased(&both, hidden, read);
        let inner = made.len() / (read.len() / hidden) / 2;
        let mixed: Vec<f64> = if experts.turns {
            made.as_chunks().0.iter().map(|&[gate, up]| math::clamped(gate, up, self.config.clamp)).collect()
        } else {
            let [gate, up] = math::split(&made, [inner; 2]);
            gate.iter().zip(up).map(|(g, u)| activation.of(*g) * u).collect()
        };
        biased(&down, inner, &mixed)
    }
}

/// The places of the greatest values, greatest first, the first of equals.
fn greatest(values: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order.truncate(count);
    order
}
