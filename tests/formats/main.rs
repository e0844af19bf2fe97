//! Reading and laying out every container: files of official writers, hostile headers, reads of any size.

mod apr;
mod apr_hostile;
mod architectures;
mod build;
mod configurations;
mod directories;
mod families;
mod family_rules;
mod family_rules_hostile;
mod gguf;
mod gguf_hostile;
mod imatrix;
mod q4;
mod random;
mod safetensors;
mod safetensors_hostile;
mod shards;
mod splits;
mod tensor_names;
