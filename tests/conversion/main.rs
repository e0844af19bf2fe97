//! Hugging Face folders to GGUF: keys, tokenizers and tensors beside those of llama.cpp's converter.

mod keys;
