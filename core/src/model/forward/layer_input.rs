//! Requests for the tensors of a layer, and the values that come back; projections and norms.

use super::matmul::Compute;
use super::observe::SideInput;
use super::spec::Norm;
use super::{DecoderState, RowRequest, math, refused};
use crate::error::Result;
use crate::model::arch::module::Module;
use crate::model::tensor_id::TensorPart::{self, Bias, Weight};
use crate::tensor::Shape;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// A tensor that a stage needs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ask {
    pub request: RowRequest,
    /// It is only multiplied with, part by part; any other is kept until the end of the stage.
    pub matrix: bool,
}

/// The requests of a layer, or of what lies outside of layers.
pub(super) struct LayerRequest<'a> {
    pub pass: &'a DecoderState,
    layer: Option<usize>,
    pub asks: Vec<Ask>,
}

impl<'a> LayerRequest<'a> {
    /// No requests yet.
    pub(super) fn new(pass: &'a DecoderState, layer: Option<usize>) -> LayerRequest<'a> {
        LayerRequest { pass, layer, asks: Vec::new() }
    }

    /// The name of a tensor.
    pub(super) fn name(&self, of: impl Into<LayerTensor>) -> String {
        self.pass.name(self.layer, of.into())
    }

    fn shape(&self, of: LayerTensor) -> Option<&'a Shape> {
        self.pass.shapes.get(&self.name(of))
    }

    pub(super) fn has(&self, of: impl Into<LayerTensor>) -> bool {
        self.shape(of.into()).is_some()
    }

    /// The length of an axis of a tensor that must be there; never 0.
    pub(super) fn axis(&self, of: impl Into<LayerTensor>, axis: usize) -> Result<usize> {
        let of = of.into();
        let length = self.shape(of).and_then(|s| s.axes().get(axis)).and_then(|&n| usize::try_from(n).ok());
        length.filter(|&n| n > 0).ok_or_else(|| {
            let message = "the forward pass needs this tensor, which is not there or has no such axis";
            refused(message.into()).of_tensor(&self.name(of))
        })
    }

    /// A whole tensor of this shape.
    pub(super) fn tensor(&mut self, of: impl Into<LayerTensor>, axes: &[usize]) -> Result<()> {
        let name = self.name(of);
        self.pass.expect(&name, axes)?;
        self.asks.push(Ask { request: self.pass.whole(name), matrix: false });
        Ok(())
    }

    /// A matrix of this shape.
    fn matrix(&mut self, of: LayerTensor, axes: &[usize]) -> Result<()> {
        self.tensor(of, axes)?;
        self.asks.iter_mut().next_back().into_iter().for_each(|ask| ask.matrix = true);
        Ok(())
    }

    /// The same, where it is there.
    pub(super) fn optional(&mut self, of: impl Into<LayerTensor>, axes: &[usize]) -> Result<()> {
        let of = of.into();
        if self.has(of) { self.tensor(of, axes) } else { Ok(()) }
    }

    /// One entry of the outermost axis of a tensor of this shape: a matrix of a stack, or a vector.
    pub(super) fn entry(&mut self, of: impl Into<LayerTensor>, axes: &[usize], index: usize) -> Result<()> {
        self.tensor(of, axes)?;
        if let (Some(Ask { request, matrix }), Some(&count)) = (self.asks.last_mut(), axes.first()) {
            let each = request.rows.end / count.max(1) as u64;
            request.rows = index as u64 * each..(index as u64 + 1) * each;
            *matrix = axes.len() > 2;
        }
        Ok(())
    }

    /// A projection that makes `out` values of `read`, and its bias, where it has one.
    pub(super) fn linear(&mut self, of: impl Into<LayerTensor>, out: usize, read: usize) -> Result<()> {
        let of = of.into();
        let axes = if self.pass.spec.columns { [read, out] } else { [out, read] };
        self.matrix(of, &axes)?;
        self.optional(of.bias(), &[out])
    }

    /// The number of values that a projection makes, by its weight.
    pub(super) fn made_by(&self, of: impl Into<LayerTensor>) -> Result<usize> {
        self.axis(of, self.pass.spec.columns.into())
    }

    /// The gain of a norm, and its bias, where it has one.
    pub(super) fn norm(&mut self, module: Module) -> Result<()> {
        let hidden = self.pass.config.hidden;
        if self.pass.spec.norm == Norm::MeanWithoutGain {
            return Ok(());
        }
        self.tensor(module, &[hidden])?;
        self.optional(LayerTensor::from(module).bias(), &[hidden])
    }
}

/// A tensor of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerTensor {
    pub module: Module,
    pub expert: Option<usize>,
    pub part: TensorPart,
}

impl From<Module> for LayerTensor {
    fn from(module: Module) -> LayerTensor {
        LayerTensor { module, expert: None, part: Weight }
    }
}

impl LayerTensor {
    /// The same of one expert.
    pub(super) fn expert(self, expert: usize) -> LayerTensor {
        LayerTensor { expert: Some(expert), ..self }
    }

    /// Another part of the module.
    pub(super) fn part(self, part: TensorPart) -> LayerTensor {
        LayerTensor { part, ..self }
    }

    /// The bias of the module.
    pub(super) fn bias(self) -> LayerTensor {
        self.part(Bias)
    }
}

/// What a stage has received so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Received {
    /// Tensors that are no matrices, by name.
    pub tensors: BTreeMap<String, Vec<f32>>,
    /// Products with matrices, by the matrix's name.
    pub products: BTreeMap<String, Vec<f64>>,
}

/// A product that a stage needs before it goes on.
#[derive(Clone, Debug)]
pub(super) struct Missing {
    /// The matrix.
    pub name: String,
    /// Vectors of `width` values.
    pub x: Vec<f64>,
    pub width: usize,
    /// The matrix is stored `[in, out]`.
    pub by_columns: bool,
    /// Observed inputs of matrices that are no product of the pass.
    pub beside: Vec<SideInput>,
}

/// A result, or the product that it waits for. With that product at hand, the same function is called again.
pub(super) type Step<T> = Result<T, Missing>;

/// The tensors of a layer that were received.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    /// The layer; `None` outside of layers.
    pub layer: Option<usize>,
    pub received: &'a Received,
    /// The arithmetic between products.
    pub compute: &'a dyn Compute,
}

impl DecoderState {
    /// A tensor that was asked for where it is there.
    pub(super) fn find<'w>(&self, given: &Weights<'w>, of: impl Into<LayerTensor>) -> Option<&'w [f32]> {
        let name = self.name(given.layer, of.into());
        given.received.tensors.get(&name).map(Vec::as_slice)
    }

    /// A tensor that was asked for.
    pub(super) fn get<'w>(&self, given: &Weights<'w>, of: impl Into<LayerTensor>) -> &'w [f32] {
        self.find(given, of).unwrap_or(&[])
    }

    /// Whether the checkpoint has a tensor.
    pub(super) fn has(&self, given: &Weights<'_>, of: impl Into<LayerTensor>) -> bool {
        self.shapes.contains_key(&self.name(given.layer, of.into()))
    }

    /// The output of a projection, if its product is at hand.
    pub(super) fn projected(&self, given: &Weights<'_>, of: impl Into<LayerTensor>) -> Option<Vec<f64>> {
        let of = of.into();
        let mut out = given.received.products.get(&self.name(given.layer, of))?.clone();
        if let Some(bias) = self.find(given, of.bias()) {
            math::add_bias(&mut out, bias);
        }
        Some(out)
    }

    /// The output of a projection of vectors of `read` values.
    pub(super) fn project(
        &self,
        given: &Weights<'_>,
        of: impl Into<LayerTensor>,
        read: usize,
        x: &[f64],
    ) -> Step<Vec<f64>> {
        self.project_by(self.spec.columns, given, of, read, x)
    }

    /// The same of a matrix that is stored `[in, out]` if `by_columns`.
    pub(super) fn project_by(
        &self,
        by_columns: bool,
        given: &Weights<'_>,
        of: impl Into<LayerTensor>,
        read: usize,
        x: &[f64],
    ) -> Step<Vec<f64>> {
        let of = of.into();
        let name = || self.name(given.layer, of);
        let missing = || Missing { name: name(), x: x.to_vec(), width: read, by_columns, beside: Vec::new() };
        self.projected(given, of).ok_or_else(missing)
    }

    /// A norm of the stream.
    pub(super) fn norm(&self, given: &Weights<'_>, module: Module) -> Vec<f64> {
        self.norm_of(given, &self.stream, module)
    }

    /// A norm of vectors as long as those of the stream.
    pub(super) fn norm_of(&self, given: &Weights<'_>, x: &[f64], module: Module) -> Vec<f64> {
        let gain = self.get(given, module);
        let mut out = self.normalised(x, self.config.hidden, gain);
        if let Some(bias) = self.find(given, LayerTensor::from(module).bias()) {
            math::add_bias(&mut out, bias);
        }
        out
    }

    /// Vectors of `width` values, each normalised, times their gains.
    pub(super) fn normalised(&self, x: &[f64], width: usize, gain: &[f32]) -> Vec<f64> {
        match self.spec.norm {
            Norm::Rms(plus) => math::rms_norm(x, gain, plus, self.config.norm_eps),
            Norm::Mean => math::mean_norm(x, width, (gain, 0.0), self.config.norm_eps),
            Norm::MeanWithoutGain => math::mean_norm(x, width, (&[1.0], 0.0), self.config.norm_eps),
            Norm::MeanPlusOne => math::mean_norm(x, width, (gain, 1.0), self.config.norm_eps),
        }
    }

    /// Adds what a branch made to the stream.
    pub(super) fn add(&mut self, branch: &[f64]) {
        let multiplier = self.config.residual_multiplier;
        self.stream.iter_mut().zip(branch).for_each(|(s, b)| *s += multiplier * b);
    }
}
