//! Float modes in which a software device can be opened, to show that no kernel relies on the usual one. For tests.

#[cfg(target_arch = "x86_64")]
use super::WgpuDevice;
#[cfg(target_arch = "x86_64")]
use crate::device::{Kernel, probe_kernel};
#[cfg(target_arch = "x86_64")]
use quantoscope_core::DType;
#[cfg(target_arch = "x86_64")]
use quantoscope_core::error::Result;

/// How the float unit of the threads that a device makes rounds, and whether it flushes subnormals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatMode {
    /// To nearest, with subnormals.
    Usual,
    /// To nearest, without.
    Flushing,
    /// Toward zero.
    TowardZero,
    /// Up, without subnormals.
    FlushingUp,
    /// Down, without subnormals.
    FlushingDown,
}

impl FloatMode {
    /// All of them.
    pub const ALL: [FloatMode; 5] = [
        FloatMode::Usual,
        FloatMode::Flushing,
        FloatMode::TowardZero,
        FloatMode::FlushingUp,
        FloatMode::FlushingDown,
    ];

    #[cfg(target_arch = "x86_64")]
    fn bits(self) -> u32 {
        0x1F80
            | match self {
                FloatMode::Usual => 0,
                FloatMode::Flushing => 0x8040,
                FloatMode::TowardZero => 0x6000,
                FloatMode::FlushingUp => 0xC040,
                FloatMode::FlushingDown => 0xA040,
            }
    }
}

/// A device whose threads, if it is a program on this processor, work in `mode`: they take it from the thread that
/// makes them. This thread is back in the usual mode.
#[cfg(target_arch = "x86_64")]
pub async fn open(mode: FloatMode) -> Result<WgpuDevice> {
    open_edited(mode, &|_, text| text).await
}

/// As [`open`], with kernels whose text is changed by `edit`.
#[cfg(target_arch = "x86_64")]
pub(super) async fn open_edited(
    mode: FloatMode,
    edit: &dyn Fn(Kernel, String) -> String,
) -> Result<WgpuDevice> {
    set(mode);
    let opened = WgpuDevice::edited(edit).await;
    // The threads are made by the first work. What is known is computed in the wrong mode here, so the answer is void.
    let warmed = match &opened {
        Ok(gpu) => probe_kernel(gpu, Kernel::Dequantize(DType::Q8_0)).await.map(drop),
        Err(_) => Ok(()),
    };
    set(FloatMode::Usual);
    warmed.and(opened)
}

#[cfg(target_arch = "x86_64")]
fn set(mode: FloatMode) {
    let bits = mode.bits();
    // SAFETY: the instruction reads four bytes that are there. No exception is unmasked, and between two calls nothing
    // runs whose floats are used.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const bits, options(nostack, readonly)) }
}
