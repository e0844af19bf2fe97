//! Hugging Face folders to GGUF, compared with what llama.cpp's converter writes.

mod tokenizer;
