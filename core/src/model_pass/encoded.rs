//! Models whose values are those of other types: encoded, and decoded again, window by window.

use super::{ModelTensors, TensorRequest, other_values};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::job::Window;
use crate::plan::{OutputOp, Plan};
use crate::quant::{Encoding, decoder};
use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// The encoding that is written; `None` if bytes are kept.
fn written_as(op: OutputOp) -> Option<Encoding> {
    match op {
        OutputOp::Encode(Encoding::Type(DType::F32)) => None,
        OutputOp::Encode(encoding) => Some(encoding),
        OutputOp::Copy | OutputOp::Transcode(_) | OutputOp::Measure => None,
    }
}

impl ModelTensors {
    /// The same model with the values of these tensors as they are after encoding: what a file with these types holds.
    #[must_use]
    pub fn encoded(&self, encodings: BTreeMap<String, Encoding>) -> ModelTensors {
        ModelTensors { encodings: Arc::new(encodings), ..self.clone() }
    }

    /// The tensors, each with the numbers of the tensors of the checkpoint that its values come from.
    pub fn sources(&self) -> impl Iterator<Item = (&str, Vec<u32>)> {
        self.outputs
            .iter()
            .map(|(name, output)| (name.as_str(), output.segments.iter().map(|s| s.from.tensor).collect()))
    }

    /// What `plan` makes of `checkpoint`, whose tensors these are, as the written file holds it: encoded, then decoded.
    ///
    /// # Errors
    ///
    /// Those of [`ModelTensors::planned`]; `usage` if parts of a tensor get different types.
    pub fn written(&self, checkpoint: &Checkpoint, plan: &Plan) -> Result<ModelTensors> {
        if plan.conversion.as_ref().is_some_and(|c| c.rotation.is_some()) {
            let rotated = ModelTensors::planned(checkpoint, plan)?;
            let named = rotated.outputs.iter();
            let named = named.filter_map(|(n, o)| Some((n.clone(), written_as(o.segments.first()?.op)?)));
            let encodings = named.collect();
            return Ok(rotated.encoded(encodings));
        }
        let mut types: BTreeMap<u32, Option<Encoding>> = BTreeMap::new();
        let mut split = BTreeSet::new();
        for segment in plan.outputs.iter().flat_map(|o| &o.segments) {
            let encoding = written_as(segment.op);
            if types.insert(segment.from.tensor, encoding).is_some_and(|known| known != encoding) {
                split.insert(segment.from.tensor);
            }
        }
        let mut encodings = BTreeMap::new();
        for (name, sources) in self.sources() {
            if sources.iter().any(|s| split.contains(s)) {
                let message = "parts of this tensor get different types, and its effect cannot be measured";
                return Err(Error::new(Code::Usage, message).of_tensor(name));
            }
            if let Some(encoding) = sources.first().and_then(|s| types.get(s)).copied().flatten() {
                encodings.insert(name.into(), encoding);
            }
        }
        Ok(self.encoded(encodings))
    }
}

impl TensorRequest {
    /// The binary32 values of a window whose bytes may be encoded.
    pub(super) fn decoded<'v>(&self, window: &Window, values: &'v [u8]) -> Result<Cow<'v, [u8]>> {
        let Some(encoding) = self.encoding else { return Ok(Cow::Borrowed(values)) };
        let count = window.height().checked_mul(window.width()).ok_or_else(other_values)?;
        let dtype = encoding.dtype();
        let decode = decoder(dtype).ok_or_else(other_values)?;
        if dtype.bytes_for(count) != Some(values.len() as u64) {
            return Err(other_values());
        }
        let mut decoded = vec![0.0_f32; usize::try_from(count).map_err(|_| other_values())?];
        decode(values, &mut decoded);
        Ok(Cow::Owned(decoded.iter().flat_map(|x| x.to_le_bytes()).collect()))
    }
}
