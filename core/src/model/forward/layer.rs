//! The two branches of a layer: which of the parts they are, and what they read.

use super::decoder::{DecoderState, ExpertStage, Stage};
use super::layer_input::{Ask, LayerRequest, Step, Weights};
use super::spec::DeltaProjections;
use super::{attention, conv, experts, feed_forward, gated_delta_net, mla};
use crate::error::Result;
use crate::model::arch::module::Module;
use crate::model::config::{Latent, Linear};
use alloc::vec;
use alloc::vec::Vec;

/// What mixes positions.
enum Mixer {
    Attention,
    Latent(Latent),
    Delta(DeltaProjections, Linear),
    Convolution,
}

impl DecoderState {
    fn needs(&self, layer: usize) -> LayerRequest<'_> {
        LayerRequest::new(self, Some(layer))
    }

    /// Which mixer a layer has is seen by its tensors.
    fn mixer(&self, layer: usize) -> Mixer {
        let needs = self.needs(layer);
        match (self.spec.delta, self.config.linear, self.config.latent) {
            (Some(inputs), Some(linear), _) if needs.has(Module::SsmConv1d) => Mixer::Delta(inputs, linear),
            (_, _, Some(latent)) if self.spec.latent => Mixer::Latent(latent),
            _ if self.spec.convolution && needs.has(Module::ShortConv) => Mixer::Convolution,
            _ => Mixer::Attention,
        }
    }

    pub(super) fn mix_asks(&self, layer: usize) -> Result<Vec<Ask>> {
        let mut needs = self.needs(layer);
        let norm = self.attn_norm(layer);
        self.branch_norms(&mut needs, norm, Module::AttnPostNorm)?;
        match self.mixer(layer) {
            Mixer::Attention => attention::needs(&mut needs)?,
            Mixer::Latent(latent) => mla::needs(&mut needs, &latent)?,
            Mixer::Delta(inputs, linear) => gated_delta_net::needs(&mut needs, inputs, &linear)?,
            Mixer::Convolution => conv::needs(&mut needs)?,
        }
        Ok(needs.asks)
    }

    pub(super) fn mix(&mut self, layer: usize, given: &Weights<'_>) -> Step<()> {
        let read = self.branch_input(given, self.attn_norm(layer));
        let branch = match self.mixer(layer) {
            Mixer::Attention => self.attention(layer, given, &read)?,
            Mixer::Latent(latent) => self.latent(&latent, given, &read)?,
            Mixer::Delta(inputs, linear) => self.delta(inputs, &linear, given, &read)?,
            Mixer::Convolution => self.convolution(given, &read)?,
        };
        let branch = self.branch_output(given, branch, Module::AttnPostNorm);
        if self.spec.parallel {
            self.waiting = Some(branch);
        } else {
            self.add(&branch);
        }
        Ok(())
    }

    /// The norm before attention.
    fn attn_norm(&self, layer: usize) -> Module {
        let own = self.spec.attn_norm;
        if self.needs(layer).has(own) { own } else { Module::AttnNorm }
    }

    /// Asks for the norms of a branch.
    fn branch_norms(&self, needs: &mut LayerRequest<'_>, before: Module, after: Module) -> Result<()> {
        if self.spec.norms.before() {
            needs.norm(before)?;
        }
        if self.spec.norms.after() { needs.norm(after) } else { Ok(()) }
    }

    /// What a branch reads of the stream.
    fn branch_input(&self, given: &Weights<'_>, norm: Module) -> Vec<f64> {
        if self.spec.norms.before() { self.norm(given, norm) } else { self.stream.clone() }
    }

    /// What a branch adds to the stream.
    fn branch_output(&self, given: &Weights<'_>, branch: Vec<f64>, norm: Module) -> Vec<f64> {
        if self.spec.norms.after() { self.norm_of(given, &branch, norm) } else { branch }
    }

    pub(super) fn feed_asks(&self, layer: usize) -> Result<Vec<Ask>> {
        let mut needs = self.needs(layer);
        self.branch_norms(&mut needs, self.spec.feed_norm, Module::FfnPostNorm)?;
        match &self.spec.experts {
            Some(own) if needs.has(Module::FfnGateInp) => experts::router_needs(&mut needs, own)?,
            _ => feed_forward::needs(&mut needs, self.spec.feed, &feed_forward::DENSE)?,
        }
        Ok(needs.asks)
    }

    /// The feed-forward part; where it is sparse, the experts that were chosen come next.
    pub(super) fn feed_forward(&mut self, layer: usize, given: &Weights<'_>) -> Step<Stage> {
        let read = self.branch_input(given, self.spec.feed_norm);
        let sparse = self.spec.experts.filter(|_| self.has(given, Module::FfnGateInp));
        let (branch, chosen) = match &sparse {
            Some(own) => self.choose(own, given, &read)?,
            None => (self.fed(self.spec.feed, &feed_forward::DENSE, given, &read)?, Vec::new()),
        };
        let branch =
            if sparse.is_none() { self.branch_output(given, branch, Module::FfnPostNorm) } else { branch };
        if let Some(waiting) = self.waiting.take() {
            self.add(&waiting);
        }
        self.add(&branch);
        if sparse.is_none() {
            return Ok(self.after(layer));
        }
        let branch = vec![0.0; read.len()];
        Ok(Stage::Experts(ExpertStage { layer, chosen, next: 0, read, branch }))
    }

    pub(super) fn expert_asks(&self, stage: &ExpertStage) -> Result<Vec<Ask>> {
        let mut needs = self.needs(stage.layer);
        if let (Some(own), Some((expert, _))) = (&self.spec.experts, stage.chosen.get(stage.next)) {
            experts::needs(&mut needs, own, *expert)?;
        }
        Ok(needs.asks)
    }

    /// One of the chosen experts; after the last one, their branch is added to the stream.
    pub(super) fn next_expert(&mut self, stage: &mut ExpertStage, given: &Weights<'_>) -> Step<()> {
        let ExpertStage { chosen, next, read, branch, .. } = stage;
        if let (Some(own), Some(one)) = (&self.spec.experts, chosen.get(*next)) {
            self.add_expert(own, one, given, read, branch)?;
            *next += 1;
        }
        if *next >= chosen.len() {
            self.add(branch);
        }
        Ok(())
    }

    pub(super) fn norm_asks(&self) -> Result<Vec<Ask>> {
        let mut needs = LayerRequest::new(self, None);
        needs.norm(Module::OutputNorm)?;
        Ok(needs.asks)
    }
}
