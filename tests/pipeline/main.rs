//! Placeholder until its first test: pipeline.
