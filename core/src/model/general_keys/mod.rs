//! `general.*` keys of a GGUF.
