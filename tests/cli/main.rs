//! The command line, on the real binary: what it prints, where, and how it ends.

mod adapters;
mod bad_input;
mod compare;
mod cuda;
mod errors;
mod events;
mod help;
mod imatrix;
mod inputs;
mod killed;
mod nonfinite;
mod outputs;
mod recipes;
mod resume;
mod rotate;
mod rotations;
mod sizes;
mod support;
mod terminal;
mod verbs;
