//! Outputs of a Hugging Face folder that is made of a GGUF: the maps that make a GGUF of a folder, inverted.
//!
//! The names and shapes of the folder's tensors are proposed first. Then they are converted to a GGUF by the same rules as any
//! folder, on headers only; a folder whose GGUF is not the source is refused. What remains is to turn the parts around.

use super::hf_pieces::{GgufPiece, pieces, segments};
use super::{MetricSet, NonFinite, Output, OutputOp, RowMap, Segment, ThinVec};
use crate::dtype::{DType, DTypeKind};
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, Container};
use crate::model::gguf_tensors::{
    self, ConfigView, GgufTensor, GgufTensorOptions, GgufTensors, HfTensor, is_generated, kept_f32,
};
use crate::model::hf_config::{Candidate, Difference, GgufFacts, candidates, config, differences};
use crate::model::tensor_id::is_gguf_name;
use crate::quant::{Encoding, has_decoder};
use crate::recipe::{Reason, Recipe, TargetName, TensorNaming};
use crate::tensor::{Shape, TensorInfo};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::Value;

/// Most findings that a message lists.
const SHOWN: usize = 20;

/// A GGUF as the tensors of a Hugging Face folder.
#[derive(Clone, Debug)]
pub(super) struct HfMapping {
    /// The architecture and the class.
    pub(super) candidate: Candidate,
    /// The configuration.
    pub(super) config: Value,
    /// The tensors of the folder; types and places are those of the first GGUF tensor that each is made of.
    pub(super) tensors: Vec<TensorInfo>,
    /// The GGUF's tensors as parts of `tensors`.
    pub(super) gguf: GgufTensors,
    /// The type of decoded blocks, and of values that fit it.
    pub(super) float: DType,
    /// Keys that a conversion back to a GGUF adds.
    pub(super) added: Vec<Difference>,
}

/// Whether a conversion of `checkpoint` by `recipe` writes a folder for transformers, with its names.
pub(super) fn applies(checkpoint: &Checkpoint, recipe: &Recipe) -> bool {
    let named = || checkpoint.tensors.iter().any(|t| is_gguf_name(&t.name));
    let wanted = match recipe.names {
        TensorNaming::Source => false,
        TensorNaming::Auto | TensorNaming::Gguf => named(),
    };
    cfg!(feature = "conversion")
        && wanted
        && recipe.to == TargetName::HfFolder
        && recipe.rotate.is_none()
        && checkpoint.container == Container::Gguf
}

/// The type that a recipe asks for.
pub(super) fn asked(recipe: &Recipe) -> Option<DType> {
    recipe.types().next()
}

/// The float type of a GGUF: that of its file type, else of most weights; BF16 where blocks are all it has.
pub(super) fn float_type(checkpoint: &Checkpoint) -> DType {
    match checkpoint.metadata.uint("general.file_type") {
        Some(0) => return DType::F32,
        Some(1) => return DType::F16,
        Some(_) => return DType::BF16,
        None => {}
    }
    let weight = |t: &&TensorInfo| !kept_f32(&t.name, t.shape.axes().len());
    let bytes = |dtype: DType| -> u64 {
        let of = checkpoint.tensors.iter().filter(weight).filter(|t| t.dtype == dtype);
        of.map(|t| t.bytes.len()).fold(0, u64::saturating_add)
    };
    let floats = [DType::BF16, DType::F16, DType::F32];
    let blocks = checkpoint.tensors.iter().filter(weight).any(|t| t.dtype.is_quantized());
    match floats.into_iter().rev().max_by_key(|d| bytes(*d)) {
        Some(most) if !blocks && bytes(most) > 0 => most,
        _ => DType::BF16,
    }
}

/// A candidate that was tried.
struct Attempt {
    mapping: HfMapping,
    findings: Vec<String>,
}

impl HfMapping {
    /// The likeliest mapping of a GGUF.
    ///
    /// # Errors
    ///
    /// Those of [`HfMapping::choose`].
    pub(super) fn of(checkpoint: &Checkpoint, dtype: Option<DType>) -> Result<HfMapping> {
        HfMapping::choose(checkpoint, dtype, &mut |_| Ok(()))
    }

    /// The likeliest mapping of a GGUF for a forward pass: stacks of experts stay as they are in the file, if a checkpoint has them
    /// transposed or joined.
    ///
    /// # Errors
    ///
    /// Those of [`HfMapping::choose`].
    pub(super) fn of_pass(checkpoint: &Checkpoint) -> Result<HfMapping> {
        let stored = |c: Candidate| Candidate { arch: c.arch.gguf_stacks.unwrap_or(c.arch), ..c };
        let all = candidates(&checkpoint.metadata, &checkpoint.tensors).into_iter().map(stored);
        HfMapping::first(all, checkpoint, DType::F32, &mut |_| Ok(()))
    }

    /// The likeliest mapping of a GGUF that `check` accepts.
    ///
    /// # Errors
    ///
    /// `unsupported_architecture` if the architecture has no rules, `unmapped_tensors` with all findings if the rules do not
    /// give the GGUF back, and the first error of `check` if it accepts none.
    pub(super) fn choose(
        checkpoint: &Checkpoint,
        dtype: Option<DType>,
        check: &mut dyn FnMut(&HfMapping) -> Result<()>,
    ) -> Result<HfMapping> {
        let float = dtype.unwrap_or_else(|| float_type(checkpoint));
        let all = candidates(&checkpoint.metadata, &checkpoint.tensors);
        HfMapping::first(all.into_iter(), checkpoint, float, check)
    }

    /// The first candidate that gives the GGUF back and that `check` accepts.
    fn first(
        candidates: impl Iterator<Item = Candidate>,
        checkpoint: &Checkpoint,
        float: DType,
        check: &mut dyn FnMut(&HfMapping) -> Result<()>,
    ) -> Result<HfMapping> {
        let mut best: Option<Attempt> = None;
        let mut refused = None;
        for candidate in candidates {
            let attempt = attempt(candidate, checkpoint, float);
            if attempt.findings.is_empty() {
                match check(&attempt.mapping) {
                    Ok(()) => return Ok(attempt.mapping),
                    Err(e) => refused = refused.or(Some(e)),
                }
            } else if best.as_ref().is_none_or(|b| attempt.findings.len() < b.findings.len()) {
                best = Some(attempt);
            }
        }
        Err(refused.unwrap_or_else(|| refusal(checkpoint, best)))
    }
}

/// The error for the candidate with the fewest findings.
fn refusal(checkpoint: &Checkpoint, best: Option<Attempt>) -> Error {
    let Some(best) = best else {
        let architecture = checkpoint.metadata.text("general.architecture").unwrap_or("");
        let message = format!(
            "a GGUF of the architecture {architecture:?} cannot be given back as a Hugging Face folder; \
             --names source writes its tensors under their own names"
        );
        return Error::new(Code::UnsupportedArchitecture, message);
    };
    let more = best.findings.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let shown: Vec<String> = best.findings.into_iter().take(SHOWN).collect();
    let message = format!(
        "the GGUF cannot be given back as a {} checkpoint: {}{more}",
        best.mapping.candidate.arch.name,
        shown.join("; ")
    );
    Error::new(Code::UnmappedTensors, message)
}

/// Makes the folder's tensors and configuration by one candidate, and converts them back.
fn attempt(candidate: Candidate, checkpoint: &Checkpoint, float: DType) -> Attempt {
    let facts = GgufFacts {
        metadata: &checkpoint.metadata,
        tensors: &checkpoint.tensors,
        computed: &checkpoint.computed_tensors,
        dtype: float,
    };
    let config = config(candidate, &facts);
    let view = ConfigView::new(&config);
    let (proposed, mut findings) = gguf_tensors::hf_tensors(candidate.arch, &view, &checkpoint.tensors);
    let tensors: Vec<TensorInfo> = proposed.into_iter().map(stored).collect();
    let gguf = GgufTensors::default();
    let mut mapping = HfMapping { candidate, config, tensors, gguf, float, added: Vec::new() };
    match gguf_tensors::convertible(&mapping.config) {
        Ok(arch) if arch.name == candidate.arch.name => {}
        Ok(arch) => findings.push(format!("its configuration would be one of {}", arch.name)),
        Err(e) => findings.push(e.detail().message.clone()),
    }
    let options = GgufTensorOptions::default();
    match gguf_tensors::gguf_tensors(candidate.arch, &mapping.config, &mapping.tensors, options) {
        Ok(gguf) => {
            findings.extend(misfits(candidate, checkpoint, &gguf));
            mapping.gguf = gguf;
        }
        Err(e) => findings.push(e.detail().message.clone()),
    }
    match differences(candidate, &facts, &mapping.config) {
        Ok(all) => {
            let (added, lost): (Vec<_>, Vec<_>) = all.into_iter().partition(|d| d.file.is_none());
            findings.extend(lost.iter().map(|d| format!("{} {}", d.key, instead(d))));
            mapping.added = added;
        }
        Err(e) => findings.push(e.detail().message.clone()),
    }
    if findings.is_empty() {
        let pieces = pieces(&mapping.gguf, checkpoint);
        for (index, tensor) in mapping.tensors.iter().enumerate() {
            let own = pieces.get(&index).map_or(&[][..], Vec::as_slice);
            findings.extend(segments(tensor, own).err().map(|why| format!("{}: {why}", tensor.name)));
        }
    }
    Attempt { mapping, findings }
}

/// What is wrong with a key.
fn instead(difference: &Difference) -> String {
    let shown =
        |value: &crate::tensor::MetaValue| -> String { format!("{value:?}").chars().take(60).collect() };
    let file = difference.file.as_ref().map(shown).unwrap_or_default();
    match &difference.made {
        Some(made) => format!("is {file}, and its configuration gives {}", shown(made)),
        None => format!("is {file}, for which a configuration has no place"),
    }
}

fn stored(tensor: HfTensor) -> TensorInfo {
    let bytes = crate::bytes::ByteRange { start: 0, end: 0 };
    TensorInfo {
        name: tensor.name.as_str().into(),
        dtype: DType::F32,
        shape: tensor.shape,
        file: 0,
        bytes,
        packed: None,
    }
}

/// Axes without leading ones: older converters drop them.
fn trimmed(shape: &Shape) -> &[u64] {
    let axes = shape.axes();
    axes.get(axes.iter().take_while(|n| **n == 1).count()..).unwrap_or_default()
}

/// The differences between the tensors of a GGUF and those that its folder would become.
fn misfits(candidate: Candidate, checkpoint: &Checkpoint, made: &GgufTensors) -> Vec<String> {
    let mut stored: BTreeMap<&str, &TensorInfo> =
        checkpoint.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut findings = Vec::new();
    for tensor in &made.tensors {
        let Some(file) = stored.remove(tensor.name.as_str()) else {
            findings.push(format!("{} would be added", tensor.name));
            continue;
        };
        if trimmed(&file.shape) != trimmed(&tensor.shape) {
            let (is, would) = (file.shape.axes(), tensor.shape.axes());
            findings.push(format!("{}: its shape {is:?} would become {would:?}", tensor.name));
        }
        if tensor.parts.is_empty() {
            findings.extend(other_values(checkpoint, tensor));
        }
    }
    for name in stored.into_keys() {
        let why = match is_generated(candidate.arch, name) {
            true => "is not what the converter computes for any configuration that is known",
            false => "has no place in a checkpoint",
        };
        findings.push(format!("{name} {why}"));
    }
    findings
}

/// The finding for computed values that are not those of the file.
fn other_values(checkpoint: &Checkpoint, tensor: &GgufTensor) -> Option<String> {
    let name = &tensor.name;
    let Some(file) = checkpoint.computed_tensors.get(name) else {
        return Some(format!("{name} was not read, and it has to be computed from the configuration"));
    };
    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    (bits(file) != bits(&tensor.generated))
        .then(|| format!("{name} has other values than its configuration gives"))
}

impl HfMapping {
    /// The type of a tensor of the folder.
    fn dtype(&self, checkpoint: &Checkpoint, asked: Option<DType>, pieces: &[GgufPiece<'_>]) -> DType {
        if let Some(dtype) = asked {
            return dtype;
        }
        let first = pieces.first().map_or(self.float, |p| p.info.dtype);
        let alike = pieces.iter().all(|p| p.info.dtype == first);
        let exact = |p: &GgufPiece<'_>| {
            p.info.dtype != DType::F32
                || checkpoint.exact_floats.get(p.info.name.as_str()) == Some(&self.float)
        };
        match first.kind() {
            DTypeKind::Float if alike && first != DType::F32 => first,
            _ if pieces.iter().all(exact) => self.float,
            _ => DType::F32,
        }
    }

    /// The outputs of the folder, in the order of the GGUF.
    ///
    /// # Errors
    ///
    /// `unsupported_dtype` if a tensor cannot be decoded.
    pub(super) fn outputs(
        &self,
        checkpoint: &Checkpoint,
        recipe: &Recipe,
        measure: bool,
    ) -> Result<Vec<Output>> {
        let pieces = pieces(&self.gguf, checkpoint);
        let none = Vec::new();
        let all = self
            .tensors
            .iter()
            .enumerate()
            .map(|(index, tensor)| (tensor, pieces.get(&index).unwrap_or(&none)));
        all.map(|(tensor, pieces)| self.output(checkpoint, recipe, measure, tensor, pieces)).collect()
    }

    fn output(
        &self,
        checkpoint: &Checkpoint,
        recipe: &Recipe,
        measure: bool,
        tensor: &TensorInfo,
        pieces: &[GgufPiece<'_>],
    ) -> Result<Output> {
        let about = |why: String| Error::new(Code::UnmappedTensors, why).of_tensor(&tensor.name);
        let undecodable =
            |p: &&GgufPiece<'_>| p.info.dtype.kind() == DTypeKind::Integer || !has_decoder(p.info.dtype);
        if let Some(piece) = pieces.iter().find(undecodable) {
            let message = format!("{} as {} cannot be decoded", piece.gguf.name, piece.info.dtype);
            return Err(Error::new(Code::UnsupportedDtype, message).of_tensor(&tensor.name));
        }
        let (grid, mut segments) = segments(tensor, pieces).map_err(about)?;
        let dtype = self.dtype(checkpoint, asked(recipe), pieces);
        let moves = |s: &Segment| {
            s.from.dtype == dtype
                && s.from.ops.is_empty()
                && matches!(s.from.map, RowMap::Identity | RowMap::Unpermute { .. })
        };
        let op = match segments.iter().all(moves) {
            true => OutputOp::Copy,
            false => OutputOp::Encode(Encoding::Type(dtype)),
        };
        segments.iter_mut().for_each(|s| s.op = op);
        let (code, text) = match op {
            OutputOp::Copy => ("kept", "keeps its type"),
            _ if pieces.iter().any(|p| p.info.dtype.is_quantized()) => ("decoded", "blocks are decoded"),
            _ => ("restored", "values as they were before the GGUF"),
        };
        let nonfinite = if recipe.allow_nonfinite { NonFinite::Counted } else { NonFinite::Refused };
        let error = measure && op != OutputOp::Copy;
        Ok(Output {
            name: tensor.name.clone(),
            dtype,
            shape: tensor.shape.clone(),
            grid,
            place: None,
            streams: ThinVec::new(),
            segments: segments.into(),
            metrics: MetricSet { error, nonfinite, ..MetricSet::default() },
            reason: Reason { code, text: text.into() }.into(),
        })
    }
}
