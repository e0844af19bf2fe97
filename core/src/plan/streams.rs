//! The stored tensors of an output: the output itself, or several tensors that each hold a part of every block.

use super::{FileRange, Output, ThinVec};
use crate::dtype::{DType, MlxType};
use crate::tensor::{Name, Shape};
use serde::Serialize;

/// Consecutive bytes of each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BlockPart {
    /// The first byte.
    pub at: u32,
    /// Number of bytes.
    pub len: u32,
}

/// A stored tensor that holds a part of each block of an output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputStream {
    /// Its name in the result.
    pub name: Name,
    /// The type of its elements.
    pub dtype: DType,
    /// Its shape, outermost axis first.
    pub shape: Shape,
    /// The bytes of a block that it holds.
    pub part: BlockPart,
    /// Its range in a file, once it is laid out.
    pub place: Option<FileRange>,
}

/// A tensor as it is stored in a file.
#[derive(Clone, Copy, Debug)]
pub struct StoredTensor<'a> {
    /// Its name.
    pub name: &'a Name,
    /// The type of its elements.
    pub dtype: DType,
    /// Its shape, outermost axis first.
    pub shape: &'a Shape,
    /// Its range in a file; absent if it is not written, or not laid out yet.
    pub place: Option<FileRange>,
}

impl Output {
    /// The tensors that a file holds of this output: itself, or its streams.
    pub fn stored(&self) -> impl Iterator<Item = StoredTensor<'_>> {
        let itself =
            StoredTensor { name: &self.name, dtype: self.dtype, shape: &self.shape, place: self.place };
        let streams = self.streams.iter().map(|s| StoredTensor {
            name: &s.name,
            dtype: s.dtype,
            shape: &s.shape,
            place: s.place,
        });
        Some(itself).filter(|_| self.streams.is_empty()).into_iter().chain(streams)
    }

    /// Bytes of its stored tensors; `None` if it is not written.
    pub fn bytes_out(&self) -> Option<u64> {
        self.stored().map(|s| s.place.map(|p| p.bytes)).try_fold(0_u64, |sum, bytes| sum.checked_add(bytes?))
    }

    /// Whether it has a place in a file.
    pub fn is_written(&self) -> bool {
        self.stored().all(|s| s.place.is_some())
    }

    /// The places of its stored tensors, to be filled in, in the order of [`Output::stored`].
    pub(super) fn places_mut(&mut self) -> impl Iterator<Item = &mut Option<FileRange>> {
        let itself = Some(&mut self.place).filter(|_| self.streams.is_empty());
        itself.into_iter().chain(self.streams.iter_mut().map(|s| &mut s.place))
    }

    /// Stores the output as MLX does: `MODULE.weight` with the codes, `MODULE.scales` and `MODULE.biases`.
    ///
    /// `None` if the shape does not fit the groups.
    pub(super) fn store_as_mlx(&mut self, of: MlxType, module: &str) -> Option<()> {
        let (last, stack) = self.shape.axes().split_last()?;
        let groups = last.checked_div(of.group()).filter(|groups| groups * of.group() == *last)?;
        let shape =
            |last: u64| Shape::new(stack.iter().copied().chain([last]).collect::<alloc::vec::Vec<_>>());
        let (codes, float) = (of.code_bytes() as u32, of.float().dtype());
        let field = float.block_bytes() as u32;
        let word = DType::U32.block_bytes();
        let stream = |suffix: &str, dtype, shape, at, len| OutputStream {
            name: alloc::format!("{module}.{suffix}").as_str().into(),
            dtype,
            shape,
            part: BlockPart { at, len },
            place: None,
        };
        self.streams = ThinVec::from_iter([
            stream("weight", DType::U32, shape(groups.checked_mul(of.code_bytes() / word)?)?, 0, codes),
            stream("scales", float, shape(groups)?, codes, field),
            stream("biases", float, shape(groups)?, codes + field, field),
        ]);
        Some(())
    }
}
