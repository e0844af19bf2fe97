//! Placeholder until its first test: architecture.
