//! Files: opened checkpoints, positional reads and writes, outputs that appear whole or not at all.

mod file_set;
mod folder;
mod identity;
pub mod imatrix;
pub mod imatrix_journal;
pub mod in_place;
pub mod journal;
mod links;
pub mod naming;
pub mod output;
pub mod pread;
pub mod read_at;
pub(crate) mod scratch;
mod small_tensors;
pub mod source;
pub mod stream_journal;
pub mod target;
pub mod token_ids;
