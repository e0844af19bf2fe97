//! Placeholder until its first test: conformance.
