//! Sensitivity of a model's output to the quantization of each of its tensors, and the choice of types by it.
//!
//! [`units`] finds the tensors of a plan that get a type together, [`variants`] measures the divergence of the model's output
//! with each of them alone quantized, [`groups`] joins tensors where that costs too much, [`report`] holds what was measured and the damage that it predicts for every type,
//! [`tokens`] draws token ids where there is no text, [`fit`] chooses types for a size. Knows no files or threads: a driver runs the passes.

pub mod divergence;
pub mod fit;
pub mod groups;
pub mod report;
pub mod tokens;
pub mod units;
pub mod variants;
