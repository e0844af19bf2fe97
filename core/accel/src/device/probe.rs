//! The start-up test of kernels: fixed cases whose bytes must equal the CPU reference.

use super::probe_cases::{ProbeCase, cases};
use super::{Device, DeviceOutcome, Kernel, KernelTask, rotation_probe};
use quantoscope_core::error::Result;

/// Verdict of the probe on a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeVerdict {
    /// All cases gave the bytes of the CPU reference.
    Exact,
    /// At least one case did not: the kernel is not used.
    Refused,
}

/// Runs all cases of a kernel.
///
/// # Errors
/// Those of [`Device::run`]: the device failed, which says nothing about the kernel.
pub async fn probe_kernel(device: &dyn Device, kernel: Kernel) -> Result<ProbeVerdict> {
    if let Kernel::Rotate(arithmetic) = kernel {
        return rotation_probe::probe_rotation(device, arithmetic).await;
    }
    let cases = cases(kernel);
    // A kernel without a case that it must compute is not known to be exact.
    let mut exact =
        cases.iter().any(|c| !c.may_decline && c.expected.as_ref().is_some_and(|e| !e.is_empty()));
    for case in &cases {
        exact = exact && passes(device, kernel, case).await?;
    }
    Ok(if exact { ProbeVerdict::Exact } else { ProbeVerdict::Refused })
}

/// Whether a kernel passes a case. The output starts as the complement of the expected bytes, so that every
/// byte must be written.
async fn passes(device: &dyn Device, kernel: Kernel, case: &ProbeCase) -> Result<bool> {
    let ProbeCase { src, weights, expected, may_decline } = case;
    let task = KernelTask { from: kernel.from(), to: kernel.to(), width: case.width(kernel), src, weights };
    match expected {
        Some(expected) => {
            let mut out: Vec<u8> = expected.iter().map(|b| !b).collect();
            Ok(match device.run(task, &mut out).await? {
                DeviceOutcome::Done => out == *expected,
                DeviceOutcome::Declined => *may_decline,
            })
        }
        None => {
            let mut out = vec![0; kernel.bytes_out(src.len() / kernel.bytes_in(1))];
            Ok(device.run(task, &mut out).await? == DeviceOutcome::Declined)
        }
    }
}
