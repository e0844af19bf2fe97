//! Files: opened checkpoints, positional reads and writes, outputs that appear whole or not at all.

mod identity;
pub mod imatrix;
pub mod journal;
mod links;
mod naming;
pub mod output;
pub mod pread;
pub mod read_at;
mod scratch;
mod small_tensors;
pub mod source;
pub mod target;
