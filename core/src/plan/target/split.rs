//! The files of a split output: which outputs each of them holds, and their names. Knows no layout of a file.

use super::{Contents, usage};
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::plan::{FileRange, Output, Warning};
use crate::recipe::SplitOptions;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// Most files of a split: GGUF counts them in 16 bits.
const MAX_FILES: usize = 65_535;

/// The outputs of each file, as consecutive ranges of `outputs`, which are sorted by file first if the recipe keeps the
/// files of the source. One range where the output is one file.
///
/// # Errors
///
/// `usage` if there would be more files than their number can count.
pub(super) fn files_of(contents: &Contents<'_>, outputs: &mut [Output]) -> Result<Vec<Range<usize>>> {
    let options = &contents.recipe.split;
    match options.keep {
        true => checked(kept(contents.checkpoint, outputs)),
        false => within(options, outputs),
    }
}

/// Files within the limits of `options`, as consecutive ranges of `outputs`.
///
/// # Errors
///
/// As [`files_of`].
pub(super) fn within(options: &SplitOptions, outputs: &[Output]) -> Result<Vec<Range<usize>>> {
    checked(limited(options, outputs)?)
}

/// Refuses more files than their number can count.
fn checked(files: Vec<Range<usize>>) -> Result<Vec<Range<usize>>> {
    if files.len() > MAX_FILES {
        let message = format!("the limit makes {} files; at most {MAX_FILES} are possible", files.len());
        return Err(usage(message));
    }
    Ok(files)
}

/// Files within the limits, in the order of `outputs`.
fn limited(options: &SplitOptions, outputs: &[Output]) -> Result<Vec<Range<usize>>> {
    let mut files: Vec<Range<usize>> = options.no_tensor_first.then_some(0..0).into_iter().collect();
    let (mut start, mut bytes) = (0_usize, 0_u64);
    for (i, output) in outputs.iter().enumerate() {
        let size = output.dtype.bytes_for(output.shape.numel());
        let overflow =
            || Error::new(Code::Overflow, "the size of the tensor overflows 64 bits").of_tensor(&output.name);
        let size = size.ok_or_else(overflow)?;
        let sum = bytes.saturating_add(size);
        let full = options.max_tensors.is_some_and(|max| (i - start) as u64 >= max)
            || options.max_bytes.is_some_and(|max| sum > max);
        if full && i > start {
            files.push(start..i);
            start = i;
        }
        bytes = if start == i { size } else { sum };
    }
    files.push(start..outputs.len());
    Ok(files)
}

/// The files of the source that hold tensors, and its first file. Generated tensors belong to the first one.
fn kept(checkpoint: &Checkpoint, outputs: &mut [Output]) -> Vec<Range<usize>> {
    let file_of = |output: &Output| {
        let from = output.segments.first().map(|s| &s.from).filter(|from| !from.is_generated());
        from.and_then(|from| checkpoint.tensors.get(from.tensor as usize)).map_or(0, |t| t.file)
    };
    outputs.sort_by_key(file_of);
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    // The first file of a GGUF split may have no tensors; the index of safetensors shards is no file of weights.
    let is_weights = |name: &str| !name.ends_with(".json");
    if checkpoint.files.len() > 1 && checkpoint.files.first().is_some_and(|f| is_weights(&f.name)) {
        counts.insert(0, 0);
    }
    outputs.iter().for_each(|output| *counts.entry(file_of(output)).or_default() += 1);
    let mut end = 0;
    let ranges = counts.values().map(|count| {
        let start = end;
        end += count;
        start..end
    });
    let ranges: Vec<Range<usize>> = ranges.collect();
    if ranges.is_empty() { core::iter::once(0..outputs.len()).collect() } else { ranges }
}

/// The name of file `index`, counted from 0, of `count` files, without what stands before it: `-00001-of-00003.gguf`.
pub(super) fn name(index: usize, count: usize, extension: &str) -> String {
    format!("-{:05}-of-{count:05}.{extension}", index + 1)
}

/// Places the outputs of a file.
pub(super) fn place(outputs: &mut [Output], file: usize, offsets: &[u64], sizes: &[u64]) {
    for ((output, &at), &bytes) in outputs.iter_mut().zip(offsets).zip(sizes) {
        output.place = Some(FileRange { file: file as u32, at, bytes });
    }
}

/// The warning about limits that the output does not reach.
pub(super) fn not_split(options: &SplitOptions) -> Option<Warning> {
    let message = match options.keep {
        true => "the input is one file, and so is the output",
        false => "the output is within the limits of one file, so it is not split",
    };
    (!options.is_none()).then(|| Warning::new("not_split", message))
}
