//! Placeholder until its first test: cli.
