//! Float modes in which a software device can be opened, to show that no kernel relies on the default one.
//! For tests only (feature `test-float-modes`).

#[cfg(target_arch = "x86_64")]
use super::WgpuDevice;
#[cfg(target_arch = "x86_64")]
use crate::device::{Kernel, probe_kernel};
#[cfg(target_arch = "x86_64")]
use quantoscope_core::DType;
#[cfg(target_arch = "x86_64")]
use quantoscope_core::error::Result;

/// Rounding direction of the device's threads, and whether they flush subnormals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatMode {
    /// To nearest, with subnormals.
    Default,
    /// To nearest, without subnormals.
    Flushing,
    /// Toward zero.
    TowardZero,
    /// Up, without subnormals.
    FlushingUp,
    /// Down, without subnormals.
    FlushingDown,
}

impl FloatMode {
    /// All modes.
    pub const ALL: [FloatMode; 5] = [
        FloatMode::Default,
        FloatMode::Flushing,
        FloatMode::TowardZero,
        FloatMode::FlushingUp,
        FloatMode::FlushingDown,
    ];

    /// Value of the MXCSR register.
    #[cfg(target_arch = "x86_64")]
    fn bits(self) -> u32 {
        0x1F80
            | match self {
                FloatMode::Default => 0,
                FloatMode::Flushing => 0x8040,
                FloatMode::TowardZero => 0x6000,
                FloatMode::FlushingUp => 0xC040,
                FloatMode::FlushingDown => 0xA040,
            }
    }
}

/// Opens a device. If it is a software device, its threads work in `mode`, which they inherit from this
/// thread. This thread returns to the default mode.
///
/// # Errors
/// [`Code::Device`](quantoscope_core::error::Code::Device) as [`WgpuDevice::open`].
#[cfg(target_arch = "x86_64")]
pub async fn open(mode: FloatMode) -> Result<WgpuDevice> {
    open_edited(mode, &|_, text| text).await
}

/// As [`open`], with `edit` applied to the source of each kernel.
#[cfg(target_arch = "x86_64")]
pub(super) async fn open_edited(
    mode: FloatMode,
    edit: &dyn Fn(Kernel, String) -> String,
) -> Result<WgpuDevice> {
    set(mode);
    let opened = WgpuDevice::edited(edit).await;
    // The first work creates the threads. The CPU reference runs in the wrong mode here, so the verdict is
    // ignored.
    let warmed = match &opened {
        Ok(gpu) => probe_kernel(gpu, Kernel::Dequantize(DType::Q8_0)).await.map(drop),
        Err(_) => Ok(()),
    };
    set(FloatMode::Default);
    warmed.and(opened)
}

#[cfg(target_arch = "x86_64")]
fn set(mode: FloatMode) {
    let bits = mode.bits();
    // SAFETY: the instruction reads the four bytes of `bits`. No exception is unmasked, and no float that is
    // computed between two calls is used.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const bits, options(nostack, readonly)) }
}
