//! What the probe finds of kernels that are right, and of kernels that are not.

use super::{Gpu, Kernel, Outcome, Verdict};
use quantoscope_core::DType;

/// A device whose kernels for `block` have `from` replaced by `to` in their text.
fn altered(block: DType, from: &str, to: &str) -> Gpu {
    let edit = |kernel: Kernel, text: String| {
        if kernel.block() != block {
            return text;
        }
        assert!(text.contains(from), "{kernel} has no {from}");
        text.replace(from, to)
    };
    pollster::block_on(async {
        let mut gpu = Gpu::unprobed(&edit).await.expect("a device");
        gpu.probe().await.expect("a device that works");
        gpu
    })
}

/// Whether exactly these kernels are refused once the text of `block` is altered.
#[track_caller]
fn refuses(block: DType, which: impl Fn(Kernel) -> bool, from: &str, to: &str) {
    let gpu = altered(block, from, to);
    for (kernel, verdict) in gpu.verdicts() {
        let wrong = kernel.block() == block && which(kernel);
        assert_eq!(verdict, if wrong { Verdict::Refused } else { Verdict::Exact }, "{kernel}");
    }
}

fn quantizes(kernel: Kernel) -> bool {
    kernel.entry() == "quantize"
}

fn dequantizes(kernel: Kernel) -> bool {
    !quantizes(kernel)
}

#[test]
fn kernels_are_refused_until_they_are_probed() {
    let gpu = pollster::block_on(Gpu::unprobed(&|_, text| text)).expect("a device");
    assert!(gpu.verdicts().all(|(_, verdict)| verdict == Verdict::Refused));
    let outcome = pollster::block_on(gpu.quantize(DType::F32, &[0; 128], DType::Q8_0, &mut [0; 34]));
    assert_eq!(outcome.expect("no failure"), Outcome::Declined);
}

#[test]
fn a_wrong_half_is_caught_where_it_can_matter() {
    // No two values of 16 bits have a ratio as near to one half.
    let wide = |kernel| matches!(kernel, Kernel::Quantize { from: DType::F32, .. });
    refuses(DType::Q8_0, wide, "0x3effffffu", "0x3f000000u");
}

#[test]
fn a_wrong_grid_is_caught() {
    refuses(DType::Q4_1, quantizes, "0x41700000u", "0x41700001u");
}

#[test]
fn a_wrong_rounding_is_caught_where_it_can_matter() {
    // What a code is truncated from rounds up to an integer either way.
    refuses(DType::Q5_1, dequantizes, "if (rest == 0x40u)", "if (rest == 0x41u)");
}

#[test]
fn wrong_signs_are_caught() {
    refuses(DType::Q5_0, dequantizes, "let sign = select(0u, SIGN, negative);", "let sign = 0u;");
}

#[test]
fn doubts_that_are_not_raised_are_caught() {
    refuses(DType::Q4_0, quantizes, "if ((half & 0x7c00u) == 0x7c00u)", "if (false)");
    refuses(DType::Q4_1, dequantizes, "if (field == 31u) {\n    raise", "if (false) {\n    raise");
}

#[test]
fn a_text_that_does_not_compile_is_an_error() {
    let broken = pollster::block_on(Gpu::unprobed(&|_, text| text.replace("fn load", "fn lode")));
    assert!(broken.is_err_and(|e| e.to_string().contains("load")));
}

/// Floats that are trusted where they must not be are right in the usual mode, and refused in another: so a device in
/// software does take the mode, and the probe sees it.
#[test]
#[cfg(all(feature = "hostile", target_arch = "x86_64"))]
fn a_kernel_that_trusts_floats_is_caught_where_they_round_otherwise() {
    use super::hostile::{Mode, open_edited};
    let trusting = |_, text: String| text.replace("const MARGIN = 0.00048828125;", "const MARGIN = -1.0;");
    let verdicts = |mode| {
        let gpu = pollster::block_on(open_edited(mode, &trusting)).expect("a device");
        let quantizing = gpu.verdicts().filter(|(k, _)| quantizes(*k)).map(|(_, verdict)| verdict);
        gpu.is_software().then(|| quantizing.collect::<Vec<_>>())
    };
    let Some(usual) = verdicts(Mode::Usual) else { return };
    assert!(usual.iter().all(|v| *v == Verdict::Exact), "{usual:?}");
    for mode in [Mode::TowardZero, Mode::FlushingUp, Mode::FlushingDown] {
        let found = verdicts(mode).expect("the same device");
        assert!(found.contains(&Verdict::Refused), "{mode:?}");
    }
}
