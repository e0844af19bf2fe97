//! Weights that a safetensors checkpoint stores as several tensors: found by name, type and shape, and united to one
//! tensor of the true shape each.
//!
//! A format is a function of [`FORMATS`] that finds its weights, and a [`Layout`](crate::tensor::packed::Layout). What does
//! not fit is a finding, reported by the plans before any value is read. Reads no values.

mod blocks;
mod compressed_tensors;
mod config;
mod gptq;
mod mlx;
mod mxfp4;
mod scaled_float;

use super::{Checkpoint, Container, Warning};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::tensor::packed::Packed;
use crate::tensor::{Name, Shape, TensorInfo};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use config::Quantization;

/// The formats, in the order in which they are looked for.
const FORMATS: &[fn(&mut Uniter<'_>)] =
    &[scaled_float::find, mxfp4::find, gptq::find, compressed_tensors::find, mlx::find];

/// The code of the warning about scales of activations.
const ACTIVATION_SCALES: &str = "activation_scales";
/// Most findings that an error lists.
const SHOWN: usize = 20;
/// Most names that a warning lists.
const NAMED: usize = 5;

/// What became of the parts of packed weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packing {
    /// Scales of activations, which no weight needs.
    pub dropped: Vec<TensorInfo>,
    /// Parts that are missing, not needed, or of another shape.
    findings: Vec<(Name, String)>,
}

impl Packing {
    /// Refuses a checkpoint whose parts do not fit together.
    ///
    /// # Errors
    ///
    /// [`Code::BadValue`] with all findings.
    pub fn check(&self) -> Result<()> {
        let Some((first, _)) = self.findings.first() else { return Ok(()) };
        let listed: Vec<String> =
            self.findings.iter().take(SHOWN).map(|(name, why)| format!("{name}: {why}")).collect();
        let more = self.findings.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let message = format!("the parts of quantized weights do not fit: {}{more}", listed.join("; "));
        Err(Error::new(Code::BadValue, message).of_tensor(first))
    }

    /// The warning about scales of activations.
    fn warning(&self) -> Option<Warning> {
        let (n, names) = (self.dropped.len(), self.dropped.iter().take(NAMED).map(|t| t.name.as_str()));
        let listed = names.collect::<Vec<_>>().join(", ");
        let more = if n > NAMED { ", ..." } else { "" };
        let message = format!("{n} scales of activations are left out: {listed}{more}");
        (n > 0).then(|| Warning::new(ACTIVATION_SCALES, message))
    }
}

/// Whether a tensor may be integer codes under the name of a weight.
fn is_integers(tensor: &TensorInfo) -> bool {
    compressed_tensors::is_codes(tensor) || mlx::is_codes(tensor)
}

/// Unites the parts of each packed weight of `checkpoint`.
pub(super) fn unite(checkpoint: &mut Checkpoint) {
    let parts =
        |t: &TensorInfo| scaled_float::is_codes(t) || mxfp4::is_part(t) || gptq::is_part(t) || is_integers(t);
    if checkpoint.container != Container::Safetensors || !checkpoint.tensors.iter().any(parts) {
        return;
    }
    let tensors = core::mem::take(&mut checkpoint.tensors);
    let mut uniter = Uniter {
        by_name: tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect(),
        quantization: Quantization::of(checkpoint.config.as_deref()),
        taken: vec![false; tensors.len()],
        gone: vec![false; tensors.len()],
        united: BTreeMap::new(),
        packing: Packing::default(),
        tensors: &tensors,
    };
    FORMATS.iter().for_each(|find| find(&mut uniter));
    if !uniter.united.is_empty() {
        let scales = uniter.free().filter(|(_, t)| scaled_float::is_of_activations(t));
        scales.for_each(|(index, _)| uniter.drop(index));
    }
    let Uniter { gone, mut united, packing, .. } = uniter;
    checkpoint.warnings.extend(packing.warning());
    checkpoint.packing = packing;
    for (index, (tensor, gone)) in tensors.into_iter().zip(gone).enumerate() {
        match united.remove(&index) {
            Some(united) => checkpoint.tensors.push(united),
            None if gone => {}
            None => checkpoint.tensors.push(tensor),
        }
    }
}

impl Checkpoint {
    /// The checkpoint with its tensors as they are stored: parts of packed weights, and scales of activations.
    #[must_use]
    pub fn into_stored(mut self) -> Checkpoint {
        let dropped = core::mem::take(&mut self.packing).dropped;
        self.warnings.retain(|w| w.code != ACTIVATION_SCALES);
        let stored = |tensor: TensorInfo| match tensor.packed {
            Some(packed) => packed.parts.clone(),
            None => vec![tensor],
        };
        let mut tensors: Vec<TensorInfo> = self.tensors.into_iter().flat_map(stored).chain(dropped).collect();
        tensors.sort_by_key(|t| (t.file, t.bytes.start));
        Checkpoint { tensors, ..self }
    }
}

/// The tensors of a checkpoint while its packed weights are found.
struct Uniter<'a> {
    tensors: &'a [TensorInfo],
    by_name: BTreeMap<&'a str, usize>,
    quantization: Quantization,
    /// Whether a tensor is a part of a packed weight that was found, whether or not it fits, or left out.
    taken: Vec<bool>,
    /// Whether it is no tensor of its own any more.
    gone: Vec<bool>,
    /// The packed weights, by the index of their codes.
    united: BTreeMap<usize, TensorInfo>,
    packing: Packing,
}

impl<'a> Uniter<'a> {
    fn find(&self, name: &str) -> Option<(usize, &'a TensorInfo)> {
        let index = *self.by_name.get(name)?;
        Some((index, self.tensors.get(index)?))
    }

    /// The tensors that are no part yet, with their index.
    fn free(&self) -> impl Iterator<Item = (usize, &'a TensorInfo)> + use<'a> {
        let taken = self.taken.clone();
        self.tensors.iter().enumerate().filter(move |(i, _)| taken.get(*i) == Some(&false))
    }

    fn take(&mut self, index: usize) {
        if let Some(taken) = self.taken.get_mut(index) {
            *taken = true;
        }
    }

    /// Takes a tensor off the list.
    fn remove(&mut self, index: usize) {
        self.take(index);
        if let Some(gone) = self.gone.get_mut(index) {
            *gone = true;
        }
    }

    fn report(&mut self, tensor: &TensorInfo, why: impl Into<String>) {
        self.packing.findings.push((tensor.name.clone(), why.into()));
    }

    /// Leaves out the scale of an activation.
    fn drop(&mut self, index: usize) {
        if let Some(tensor) = self.tensors.get(index) {
            self.remove(index);
            self.packing.dropped.push(tensor.clone());
        }
    }

    /// Makes one weight of `parts`, whose codes come first.
    fn unite(&mut self, parts: &[usize], weight: UnitedWeight<'_>, packed: Packed) {
        let Some((first, codes)) = parts.first().and_then(|i| Some((*i, self.tensors.get(*i)?))) else {
            return;
        };
        let UnitedWeight { name, dtype, shape } = weight;
        if codes.name != name && self.find(name).is_some() {
            parts.iter().for_each(|index| self.take(*index));
            return self.report(codes, format!("the checkpoint has {name} too"));
        }
        if self.quantization.has_online_transforms {
            parts.iter().for_each(|index| self.take(*index));
            return self.report(codes, "transform_config rotates activations while the model runs");
        }
        parts.iter().for_each(|index| self.remove(*index));
        let name = if codes.name == name { codes.name.clone() } else { name.into() };
        let packed = Some(Arc::new(packed));
        self.united.insert(first, TensorInfo { name, dtype, shape, packed, ..codes.clone() });
    }
}

/// A part that does not fit, and why.
type Misfit<'a> = (&'a TensorInfo, String);

/// A packed weight as a tensor.
struct UnitedWeight<'a> {
    name: &'a str,
    /// The type that it is decoded to without loss.
    dtype: DType,
    shape: Shape,
}
