//! CUDA: kernels on NVIDIA's devices. Bytes are those of `quantoscope_core::quant`, because every operation of the kernels
//! names its rounding.

mod gpu;
pub mod texts;

pub use gpu::Gpu;

use crate::device::{Kernel, Outcome, Task};
use quantoscope_core::DType;
use quantoscope_core::error::Result;

/// One run of an entry of [`texts`].
#[derive(Debug)]
pub struct Call<'a> {
    /// Whose text.
    pub dtype: DType,
    /// [`texts::DECODE`] or one of [`texts::encode`].
    pub entry: &'static str,
    /// What the entry reads.
    pub src: &'a [u8],
    /// What it writes, every byte of it.
    pub out: &'a mut [u8],
    /// How many blocks, at least one; `src` and `out` have the bytes of as many.
    pub blocks: u32,
}

/// Every kernel that has a text.
pub fn kernels() -> Vec<Kernel> {
    let of = |to| {
        let quantize =
            texts::SOURCES.into_iter().map(move |from| Kernel::Quantize { from, to, weighted: false });
        quantize.chain([Kernel::Dequantize(to)])
    };
    texts::TYPES.into_iter().flat_map(of).collect()
}

/// Does a task by `run`, which says whether a value is refused.
pub fn carry_out(
    task: Task<'_>,
    out: &mut [u8],
    run: impl FnOnce(Call<'_>) -> Result<bool>,
) -> Result<Outcome> {
    let mut stages = task.kernels();
    let (Some(kernel), None, Some(values)) = (stages.next(), stages.next(), task.values()) else {
        return Ok(Outcome::Declined);
    };
    let entry = match kernel {
        Kernel::Quantize { from, weighted: false, .. } => texts::encode(from),
        Kernel::Quantize { .. } | Kernel::Rotate(_) => None,
        Kernel::Dequantize(_) => Some(texts::DECODE),
    };
    let dtype = kernel.block();
    let blocks = u32::try_from(values / dtype.block_len() as usize);
    let (Some(entry), Ok(blocks), true) = (entry, blocks, texts::TYPES.contains(&dtype)) else {
        return Ok(Outcome::Declined);
    };
    let given = (task.src.len() as u64, out.len() as u64);
    if texts::sizes(dtype, entry, blocks) != Some(given) {
        return Ok(Outcome::Declined);
    }
    if blocks == 0 {
        return Ok(Outcome::Done);
    }
    let refused = run(Call { dtype, entry, src: task.src, out, blocks })?;
    // Which NaN a device makes is its own affair, so the processor makes it.
    let odd = |x: &[u8; 4]| u32::from_le_bytes(*x) & 0x7F80_0000 == 0x7F80_0000;
    let refused = refused || entry == texts::DECODE && out.as_chunks().0.iter().any(odd);
    Ok(if refused { Outcome::Declined } else { Outcome::Done })
}
