//! Conversion of Hugging Face folders to GGUF against llama.cpp's own converter. Provenance: `tests/data/conversion/README.md`.

mod back;
mod corpus;
mod files;
mod guards;
mod hostile;
mod keys;
mod published;
mod rotations;
mod shapes;
mod tensors;
mod tokenizer;
