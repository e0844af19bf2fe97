//! Evaluation of models by their logits: perplexity of a text, and divergence from the logits of a reference.
//!
//! Logits come in parts of the vocabulary ([`scores`]), in an order that no option of resources changes. Knows no files,
//! tokenizers or forward pass.

mod report;
pub mod scores;
mod windows;

pub use report::{EvalFigures, EvalReport, PositionView, ReferenceFigures};
pub use scores::{PositionScores, Score};
pub use windows::{EvalWindow, WindowOptions, windows};

/// Entries of the vocabulary whose logits are made and scored at once.
pub const HEAD_ROWS: usize = 1024;
