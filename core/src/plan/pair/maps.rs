//! Pairs the tensors of a GGUF with those of a Hugging Face folder by the maps that make one of the other.

use super::Finding;
use super::builder::{PairBuilder, other_side};
use crate::dtype::{DType, DTypeKind};
use crate::error::Result;
use crate::format::{Checkpoint, Container};
use crate::model::gguf_tensors::{self, GgufTensor, GgufTensorOptions, GgufTensors, is_configuration};
use crate::plan::gguf_mapping::Composer;
use crate::plan::hf_mapping::HfMapping;
use crate::plan::hf_pieces::{GgufPiece, pieces, segments};
use crate::plan::source_tensors::{is_measurable, role_reason};
use crate::plan::{Grid, MetricSet, Op, Operand, Output, OutputOp, Segment, Side, ThinVec};
use crate::quant::Encoding;
use crate::recipe::{Action, Decision, Reason, Recipe, TargetName};
use crate::tensor::TensorInfo;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use serde_json::Value;

/// The tensors of `gguf` as parts of those of `folder`: by the folder's configuration, else by that of the GGUF.
fn made(gguf: &Checkpoint, folder: &Checkpoint) -> Option<GgufTensors> {
    let config = folder.config.as_deref().or_else(|| folder.companion_files.get("params.json"));
    let config = config.and_then(|c| serde_json::from_slice::<Value>(c).ok());
    let by_config = |config: Value| -> Result<GgufTensors> {
        let arch = gguf_tensors::convertible(&config)?;
        gguf_tensors::gguf_tensors(arch, &config, &folder.tensors, GgufTensorOptions::default())
    };
    if let Some(made) = config.filter(is_configuration).and_then(|config| by_config(config).ok()) {
        return Some(made);
    }
    let HfMapping { tensors, gguf: mut made, .. } = HfMapping::of(gguf, None).ok()?;
    let places: BTreeMap<&str, usize> =
        folder.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
    // Tensors that the folder lacks have no index in it.
    let place = |source: usize| tensors.get(source).and_then(|t| places.get(t.name.as_str())).copied();
    for part in made.tensors.iter_mut().flat_map(|t| &mut t.parts) {
        part.source = place(part.source).unwrap_or(usize::MAX);
    }
    Some(made)
}

impl PairBuilder<'_> {
    /// Pairs the GGUF on `side` with the folder on the other side.
    pub(super) fn by_maps(&mut self, side: Side) {
        let (gguf, folder) = (self.side(side), self.side(other_side(side)));
        if (gguf.container, folder.container) != (Container::Gguf, Container::Safetensors) {
            return;
        }
        let Some(made) = made(gguf, folder) else { return };
        let pieces = pieces(&made, gguf);
        let (mut mine, mut theirs) = (BTreeSet::new(), BTreeSet::new());
        let mut whole: BTreeSet<usize> = BTreeSet::new();
        for (&index, own) in &pieces {
            let Some(tensor) = folder.tensors.get(index) else { continue };
            if self.used_on(other_side(side)).contains(&index)
                || own.iter().any(|p| self.used_on(side).contains(&p.index))
            {
                continue;
            }
            theirs.insert(index);
            mine.extend(own.iter().map(|p| p.index));
            if let Some(finding) = misfit(own) {
                self.findings.push(finding);
                continue;
            }
            match segments(tensor, own) {
                Ok((_, segments)) if segments.iter().any(is_filled) => {
                    whole.extend(own.iter().map(|p| p.index))
                }
                Ok((grid, segments)) => self.push_map(side, index, tensor, own, (grid, segments)),
                Err(_) => whole.extend(own.iter().map(|p| p.index)),
            }
        }
        let places: BTreeMap<&str, usize> =
            gguf.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        let place = |tensor: &GgufTensor| places.get(tensor.name.as_str()).copied();
        for gguf_tensor in made.tensors.iter().filter(|_| !whole.is_empty()) {
            if let Some(index) = place(gguf_tensor).filter(|i| whole.contains(i)) {
                self.push_whole(side, index, gguf_tensor);
            }
        }
        for gguf_tensor in made.tensors.iter().filter(|t| t.parts.is_empty()) {
            if let Some(index) = place(gguf_tensor).filter(|i| !self.used_on(side).contains(i)) {
                mine.insert(index);
                self.push_computed(side, index, gguf_tensor);
            }
        }
        self.used_on(side).extend(mine);
        self.used_on(other_side(side)).extend(theirs);
    }

    /// Adds a tensor of the GGUF that the converter computes from the folder's configuration.
    fn push_computed(&mut self, side: Side, index: usize, gguf_tensor: &GgufTensor) {
        let gguf = self.side(side);
        let Some(info) = gguf.tensors.get(index) else { return };
        let (n, values) = (gguf_tensor.shape.numel(), &gguf_tensor.generated);
        if info.shape.numel() != n {
            let detail = format!("shape {:?} against {:?}", gguf_tensor.shape.axes(), info.shape.axes());
            return self.find("shape_mismatch", &info.name, detail);
        }
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let made = Operand { side: other_side(side), ..Operand::generated(DType::F32, bytes) };
        let file = Operand::whole(side, index, info);
        let (from, against) = if side == Side::Source { (file, made) } else { (made, file) };
        let grid = Grid { rows: 1, cols: n };
        let segment =
            Segment { against: Some(Box::new(against)), ..Segment::whole(grid, from, OutputOp::Measure) };
        let output = Output {
            name: info.name.clone(),
            dtype: DType::F32,
            shape: info.shape.clone(),
            grid,
            place: None,
            streams: ThinVec::new(),
            segments: segment.into(),
            metrics: MetricSet::default(),
            reason: role_reason(&info.name, &info.shape).into(),
        };
        let computed = TensorInfo { dtype: DType::F32, ..info.clone() };
        self.measured(output, side, info, &computed);
    }

    /// Adds a tensor of the folder whose parts in the GGUF are rows of it.
    fn push_map(
        &mut self,
        side: Side,
        index: usize,
        tensor: &TensorInfo,
        pieces: &[GgufPiece<'_>],
        (grid, made): (Grid, Vec<Segment>),
    ) {
        let Some(piece) = pieces.first() else { return };
        let turned = |segment: Segment| {
            let gguf = Operand { side, ..segment.from };
            let row = segment.rows.start;
            let folder = Operand { row, ..Operand::whole(other_side(side), index, tensor) };
            let (from, against) = if side == Side::Source { (gguf, folder) } else { (folder, gguf) };
            let op = OutputOp::Measure;
            Segment {
                rows: segment.rows,
                from,
                against: Some(Box::new(against)),
                importance: None,
                gain: None,
                op,
            }
        };
        let segments: Vec<Segment> = made.into_iter().map(turned).collect();
        let output = Output {
            name: tensor.name.clone(),
            dtype: DType::F32,
            shape: tensor.shape.clone(),
            grid,
            place: None,
            streams: ThinVec::new(),
            segments: segments.into(),
            metrics: MetricSet::default(),
            reason: role_reason(&tensor.name, &tensor.shape).into(),
        };
        self.measured(output, side, piece.info, tensor);
    }

    /// Adds a tensor of the GGUF whose columns are those of a tensor of the folder with others between them.
    fn push_whole(&mut self, side: Side, index: usize, gguf_tensor: &GgufTensor) {
        let (gguf, folder) = (self.side(side), self.side(other_side(side)));
        let (Some(info), Some(first)) = (gguf.tensors.get(index), gguf_tensor.parts.first()) else { return };
        let Some(source) = folder.tensors.get(first.source) else { return };
        let recipe = Recipe::new(TargetName::Gguf, Some(DType::F32));
        let composer =
            Composer { tensors: &folder.tensors, recipe: &recipe, rotated: BTreeMap::new(), measure: false };
        let reason = Reason { code: "weight", text: "weight".into() }.into();
        let decision = Decision { action: Action::Encode(Encoding::Type(DType::F32)), reason };
        let logical =
            TensorInfo { name: info.name.clone(), shape: gguf_tensor.shape.clone(), ..source.clone() };
        let Ok(mut output) = composer.output(gguf_tensor, &logical, decision) else { return };
        for segment in &mut output.segments {
            let row = segment.rows.start;
            let mine = Operand { row, ..Operand::whole(side, index, info) };
            segment.from.side = other_side(side);
            segment.op = OutputOp::Measure;
            let against =
                if side == Side::Source { core::mem::replace(&mut segment.from, mine) } else { mine };
            segment.against = Some(Box::new(against));
        }
        output.reason = role_reason(&info.name, &info.shape).into();
        self.measured(output, side, info, source);
    }

    /// Adds an output with the metrics of its pair, unless one side cannot be decoded.
    fn measured(&mut self, mut output: Output, side: Side, gguf: &TensorInfo, folder: &TensorInfo) {
        let (a, b) = if side == Side::Source { (gguf, folder) } else { (folder, gguf) };
        if let Some(bad) =
            [a, b].into_iter().find(|t| !is_measurable(t) || t.dtype.kind() == DTypeKind::Integer)
        {
            let detail = format!("{} cannot be decoded", bad.dtype);
            return self.find("unsupported_dtype", &output.name, detail);
        }
        match (self.choose)(a.dtype, b.dtype) {
            Ok((metrics, _)) => {
                output.metrics = metrics;
                output.dtype = b.dtype;
                self.outputs.push(output);
            }
            Err(detail) => self.find("not_comparable", &output.name, detail),
        }
    }
}

/// Whether rows are not those of the GGUF, which does not have them.
fn is_filled(segment: &Segment) -> bool {
    segment.from.ops.iter().any(|op| matches!(op, Op::Set(_)))
}

/// The finding for a GGUF tensor of another shape than the folder's would give.
fn misfit(pieces: &[GgufPiece<'_>]) -> Option<Finding> {
    let other = pieces.iter().find(|p| p.info.shape.numel() != p.gguf.shape.numel())?;
    let detail = format!("shape {:?} against {:?}", other.gguf.shape.axes(), other.info.shape.axes());
    Some(Finding::new("shape_mismatch", &other.info.name, detail))
}
