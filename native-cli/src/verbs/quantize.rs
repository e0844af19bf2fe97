//! `quantize`: a checkpoint in other types, in another container, or both.

use super::convert::{self, ConversionObserver, ConversionRequest, ConversionResult};
use crate::options::QuantizeOptions;
use quantoscope_core::error::Result;

/// Converts the input by its recipe and writes the output, or only plans it for a dry run. `()` is an
/// observer that ignores everything.
///
/// # Errors
///
/// `usage` for a recipe that contradicts itself; those of opening and reading the input; `exists`,
/// `partial_exists`, `same_file`, `no_space` and `io` for the output; `non_finite` and the like for values
/// that their type cannot hold; `rotation_off` if a rotated model does not compute what its source computes.
pub fn run(options: &QuantizeOptions, observer: &dyn ConversionObserver) -> Result<ConversionResult> {
    let request = ConversionRequest {
        input: &options.input,
        output: &options.output,
        recipe: &options.recipe,
        imatrix: options.imatrix.as_deref(),
        measure: options.measure,
        equivalence: &options.equivalence,
        resources: &options.resources,
    };
    convert::run(&request, observer)
}
