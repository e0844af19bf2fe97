//! The rotary embedding.

use super::spec::Rotary;
use crate::model::config::{Config, RopeScaling};
use alloc::vec::Vec;
use core::f64::consts::PI;

/// How queries and keys are rotated.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rope {
    /// A frequency for each pair of values.
    frequencies: Vec<f64>,
    /// What rotated values are multiplied by.
    magnitude: f64,
}

impl Rope {
    /// As a configuration says.
    pub(super) fn of(config: &Config) -> Rope {
        let dim = config.latent.map_or_else(
            || ((config.head_dim as f64 * config.rotary_share) as usize).min(config.head_dim),
            |latent| latent.rotary_dim,
        );
        let plain = |i: usize| libm::pow(config.rope_theta, -((2 * i) as f64) / dim as f64);
        let ramp = Ramp::of(config, dim);
        let frequencies = (0..dim.div_ceil(2)).map(|i| stretched(i, plain(i), config.rope_scaling, ramp));
        let magnitude = match config.rope_scaling {
            RopeScaling::Yarn { magnitude, .. } => magnitude,
            _ => 1.0,
        };
        Rope { frequencies: frequencies.collect(), magnitude }
    }

    /// Of layers with a sliding window, where they have frequencies of their own.
    pub(super) fn local(config: &Config) -> Rope {
        let rope_theta = config.local_rope_theta.unwrap_or(config.rope_theta);
        Rope::of(&Config { rope_theta, rope_scaling: RopeScaling::None, ..config.clone() })
    }

    /// Rotates vectors at a position, one after the other: of each `dim` values, those from `from` on.
    pub(super) fn rotate(&self, kind: Rotary, vectors: &mut [f64], dim: usize, from: usize, position: usize) {
        let pairs = self.frequencies.len();
        for (i, frequency) in self.frequencies.iter().enumerate() {
            let (sin, cos) = libm::sincos(position as f64 * frequency);
            let (sin, cos) = (sin * self.magnitude, cos * self.magnitude);
            let (a, b) = match kind {
                Rotary::None => return,
                Rotary::Halves => (from + i, from + pairs + i),
                Rotary::Pairs => (from + 2 * i, from + 2 * i + 1),
            };
            if b >= dim {
                return;
            }
            for vector in vectors.chunks_exact_mut(dim) {
                let (x, y) = (vector[a], vector[b]);
                (vector[a], vector[b]) = (x * cos - y * sin, y * cos + x * sin);
            }
        }
    }
}

/// Where YaRN begins and ends to divide frequencies, by their number.
#[derive(Clone, Copy)]
struct Ramp {
    low: f64,
    high: f64,
}

impl Ramp {
    fn of(config: &Config, dim: usize) -> Ramp {
        let RopeScaling::Yarn { fast, slow, original, whole, .. } = config.rope_scaling else {
            return Ramp { low: 0.0, high: 0.0 };
        };
        let turning = |turns: f64| {
            dim as f64 * libm::log(original / (turns * 2.0 * PI)) / (2.0 * libm::log(config.rope_theta))
        };
        let (low, high) = (turning(fast), turning(slow));
        let (low, high) = if whole { (libm::floor(low), libm::ceil(high)) } else { (low, high) };
        let (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
        Ramp { low, high: if low == high { high + 0.001 } else { high } }
    }
}

fn stretched(number: usize, frequency: f64, scaling: RopeScaling, ramp: Ramp) -> f64 {
    match scaling {
        RopeScaling::None | RopeScaling::Unknown => frequency,
        RopeScaling::Linear(factor) => frequency / factor,
        RopeScaling::Llama3 { factor, low, high, original } => {
            let turns = original * frequency / (2.0 * PI);
            if turns < low {
                frequency / factor
            } else if turns > high {
                frequency
            } else {
                let share = (turns - low) / (high - low);
                (1.0 - share) * frequency / factor + share * frequency
            }
        }
        RopeScaling::Yarn { factor, .. } => {
            let share = ((number as f64 - ramp.low) / (ramp.high - ramp.low)).clamp(0.0, 1.0);
            share * frequency / factor + (1.0 - share) * frequency
        }
    }
}
