//! MXFP4 of gpt-oss: `NAME_blocks`, U8 `[.., rows, cols / 32, 16]`, and `NAME_scales`, U8 `[.., rows, cols / 32]`.

use super::{UnitedWeight, Uniter};
use crate::dtype::DType;
use crate::tensor::packed::{Layout, Packed};
use crate::tensor::{Shape, TensorInfo};
use alloc::format;
use alloc::vec::Vec;

const BLOCKS: &str = "_blocks";
const SCALES: &str = "_scales";

/// Weights and bytes of a block.
const BLOCK: (u64, u64) = (32, 16);

/// Whether a tensor may be a part of such a weight.
pub(super) fn is_part(tensor: &TensorInfo) -> bool {
    let name = tensor.name.as_str();
    (name.ends_with(BLOCKS) || name.ends_with(SCALES)) && tensor.shape.axes().len() > 1
}

pub(super) fn find(uniter: &mut Uniter<'_>) {
    let named = |name: &str, suffix: &str| name.strip_suffix(suffix).map(str::len);
    let declared = uniter.quantization.method.as_deref() == Some("mxfp4");
    for (index, tensor) in uniter.free() {
        let name = tensor.name.as_str();
        if let Some(stem) = named(name, BLOCKS).and_then(|n| name.get(..n)) {
            match uniter.find(&format!("{stem}{SCALES}")) {
                Some(scales) => unite(uniter, stem, (index, tensor), scales, declared),
                None if declared => {
                    uniter.take(index);
                    uniter.report(tensor, format!("its scales are missing ({stem}{SCALES})"));
                }
                None => {}
            }
        } else if let Some(stem) = named(name, SCALES).and_then(|n| name.get(..n))
            && declared
            && uniter.find(&format!("{stem}{BLOCKS}")).is_none()
        {
            uniter.take(index);
            uniter.report(tensor, format!("its codes are missing ({stem}{BLOCKS})"));
        }
    }
}

fn unite(
    uniter: &mut Uniter<'_>,
    name: &str,
    (index, blocks): (usize, &TensorInfo),
    (at, scales): (usize, &TensorInfo),
    declared: bool,
) {
    if (blocks.dtype, scales.dtype) != (DType::U8, DType::U8) {
        // Tensors that are called so in a model that is not quantized.
        if !declared {
            return;
        }
        let wrong = if blocks.dtype == DType::U8 { scales } else { blocks };
        return uniter.report(wrong, format!("it is {}; parts of MXFP4 are U8", wrong.dtype));
    }
    [index, at].into_iter().for_each(|i| uniter.take(i));
    let (len, bytes) = BLOCK;
    let [outer @ .., width] = blocks.shape.axes() else { return };
    if *width != bytes || outer.len() < 2 {
        let shape = blocks.shape.axes();
        return uniter
            .report(blocks, format!("its shape {shape:?} is not [.., rows, cols / {len}, {bytes}]"));
    }
    if scales.shape.axes() != outer {
        let shape = scales.shape.axes();
        return uniter.report(scales, format!("its shape is {shape:?}; {} needs {outer:?}", blocks.name));
    }
    let [stack @ .., count] = outer else { return };
    let cols = count.checked_mul(len);
    let axes = cols.map(|cols| stack.iter().copied().chain([cols]).collect::<Vec<_>>());
    let Some((cols, shape)) = cols.zip(axes.and_then(Shape::new)).filter(|(_, s)| s.numel() > 0) else {
        return uniter.report(blocks, "it has no elements, or too many");
    };
    let parts = Vec::from([blocks.clone(), scales.clone()]);
    let packed = Packed { layout: Layout::Mxfp4, rows: shape.rows(), cols, parts };
    uniter.unite(&[index, at], UnitedWeight { name, dtype: DType::MXFP4, shape }, packed);
}
