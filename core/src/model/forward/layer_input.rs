//! What a part of a layer asks for and is given, by name; projections and norms.

use super::spec::Norm;
use super::{Forward, RowRequest, math, refused};
use crate::error::Result;
use crate::tensor::Shape;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What a part of the model asks for. Names are those after the part's prefix.
pub(super) struct LayerRequest<'a> {
    pub pass: &'a Forward,
    prefix: String,
    pub asks: Vec<RowRequest>,
}

impl<'a> LayerRequest<'a> {
    /// Nothing yet.
    pub fn new(pass: &'a Forward, prefix: String) -> LayerRequest<'a> {
        LayerRequest { pass, prefix, asks: Vec::new() }
    }

    /// The whole name of a tensor.
    pub fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn shape(&self, name: &str) -> Option<&'a Shape> {
        self.pass.shapes.get(&self.full(name))
    }

    pub fn has(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// The length of an axis of a tensor that must be there; never 0.
    pub fn axis(&self, name: &str, axis: usize) -> Result<usize> {
        let length = self.shape(name).and_then(|s| s.axes().get(axis)).and_then(|&n| usize::try_from(n).ok());
        length.filter(|&n| n > 0).ok_or_else(|| {
            let message = "the forward pass needs this tensor, which is not there or has no such axis";
            refused(message.into()).of_tensor(&self.full(name))
        })
    }

    /// A whole tensor of this shape.
    pub fn tensor(&mut self, name: &str, axes: &[usize]) -> Result<()> {
        let name = self.full(name);
        self.pass.expect(&name, axes)?;
        self.asks.push(self.pass.whole(name));
        Ok(())
    }

    /// The same, where it is there.
    pub fn optional(&mut self, name: &str, axes: &[usize]) -> Result<()> {
        if self.has(name) { self.tensor(name, axes) } else { Ok(()) }
    }

    /// One entry of the outermost axis of a tensor of this shape.
    pub fn entry(&mut self, name: &str, axes: &[usize], index: usize) -> Result<()> {
        self.tensor(name, axes)?;
        if let (Some(ask), Some(&count)) = (self.asks.last_mut(), axes.first()) {
            let each = ask.rows.end / count.max(1) as u64;
            ask.rows = index as u64 * each..(index as u64 + 1) * each;
        }
        Ok(())
    }

    /// A projection that makes `out` values of `read`, and its bias, where it has one.
    pub fn linear(&mut self, name: &str, out: usize, read: usize) -> Result<()> {
        let axes = if self.pass.dialect.columns { [read, out] } else { [out, read] };
        self.tensor(&format!("{name}.weight"), &axes)?;
        self.optional(&format!("{name}.bias"), &[out])
    }

    /// How many values a projection makes, as its weight has it.
    pub fn made_by(&self, name: &str) -> Result<usize> {
        self.axis(&format!("{name}.weight"), self.pass.dialect.columns.into())
    }

    /// The gain of a norm, and its bias, where it has one.
    pub fn norm(&mut self, name: &str) -> Result<()> {
        let hidden = self.pass.config.hidden;
        self.tensor(&format!("{name}.weight"), &[hidden])?;
        self.optional(&format!("{name}.bias"), &[hidden])
    }
}

/// What was asked for.
pub(super) struct Weights<'a> {
    prefix: String,
    asks: &'a [RowRequest],
    values: &'a [Vec<f32>],
}

impl<'a> Weights<'a> {
    /// The values of these asks.
    pub fn new(prefix: String, asks: &'a [RowRequest], values: &'a [Vec<f32>]) -> Weights<'a> {
        Weights { prefix, asks, values }
    }

    /// A tensor that was asked for where it is there.
    pub fn find(&self, name: &str) -> Option<&'a [f32]> {
        let is = |ask: &RowRequest| ask.name.strip_prefix(&self.prefix) == Some(name);
        let at = self.asks.iter().position(is)?;
        self.values.get(at).map(Vec::as_slice)
    }

    /// A tensor that was asked for.
    pub fn get(&self, name: &str) -> &'a [f32] {
        self.find(name).unwrap_or(&[])
    }

    /// One of `count` parts that asked for as much each.
    pub fn of(&self, place: usize, count: usize) -> Weights<'a> {
        let each = self.asks.len() / count.max(1);
        let part = place * each..(place + 1) * each;
        let asks = self.asks.get(part.clone()).unwrap_or(&[]);
        Weights { prefix: self.prefix.clone(), asks, values: self.values.get(part).unwrap_or(&[]) }
    }
}

impl Forward {
    /// What a projection makes of vectors of `read` values.
    pub(super) fn project(&self, given: &Weights<'_>, name: &str, read: usize, x: &[f64]) -> Vec<f64> {
        let weight = given.get(&format!("{name}.weight"));
        let mut out = if self.dialect.columns {
            math::product_of_columns(x, read, weight)
        } else {
            math::product(x, read, weight)
        };
        if let Some(bias) = given.find(&format!("{name}.bias")) {
            math::add_bias(&mut out, bias);
        }
        out
    }

    /// A norm of the stream.
    pub(super) fn norm(&self, given: &Weights<'_>, name: &str) -> Vec<f64> {
        let gain = given.get(&format!("{name}.weight"));
        let mut out = self.normalised(&self.stream, self.config.hidden, gain);
        if let Some(bias) = given.find(&format!("{name}.bias")) {
            math::add_bias(&mut out, bias);
        }
        out
    }

    /// Vectors of `width` values, each normalised, times their gains.
    pub(super) fn normalised(&self, x: &[f64], width: usize, gain: &[f32]) -> Vec<f64> {
        match self.dialect.norm {
            Norm::Rms(plus) => math::rms_norm(x, gain, plus, self.config.norm_eps),
            Norm::Mean => math::mean_norm(x, width, gain, self.config.norm_eps),
        }
    }

    /// Adds what a branch made to the stream.
    pub(super) fn add(&mut self, branch: &[f64]) {
        let multiplier = self.config.residual_multiplier;
        self.stream.iter_mut().zip(branch).for_each(|(s, b)| *s += multiplier * b);
    }
}
