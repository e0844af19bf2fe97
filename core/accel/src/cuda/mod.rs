//! CUDA: the kernels for NVIDIA's devices. Bytes are those of `quantoscope_core::quant`, because every operation names its
//! rounding.

pub mod texts;
