//! Placeholder until its first test: formats.
