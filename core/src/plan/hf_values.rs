//! Values of a GGUF that a conversion to a Hugging Face folder depends on: a driver reads them before it plans.
//!
//! Tensors that the converter computes from the configuration are compared with what the folder's configuration gives. F32
//! tensors (norms, biases, routers) get the type of the folder where all of their values fit it exactly; else they stay F32.

use super::hf_mapping::{HfMapping, applies, asked};
use crate::bytes::ByteRange;
use crate::dtype::DType;
use crate::error::Result;
use crate::float::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::format::Checkpoint;
use crate::model::gguf_tensors::ValueStep;
use crate::recipe::Recipe;
use crate::tensor::{FileId, TensorInfo};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// Most values of a tensor that a converter computes.
const MAX_COMPUTED: u64 = 1 << 16;

/// The bytes of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRead {
    /// The tensor.
    pub name: String,
    /// Its file.
    pub file: FileId,
    /// Its bytes.
    pub bytes: ByteRange,
}

fn read(tensor: &TensorInfo) -> TensorRead {
    TensorRead { name: (&tensor.name).into(), file: tensor.file, bytes: tensor.bytes }
}

/// The tensors whose values the plan needs: those that a converter computes. Their values go to
/// [`Checkpoint::computed_tensors`], by [`f32_values`].
pub fn computed_tensors(checkpoint: &Checkpoint, recipe: &Recipe) -> Vec<TensorRead> {
    const NAMES: [&str; 3] = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];
    let computed = |t: &&TensorInfo| {
        NAMES.contains(&t.name.as_str()) && t.dtype == DType::F32 && t.shape.numel() <= MAX_COMPUTED
    };
    let all = checkpoint.tensors.iter().filter(computed).map(read);
    if applies(checkpoint, recipe) { all.collect() } else { Vec::new() }
}

/// Little-endian F32 values.
pub fn f32_values(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect()
}

/// Looks whether all values of an F32 tensor are those of a narrower type.
#[derive(Clone, Debug, PartialEq)]
pub struct ExactScan {
    /// The bytes to feed, in order.
    pub read: TensorRead,
    /// What the converter did to every value.
    step: ValueStep,
    to: DType,
    exact: bool,
    /// The bytes of a value that the last piece cut.
    rest: Vec<u8>,
}

impl ExactScan {
    /// Takes the next bytes. Returns whether further ones can change the result.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let mut bytes = bytes;
        while !self.rest.is_empty()
            && let Some((first, rest)) = bytes.split_first()
        {
            bytes = rest;
            self.rest.push(*first);
            if let Ok(raw) = <[u8; 4]>::try_from(self.rest.as_slice()) {
                self.exact &= self.fits(f32::from_le_bytes(raw));
                self.rest.clear();
            }
        }
        let (values, rest) = bytes.as_chunks();
        self.exact = self.exact && values.iter().all(|raw| self.fits(f32::from_le_bytes(*raw)));
        self.rest.extend_from_slice(rest);
        self.exact
    }

    /// Notes the result in the checkpoint.
    pub fn finish(self, checkpoint: &mut Checkpoint) {
        if self.exact {
            checkpoint.exact_floats.insert(self.read.name, self.to);
        }
    }

    /// Whether the converter makes exactly `value` of a value of the narrower type.
    fn fits(&self, value: f32) -> bool {
        let narrow = |x: f32| match self.to {
            DType::F16 => f16_to_f32(f32_to_f16(x)),
            _ => bf16_to_f32(f32_to_bf16(x)),
        };
        let made = match self.step {
            ValueStep::None => narrow(value),
            ValueStep::AddOne => narrow(value - 1.0) + 1.0,
            ValueStep::NegExp => {
                let source = narrow(libm::log(f64::from(-value)) as f32);
                -(libm::exp(f64::from(source)) as f32)
            }
        };
        // The converter's arithmetic on F16 is in F16.
        let made = if self.to == DType::F16 { narrow(made) } else { made };
        made.to_bits() == value.to_bits()
    }
}

/// The scans of a conversion to a folder whose type is narrower than F32, and not asked for by the recipe.
///
/// # Errors
///
/// `unsupported_architecture` and `unmapped_tensors` if the GGUF cannot be given back as a folder.
pub fn exact_scans(checkpoint: &Checkpoint, recipe: &Recipe) -> Result<Vec<ExactScan>> {
    if !applies(checkpoint, recipe) || asked(recipe).is_some() {
        return Ok(Vec::new());
    }
    let mapping = HfMapping::of(checkpoint, None)?;
    if mapping.float == DType::F32 {
        return Ok(Vec::new());
    }
    let steps: BTreeMap<&str, ValueStep> = mapping
        .gguf
        .tensors
        .iter()
        .filter(|t| !t.parts.is_empty())
        .map(|t| (t.name.as_str(), t.step))
        .collect();
    let scan = |tensor: &TensorInfo| {
        let step = *steps.get(tensor.name.as_str()).filter(|_| tensor.dtype == DType::F32)?;
        Some(ExactScan { read: read(tensor), step, to: mapping.float, exact: true, rest: Vec::new() })
    };
    Ok(checkpoint.tensors.iter().filter_map(scan).collect())
}
