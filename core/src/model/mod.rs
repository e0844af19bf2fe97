//! What a model is: what its tensors are for, and how the naming conventions of the field map onto each other.
//!
//! Knows names and shapes, never containers' bytes.

pub mod adapter;
pub mod config;
pub mod family;
pub mod forward;
pub mod json_file;
pub mod names;
pub mod role;
pub mod traits;
pub mod twin;
