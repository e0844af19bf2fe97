//! What the probe finds of kernels that are right, and of kernels that are not.

use super::WgpuDevice;
use crate::device::{Device, DeviceOutcome, Kernel, KernelTask, ProbeVerdict, probe_kernel};
use quantoscope_core::DType;

/// What the probe finds of every kernel but rotations, which have tests of their own.
fn verdicts(gpu: &WgpuDevice) -> Vec<(Kernel, ProbeVerdict)> {
    let judged = |k| (k, pollster::block_on(probe_kernel(gpu, k)).expect("a device that works"));
    let blocks = gpu.kernels().into_iter().filter(|k| !matches!(k, Kernel::Rotate(_)));
    blocks.map(judged).collect()
}

/// A device with the kernels for `block`, which have `from` replaced by `to` in their text.
fn altered(block: DType, from: &str, to: &str) -> WgpuDevice {
    let edit = |kernel: Kernel, text: String| {
        assert!(text.contains(from), "{kernel} has no {from}");
        text.replace(from, to)
    };
    pollster::block_on(WgpuDevice::chosen(&|k| k.block() == block, &edit)).expect("a device")
}

/// Whether exactly these kernels are refused once the text of `block` is altered.
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
fn what_has_no_kernel_is_declined() {
    let gpu = pollster::block_on(WgpuDevice::open()).expect("a device");
    let task = KernelTask { from: DType::F32, to: DType::IQ4_NL, width: 32, src: &[0; 128], weights: &[] };
    let outcome = pollster::block_on(gpu.run(task, &mut [0; 18]));
    assert_eq!(outcome.expect("no failure"), DeviceOutcome::Declined);
}

#[test]
fn a_wrong_half_is_caught_where_it_can_matter() {
    // No two values of 16 bits have a ratio as near to one half.
    let wide = |kernel| matches!(kernel, Kernel::Quantize { from: DType::F32, .. });
    refuses(DType::Q8_0, wide, "0x3effffffu", "0x3f000000u");
}

#[test]
#[ignore = "make proof"]
fn a_wrong_grid_is_caught() {
    refuses(DType::Q4_1, quantizes, "0x41700000u", "0x41700001u");
}

#[test]
#[ignore = "make proof"]
fn a_wrong_rounding_is_caught_where_it_can_matter() {
    // What a code is truncated from rounds up to an integer either way, and sixteen bits make no ties of products.
    let wide = |k: Kernel| dequantizes(k) || k.from() == DType::F32;
    refuses(DType::Q5_1, wide, "if (rest == 0x40u)", "if (rest == 0xffu)");
}

#[test]
#[ignore = "make proof"]
fn wrong_signs_are_caught() {
    refuses(DType::Q5_0, dequantizes, "let sign = select(0u, SIGN, negative);", "let sign = 0u;");
}

#[test]
#[ignore = "make proof"]
fn doubts_that_are_not_raised_are_caught() {
    refuses(DType::Q4_0, quantizes, "if ((half & 0x7c00u) == 0x7c00u)", "if (false)");
    refuses(DType::Q4_1, dequantizes, "if (field == 31u) {\n    raise", "if (false) {\n    raise");
}

#[test]
fn a_text_that_does_not_compile_is_refused() {
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

/// Floats that are trusted where they must not be are right in the usual mode, and refused in another: so a device in
/// software does take the mode, and the probe sees it.
#[test]
#[ignore = "make proof"]
#[cfg(all(feature = "hostile", target_arch = "x86_64"))]
fn a_kernel_that_trusts_floats_is_caught_where_they_round_otherwise() {
    use super::float_modes::{FloatMode, open_edited};
    // Only the kernels of blocks of 32 have the margin: the searches of super-blocks are left out.
    let trusting = |_, text: String| text.replace("const MARGIN = 0.00048828125;", "const MARGIN = -1.0;");
    let refused = |mode| {
        let gpu = pollster::block_on(open_edited(mode, &trusting)).expect("a device");
        assert!(gpu.is_software(), "float modes need the software device: run `make proof`");
        let mut simple = gpu.kernels().into_iter().filter(|k| quantizes(*k) && k.block().block_len() == 32);
        simple.any(|k| {
            pollster::block_on(probe_kernel(&gpu, k)).expect("a device that works") == ProbeVerdict::Refused
        })
    };
    assert!(!refused(FloatMode::Usual));
    for mode in [FloatMode::TowardZero, FloatMode::FlushingUp, FloatMode::FlushingDown] {
        assert!(refused(mode), "{mode:?}");
    }
}
