//! Architectures, and what follows from them: tensor names, configurations, roles, rotations, forward passes.
//!
//! Knows names and shapes, never containers' bytes.

pub mod arch;
pub mod config;
pub mod family;
pub mod forward;
pub mod general_keys;
pub mod gguf_keys;
pub mod gguf_tensors;
pub mod hf_config;
pub mod hf_source;
pub mod json_file;
pub mod lora_adapter;
pub mod stored_quantization;
pub mod tensor_id;
pub mod tensor_role;
pub mod tokenizer;
