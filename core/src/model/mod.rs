//! What a model is: what its tensors are for, and how the naming conventions of the field map onto each other.
//!
//! Knows names and shapes, never containers' bytes.

pub mod config;
pub mod family;
pub mod forward;
pub mod gguf_names;
pub mod hf_names;
pub mod hparams;
pub mod json_file;
pub mod lora_adapter;
pub mod tensor_role;
