//! CUDA: engines on NVIDIA's devices. Bytes are those of `quantoscope_core::quant`, because every operation of the kernels names
//! its rounding, and because a device is probed before it is believed.

mod engine;
mod gpu;
mod probe;
pub mod texts;

pub use engine::{Call, Device, Offload};
pub use gpu::Gpu;
pub use probe::Exact;

use crate::cpu::Level;
use quantoscope_core::error::{Code, Error, Result};
use std::sync::OnceLock;

/// The engine of the first device, opened and probed once. The error says what is missing.
pub fn first() -> Result<&'static Offload<Gpu>> {
    static FIRST: OnceLock<Result<Offload<Gpu>>> = OnceLock::new();
    FIRST.get_or_init(open).as_ref().map_err(Clone::clone)
}

fn open() -> Result<Offload<Gpu>> {
    let cpu = Level::available().last().copied().unwrap_or(Level::Scalar);
    let engine = Offload::new(Gpu::open(0)?, cpu.kernels());
    if engine.exact().count() == 0 {
        let name = engine.device().name();
        return Err(Error::new(
            Code::Device,
            format!("no kernel gives exact bytes on the CUDA device {name}"),
        ));
    }
    Ok(engine)
}
