//! The two branches of a layer: which of the parts they are, and what they read.

use super::experts::Chosen;
use super::layer_input::{LayerRequest, Weights};
use super::spec::DeltaProjections;
use super::{Forward, RowRequest, Stage, attention, conv, experts, feed_forward, gated_delta_net, mla};
use crate::error::Result;
use crate::model::arch::module::Module;
use crate::model::config::{Latent, Linear};
use alloc::vec::Vec;

/// What mixes positions.
enum Mixer {
    Attention,
    Latent(Latent),
    Delta(DeltaProjections, Linear),
    Convolution,
}

impl Forward {
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

    pub(super) fn mix_asks(&self, layer: usize) -> Result<Vec<RowRequest>> {
        let mut needs = self.needs(layer);
        needs.norm(Module::AttnNorm)?;
        match self.mixer(layer) {
            Mixer::Attention => attention::needs(&mut needs)?,
            Mixer::Latent(latent) => mla::needs(&mut needs, &latent)?,
            Mixer::Delta(inputs, linear) => gated_delta_net::needs(&mut needs, inputs, &linear)?,
            Mixer::Convolution => conv::needs(&mut needs)?,
        }
        Ok(needs.asks)
    }

    pub(super) fn mix(&mut self, layer: usize, given: &Weights<'_>) {
        let read = self.norm(given, Module::AttnNorm);
        let branch = match self.mixer(layer) {
            Mixer::Attention => self.attention(layer, given, &read),
            Mixer::Latent(latent) => self.latent(&latent, given, &read),
            Mixer::Delta(inputs, linear) => self.delta(inputs, &linear, given, &read),
            Mixer::Convolution => self.convolution(given, &read),
        };
        if self.spec.parallel {
            self.waiting = Some(branch);
        } else {
            self.add(&branch);
        }
    }

    pub(super) fn feed_asks(&self, layer: usize) -> Result<Vec<RowRequest>> {
        let mut needs = self.needs(layer);
        needs.norm(self.spec.feed_norm)?;
        match &self.spec.experts {
            Some(own) if needs.has(Module::FfnGateInp) => experts::router_needs(&mut needs, own)?,
            _ => feed_forward::needs(&mut needs, self.spec.feed, &feed_forward::DENSE)?,
        }
        Ok(needs.asks)
    }

    /// The feed-forward part; where it is sparse, the experts that were chosen come next.
    pub(super) fn feed_forward(&mut self, layer: usize, given: &Weights<'_>) -> Stage {
        let read = self.norm(given, self.spec.feed_norm);
        if let Some(branch) = self.waiting.take() {
            self.add(&branch);
        }
        match &self.spec.experts {
            Some(own) if self.needs(layer).has(Module::FfnGateInp) => {
                let (shared, chosen) = self.choose(own, given, &read);
                self.add(&shared);
                Stage::Experts(layer, chosen, read)
            }
            _ => {
                self.add(&self.fed(self.spec.feed, &feed_forward::DENSE, given, &read));
                self.after(layer)
            }
        }
    }

    pub(super) fn expert_asks(&self, layer: usize, chosen: &Chosen) -> Result<Vec<RowRequest>> {
        let mut needs = self.needs(layer);
        if let Some(own) = &self.spec.experts {
            experts::needs(&mut needs, own, chosen)?;
        }
        Ok(needs.asks)
    }

    pub(super) fn norm_asks(&self) -> Result<Vec<RowRequest>> {
        let mut needs = LayerRequest::new(self, None);
        needs.norm(Module::OutputNorm)?;
        Ok(needs.asks)
    }
}
