//! The report of an importance matrix, as data.

use crate::format::Warning;
use alloc::string::String;
use alloc::vec::Vec;
use serde::Serialize;

/// What was collected, and written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImatrixReport {
    /// Version of the report's schema.
    pub schema_version: u32,
    /// The path of the model.
    pub model: String,
    /// The architecture.
    pub architecture: String,
    /// The path of the file.
    pub output: String,
    /// Its format: `gguf` or `dat`.
    pub format: &'static str,
    /// Tensors with sums.
    pub entries: u64,
    /// Chunks of all texts, those of merged files included.
    pub chunks: u64,
    /// Tokens of a chunk.
    pub chunk_size: u64,
    /// The names of the texts, those of merged files first.
    pub datasets: Vec<String>,
    /// Tokens that went through the model in this run.
    pub tokens: u64,
    /// Stacks with experts that no token reached.
    pub unreached: Vec<UnreachedExperts>,
    /// The arithmetic of products: `f32` or `f64`.
    pub precision: &'static str,
    /// The engine.
    pub engine: &'static str,
    /// Worker threads.
    pub threads: u32,
    /// Seconds of the run.
    pub seconds: f64,
    /// Tokens that went through the model in a second.
    pub tokens_per_second: f64,
    /// What a reader of the file should know.
    pub warnings: Vec<Warning>,
}

/// Experts of a stack that no token reached. Their columns count equally when the model is quantized.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreachedExperts {
    /// The tensor.
    pub tensor: String,
    /// Number of these experts.
    pub experts: u64,
    /// Experts of the stack.
    pub of: u64,
}
