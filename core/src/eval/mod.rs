//! Evaluation of models by their logits: perplexity of a text, and divergence from the logits of a reference. Importance
//! matrices from the inputs of their matrices.
//!
//! Logits come in parts of the vocabulary ([`scores`]), in an order that no option of resources changes. Knows no files
//! or forward pass.

pub mod imatrix;
mod imatrix_report;
mod report;
pub mod scores;
mod text_tokens;
pub mod vocabulary;
mod windows;

pub use imatrix_report::{ImatrixReport, UnreachedExperts};
pub use report::{EvalFigures, EvalReport, PositionView, ReferenceFigures};
pub use scores::{PositionScores, Score};
pub use text_tokens::{TextTokens, special_tokens, starting_token, text_tokens};
pub use windows::{EvalWindow, WindowOptions, chunks, windows};

/// Entries of the vocabulary whose logits are made and scored at once.
pub const HEAD_ROWS: usize = 1024;
