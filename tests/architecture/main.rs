//! The house rules that a program can check: who may know whom, and what never stands in the code.

mod direction;
mod docs;
mod manifests;
mod matrix;
mod rules;
mod sources;
