//! Where the values of the heads lie, and which tensors must be turned with them.

use super::names::{ModuleTensor, RuledName};
use super::{HeadRole, HeadSide, refuse, refuse_by};
use crate::error::Result;
use crate::model::arch::ValueLayout;
use crate::model::config::{ConfigReader, LIMIT};
use crate::tensor::TensorInfo;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

/// The most heads of a layer: where they lie is a list.
const MOST: u64 = 1 << 16;

/// Whether a rotation of the values leaves the model what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadsVerdict {
    /// It does.
    Exact(ValueHeads),
    /// It does not, and no tensor has a part.
    Refused {
        /// Why not.
        because: &'static str,
    },
}

/// Where the values of the heads lie, the same in every layer that has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueHeads {
    /// Values of a head: the order of the matrices.
    pub length: u64,
    /// Matrices of a layer, one for each head that has values.
    pub matrices: u32,
    /// In what makes them, along [`HeadRole::axis`]; in order, no two overlap.
    pub v_spans: Vec<HeadSpan>,
    /// In what reads them: several heads of queries share the values of one.
    pub o_spans: Vec<HeadSpan>,
    made_axis: u64,
    read_axis: u64,
    transposed: bool,
}

/// [`ValueHeads::length`] entries that are multiplied by a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadSpan {
    /// The first entry.
    pub at: u64,
    /// Which of the layer's matrices.
    pub matrix: u32,
}

impl ValueHeads {
    /// Where the heads lie in a tensor of this part.
    pub fn spans(&self, part: &HeadRole) -> &[HeadSpan] {
        match part.side {
            HeadSide::VProj => &self.v_spans,
            HeadSide::OProj => &self.o_spans,
        }
    }

    /// What the configuration says of them.
    pub(super) fn of(layout: ValueLayout, read: &ConfigReader<'_>, hidden: u64) -> Result<ValueHeads> {
        let size = |keys: &[&str]| read.size(keys, LIMIT).map(|n| n.map(|n| n as u64));
        let keys = ["num_attention_heads", "n_head"];
        let heads = size(&keys)?.filter(|&n| n <= MOST).ok_or_else(|| {
            let message = format!("config.json does not say num_attention_heads, or more than {MOST}");
            refuse_by(read, &keys, message)
        })?;
        let own = matches!(layout, ValueLayout::Latent | ValueLayout::Interleaved | ValueLayout::Transposed);
        let kv = match own {
            true => heads,
            false => size(&["num_kv_heads", "num_key_value_heads"])?.unwrap_or(heads),
        };
        let latent = layout == ValueLayout::Latent;
        let said = if latent { size(&["v_head_dim"])? } else { size(&["head_dim"])? };
        let nope = if latent { size(&["qk_nope_head_dim"])? } else { Some(0) };
        let (Some(length), Some(nope)) = (said.or_else(|| (!latent).then(|| exactly(hidden, heads))?), nope)
        else {
            let message = "config.json does not say how many values a head has".into();
            return Err(refuse_by(read, &["head_dim", "v_head_dim"], message));
        };
        if exactly(heads, kv).is_none() {
            let message = format!("config.json: {heads} heads cannot share the values of {kv}");
            return Err(refuse_by(read, &["num_kv_heads", "num_key_value_heads"], message));
        }
        Ok(ValueHeads::lay(layout, heads, kv, length, nope))
    }

    /// Sizes are below 2^24, and heads below 2^16: nothing here overflows.
    fn lay(layout: ValueLayout, heads: u64, kv: u64, length: u64, nope: u64) -> ValueHeads {
        let d = length;
        let each = heads / kv.max(1);
        // The first values, and from one head's to the next one's.
        let (start, step) = match layout {
            ValueLayout::Plain => (0, d),
            ValueLayout::Stacked | ValueLayout::Transposed => ((heads + kv) * d, d),
            ValueLayout::Interleaved => (2 * d, 3 * d),
            ValueLayout::Grouped => ((each + 1) * d, (each + 2) * d),
            ValueLayout::Latent => (nope, nope + d),
        };
        let span = |at: u64, matrix: u64| HeadSpan { at, matrix: matrix as u32 };
        ValueHeads {
            length,
            matrices: kv as u32,
            v_spans: (0..kv).map(|k| span(start + k * step, k)).collect(),
            o_spans: (0..heads).map(|h| span(h * d, h / each.max(1))).collect(),
            // In all layouts the values of the last head come last.
            made_axis: start + kv.saturating_sub(1) * step + d,
            read_axis: heads * d,
            transposed: layout == ValueLayout::Transposed,
        }
    }

    /// Whether an axis is as long as all values of a layer.
    pub(super) fn is_width(&self, axis: u64) -> bool {
        axis == self.read_axis || axis == u64::from(self.matrices) * self.length
    }

    /// The part of a named tensor, whose axis must be as long as the layout says.
    pub(super) fn part(&self, tensor: &TensorInfo, named: &RuledName) -> Result<Option<HeadRole>> {
        let weight = named.kind == ModuleTensor::Weight;
        let (side, axis, len) = match (named.makes_values, named.reads_values) {
            (true, _) if weight => (HeadSide::VProj, usize::from(self.transposed), self.made_axis),
            (true, _) => (HeadSide::VProj, 0, self.made_axis),
            (_, true) if weight => (HeadSide::OProj, usize::from(!self.transposed), self.read_axis),
            _ => return Ok(None),
        };
        let Some(layer) = named.layer else { return Ok(None) };
        let axes = tensor.shape.axes();
        if axes.len() != usize::from(weight) + 1 || axes.get(axis) != Some(&len) {
            let (shape, d) = (&axes, self.length);
            return Err(refuse(format!(
                "its shape {shape:?} has no axis {axis} of {len}, which heads of {d} values (config.json) make"
            ))
            .of_tensor(&tensor.name));
        }
        Ok(Some(HeadRole { axis, layer, side }))
    }
}

fn exactly(n: u64, by: u64) -> Option<u64> {
    n.checked_div(by).filter(|_| n.is_multiple_of(by))
}

/// Refuses a layer where one side of the attention is missing; weights only, as biases follow them.
pub(super) fn both_sides(tensors: &[TensorInfo], parts: &[(usize, HeadRole)]) -> Result<()> {
    let mut layers: BTreeMap<u32, [Option<usize>; 2]> = BTreeMap::new();
    for &(index, part) in parts {
        let matrix = tensors.get(index).is_some_and(|t| t.shape.axes().len() == 2);
        if let Some(slot) =
            layers.entry(part.layer).or_default().get_mut(part.side as usize).filter(|_| matrix)
        {
            *slot = Some(index);
        }
    }
    for (layer, sides) in layers {
        if let [Some(index), None] | [None, Some(index)] = sides {
            let what = "the other side of its attention is missing";
            let name = tensors.get(index).map_or("", |t| t.name.as_str());
            return Err(
                refuse(format!("{what} in layer {layer}: the values cannot be rotated")).of_tensor(name)
            );
        }
    }
    Ok(())
}
