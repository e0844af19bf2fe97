//! The probe refuses block kernels whose source is changed, and accepts the others.

use super::WgpuDevice;
use crate::device::{Device, DeviceOutcome, Kernel, KernelTask, ProbeVerdict, probe_kernel};
use quantoscope_core::DType;

/// Verdicts of the probe on all kernels except rotations (see `rotation_tests`).
fn verdicts(gpu: &WgpuDevice) -> Vec<(Kernel, ProbeVerdict)> {
    let probed = |k| (k, pollster::block_on(probe_kernel(gpu, k)).expect("a device that works"));
    let blocks = gpu.kernels().into_iter().filter(|k| !matches!(k, Kernel::Rotate(_)));
    blocks.map(probed).collect()
}

/// A device with the kernels of `block`, with `from` replaced by `to` in their source.
fn altered(block: DType, from: &str, to: &str) -> WgpuDevice {
    let edit = |kernel: Kernel, text: String| {
        assert!(text.contains(from), "{kernel} has no {from}");
        text.replace(from, to)
    };
    pollster::block_on(WgpuDevice::chosen(&|k| k.block() == block, &edit)).expect("a device")
}

/// Asserts that exactly the kernels selected by `which` are refused after an edit of the source of `block`.
#[track_caller]
fn refuses(block: DType, which: impl Fn(Kernel) -> bool, from: &str, to: &str) {
    for (kernel, verdict) in verdicts(&altered(block, from, to)) {
        assert_eq!(
            verdict,
            if which(kernel) { ProbeVerdict::Refused } else { ProbeVerdict::Exact },
            "{kernel}"
        );
    }
}

fn quantizes(kernel: Kernel) -> bool {
    kernel.entry() == "quantize"
}

fn dequantizes(kernel: Kernel) -> bool {
    !quantizes(kernel)
}

#[test]
fn task_without_a_kernel_is_declined() {
    let gpu = pollster::block_on(WgpuDevice::open()).expect("a device");
    let task = KernelTask { from: DType::F32, to: DType::IQ4_NL, width: 32, src: &[0; 128], weights: &[] };
    let outcome = pollster::block_on(gpu.run(task, &mut [0; 18]));
    assert_eq!(outcome.expect("no failure"), DeviceOutcome::Declined);
}

#[test]
fn q8_0_with_a_wrong_half_is_refused_for_f32() {
    // No two 16-bit floats have a ratio that close to one half.
    let wide = |kernel| matches!(kernel, Kernel::Quantize { from: DType::F32, .. });
    refuses(DType::Q8_0, wide, "0x3effffffu", "0x3f000000u");
}

#[test]
#[ignore = "make proof"]
fn q4_1_with_a_wrong_divisor_is_refused() {
    refuses(DType::Q4_1, quantizes, "0x41700000u", "0x41700001u");
}

#[test]
#[ignore = "make proof"]
fn soft_f32_with_wrong_ties_is_refused_for_f32() {
    // Codes are truncated, so a tie matters only at integers, and products of 16-bit floats have no ties.
    let wide = |k: Kernel| dequantizes(k) || k.from() == DType::F32;
    refuses(DType::Q5_1, wide, "if (rest == 0x40u)", "if (rest == 0xffu)");
}

#[test]
#[ignore = "make proof"]
fn decode_with_a_wrong_sign_is_refused() {
    refuses(DType::Q5_0, dequantizes, "let sign = select(0u, SIGN, negative);", "let sign = 0u;");
}

#[test]
#[ignore = "make proof"]
fn kernel_that_does_not_decline_is_refused() {
    refuses(DType::Q4_0, quantizes, "if ((half & 0x7c00u) == 0x7c00u)", "if (false)");
    refuses(DType::Q4_1, dequantizes, "if (field == 31u) {\n    decline", "if (false) {\n    decline");
}

#[test]
fn kernel_that_does_not_compile_is_refused() {
    let broken = |k: Kernel, text: String| {
        if k.block() == DType::Q8_0 { text.replace("fn load", "fn lode") } else { text }
    };
    let gpu = pollster::block_on(WgpuDevice::edited(&broken)).expect("a device");
    let verdict = |k| pollster::block_on(probe_kernel(&gpu, k)).expect("a device that works");
    assert_eq!(
        verdict(Kernel::Quantize { from: DType::F32, to: DType::Q8_0, weighted: false }),
        ProbeVerdict::Refused
    );
    assert_eq!(verdict(Kernel::Dequantize(DType::Q4_0)), ProbeVerdict::Exact);
}

/// Without the margin, kernels pass in the default float mode and are refused in others. This shows that the
/// software device applies the mode and that the probe detects it.
#[test]
#[ignore = "make proof"]
#[cfg(all(feature = "test-float-modes", target_arch = "x86_64"))]
fn small_blocks_without_a_margin_are_refused_where_rounding_differs() {
    use super::float_modes::{FloatMode, open_edited};
    // Only the kernels of blocks of 32 values have the margin.
    let trusting = |_, text: String| text.replace("const MARGIN = 0.00048828125;", "const MARGIN = -1.0;");
    let refused = |mode| {
        let gpu = pollster::block_on(open_edited(mode, &trusting)).expect("a device");
        assert!(gpu.is_software(), "float modes need the software device: run `make proof`");
        let mut simple = gpu.kernels().into_iter().filter(|k| quantizes(*k) && k.block().block_len() == 32);
        simple.any(|k| {
            pollster::block_on(probe_kernel(&gpu, k)).expect("a device that works") == ProbeVerdict::Refused
        })
    };
    assert!(!refused(FloatMode::Default));
    for mode in [FloatMode::TowardZero, FloatMode::FlushingUp, FloatMode::FlushingDown] {
        assert!(refused(mode), "{mode:?}");
    }
}
