//! Which kernels of a device answer as the definition does.

use super::probe_cases::{ProbeCase, questions};
use super::{Device, DeviceOutcome, Kernel, KernelTask, rotation_probe};
use quantoscope_core::error::Result;

/// What the probe found of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeVerdict {
    /// All its answers were the definition's, to the byte.
    Exact,
    /// At least one was not: it is not used.
    Refused,
}

/// Asks a kernel all that is known of it; an error is the device's, not the kernel's.
pub async fn probe_kernel(device: &dyn Device, kernel: Kernel) -> Result<ProbeVerdict> {
    if let Kernel::Rotate(by) = kernel {
        return rotation_probe::probe_rotation(device, by).await;
    }
    let questions = questions(kernel);
    // A kernel of which nothing is known is not known to be exact.
    let mut right =
        questions.iter().any(|q| !q.may_decline && q.answer.as_ref().is_some_and(|a| !a.is_empty()));
    for question in &questions {
        right = right && answers(device, kernel, question).await?;
    }
    Ok(if right { ProbeVerdict::Exact } else { ProbeVerdict::Refused })
}

/// Whether a kernel answers a question, on a ground of which no byte may stay.
async fn answers(device: &dyn Device, kernel: Kernel, question: &ProbeCase) -> Result<bool> {
    let ProbeCase { src, weights, answer, may_decline } = question;
    let task =
        KernelTask { from: kernel.from(), to: kernel.to(), width: question.width(kernel), src, weights };
    match answer {
        Some(answer) => {
            let mut out: Vec<u8> = answer.iter().map(|b| !b).collect();
            Ok(match device.run(task, &mut out).await? {
                DeviceOutcome::Done => out == *answer,
                DeviceOutcome::Declined => *may_decline,
            })
        }
        None => {
            let mut out = vec![0; kernel.bytes_out(src.len() / kernel.bytes_in(1))];
            Ok(device.run(task, &mut out).await? == DeviceOutcome::Declined)
        }
    }
}
