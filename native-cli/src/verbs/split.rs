//! `split` and `merge`: the same tensors and metadata in several files, or in one.

use super::convert::{self, ConversionObserver, ConversionRequest, ConversionResult};
use crate::io::source::Source;
use crate::options::{EquivalenceOptions, FilesOptions};
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::{Checkpoint, Container};
use quantoscope_core::recipe::{GgufOptions, Recipe, SplitOptions, TargetName, TensorNaming};

/// Tensors of each file if no limit is given: the default of llama-gguf-split.
const TENSORS: u64 = 128;

/// Writes the input as several files within the limits, or only plans it for a dry run. The output is a GGUF split, or shards
/// of safetensors with their index.
///
/// # Errors
///
/// `unsupported_container` for other containers than GGUF and safetensors; otherwise as
/// [`quantize`](super::quantize::run).
pub fn split(options: &FilesOptions, observer: &dyn ConversionObserver) -> Result<ConversionResult> {
    let limited = options.split.max_tensors.is_some() || options.split.max_bytes.is_some();
    let max_tensors = if limited { options.split.max_tensors } else { Some(TENSORS) };
    let split = SplitOptions { max_tensors, keep: false, ..options.split };
    let source = Source::open_model(&options.input)?;
    rewrite(options, &recipe(options, &source.checkpoint, split)?, observer)
}

/// Writes the files of the input as one file, or only plans it for a dry run.
///
/// # Errors
///
/// `usage` if the input is one file already; otherwise as [`split`].
pub fn merge(options: &FilesOptions, observer: &dyn ConversionObserver) -> Result<ConversionResult> {
    let source = Source::open_model(&options.input)?;
    let weights = source.checkpoint.files.iter().filter(|f| !f.name.ends_with(".json")).count();
    if weights < 2 {
        let message = format!("{} is one file already", options.input.display());
        return Err(Error::new(Code::Usage, message));
    }
    rewrite(options, &recipe(options, &source.checkpoint, SplitOptions::default())?, observer)
}

/// The recipe that keeps everything but the files.
fn recipe(options: &FilesOptions, checkpoint: &Checkpoint, split: SplitOptions) -> Result<Recipe> {
    let output = &options.output.path;
    let is_file = output.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    let to = match checkpoint.container {
        Container::Gguf => TargetName::Gguf,
        Container::Safetensors if is_file => TargetName::Safetensors,
        Container::Safetensors => TargetName::HfFolder,
        other => {
            let message = format!("files of the container {} cannot be split or merged", other.name());
            return Err(Error::new(Code::UnsupportedContainer, message));
        }
    };
    Ok(Recipe {
        gguf: GgufOptions { verbatim: true, ..GgufOptions::default() },
        split,
        names: TensorNaming::Source,
        allow_nonfinite: true,
        ..Recipe::new(to, None)
    })
}

fn rewrite(
    options: &FilesOptions,
    recipe: &Recipe,
    observer: &dyn ConversionObserver,
) -> Result<ConversionResult> {
    quantoscope_core::plan::target::check(recipe)?;
    let request = ConversionRequest {
        input: &options.input,
        output: &options.output,
        recipe,
        imatrix: None,
        measure: false,
        equivalence: &EquivalenceOptions::default(),
        resources: &options.resources,
    };
    convert::run(&request, observer)
}
