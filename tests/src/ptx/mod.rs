//! Runs PTX on the processor, so that the very text that a GPU would be given is tested where there is none.
//!
//! The instructions are those that our kernels are made of, each by its full name and with the meaning that
//! the PTX ISA gives it; any other is refused when the text is read. What the ISA leaves undefined (memory
//! out of bounds or misaligned, exchanges with lanes that are not there, a race for shared memory) ends the
//! launch with an error. One lane of a warp runs after the other, up to where they exchange values or wait.

mod machine;
mod memory;
mod operations;
mod parse;
mod programs;

pub use machine::Size;
pub use memory::Memory;
pub use parse::{PtxKernel, parse};
pub use programs::{LaunchInputs, Programs};
