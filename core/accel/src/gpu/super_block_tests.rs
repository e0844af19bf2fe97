//! What the probe finds of kernels of super-blocks that are right, and of kernels that are not.

use super::WgpuDevice;
use crate::device::{Kernel, ProbeVerdict, probe_kernel};
use quantoscope_core::DType;

fn kernel(to: DType, weighted: bool) -> Kernel {
    Kernel::Quantize { from: DType::F32, to, weighted }
}

/// Its verdict where each `from` in its text is replaced by its `to`.
fn altered(kernel: Kernel, changes: &[(&str, &str)]) -> ProbeVerdict {
    let edit = |_, text: String| changes.iter().fold(text, |text, change| change_once(&text, *change));
    pollster::block_on(async {
        let gpu = WgpuDevice::chosen(&|k| k == kernel, &edit).await.expect("a device");
        probe_kernel(&gpu, kernel).await.expect("a device that works")
    })
}

fn change_once(text: &str, (from, to): (&str, &str)) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from}");
    text.replace(from, to)
}

#[track_caller]
fn refuses(kernel: Kernel, from: &str, to: &str) {
    assert_eq!(altered(kernel, &[(from, to)]), ProbeVerdict::Refused, "{kernel}: {from}");
}

#[test]
#[ignore = "make proof"]
fn a_wrong_constant_of_a_search_is_caught() {
    let (q4, q6) = (kernel(DType::Q4_K, false), kernel(DType::Q6_K, false));
    refuses(q4, "Grid(15.0, -1.0, 0.1, 20u, false)", "Grid(15.0, -1.0, 0.1, 19u, false)");
    refuses(q4, "Grid(15.0, -1.0, 0.1, 20u, false)", "Grid(15.0, -1.0, 0.1001, 20u, false)");
    refuses(
        kernel(DType::Q5_K, true),
        "Grid(f32(TOP), -0.9, 0.05, 36u, false)",
        "Grid(f32(TOP), -0.9, 0.05, 35u, false)",
    );
    refuses(kernel(DType::Q2_K, true), "kept(0.1 * f32(k)) + f32(MOST)", "kept(0.2 * f32(k)) + f32(MOST)");
    refuses(q6, "kept(full + kept(0.1 * f32(k)))", "kept(full + kept(0.1001 * f32(k)))");
    refuses(kernel(DType::Q3_K, false), "turn < 5u", "turn < 2u");
}

/// What contraction and reassociation change: the last bit of a sum.
#[test]
#[ignore = "make proof"]
fn another_order_of_operations_is_caught() {
    let (q4, q6) = (kernel(DType::Q4_K, false), kernel(DType::Q6_K, false));
    refuses(q4, "kept(part * x[i])", "kept(w[i] * kept(code * x[i]))");
    refuses(q4, "kept(w[i] * select(kept(off * off), abs(off), absolute))", "kept(kept(w[i] * off) * off)");
    refuses(q6, "kept(kept(w[i] * x[i]) * code)", "kept(w[i] * kept(x[i] * code))");
}

/// A product and a sum rounded once, from halves of 12 bits: nearly what contraction gives, and enough to be seen.
const FUSED: &str = "
fn fused(a: f32, b: f32, c: f32) -> f32 {
  let upper = bitcast<f32>(bits(a) & 0xfffff000u);
  let over = bitcast<f32>(bits(b) & 0xfffff000u);
  let lower = kept(a - upper);
  let under = kept(b - over);
  let p = kept(a * b);
  let rest = kept(kept(kept(kept(kept(upper * over) - p) + kept(upper * under)) + kept(lower * over)) + kept(lower * under));
  let s = kept(p + c);
  let back = kept(s - p);
  let lost_of_sum = kept(kept(p - kept(s - back)) + kept(c - back));
  return kept(s + kept(rest + lost_of_sum));
}
fn nearest(";

#[test]
#[ignore = "make proof"]
fn contraction_is_caught() {
    let change =
        [("\nfn nearest(", FUSED), ("kept(s.cross + kept(part * x[i]))", "fused(part, x[i], s.cross)")];
    for to in [DType::Q2_K, DType::Q4_K, DType::Q5_K] {
        assert_eq!(altered(kernel(to, false), &change), ProbeVerdict::Refused, "{to}");
    }
    let change = [
        change[0],
        ("kept(s.square + kept(kept(w[i] * code) * code))", "fused(kept(w[i] * code), code, s.square)"),
    ];
    assert_eq!(altered(kernel(DType::Q6_K, false), &change), ProbeVerdict::Refused);
}

#[test]
#[ignore = "make proof"]
fn wrong_headers_and_codes_are_caught() {
    refuses(
        kernel(DType::Q3_K, true),
        "clamp(nearest(kept(found.inverse * x[j])), -32, 31) + 32",
        "clamp(nearest(kept(found.inverse * x[j])), -31, 31) + 32",
    );
    refuses(kernel(DType::Q6_K, false), "scales[lane + j])), 127)", "scales[lane + j])), 128)");
    refuses(kernel(DType::Q6_K, true), "const EPSILON = 0x26901d7du;", "const EPSILON = 0x36901d7du;");
    refuses(Kernel::Dequantize(DType::Q6_K), "abs(scale * q)", "scale * q");
    refuses(Kernel::Dequantize(DType::Q3_K), "(scale < 0) != (q < 0)", "q < 0");
}

/// Where subnormal numbers are flushed, the doubts are what keeps bytes exact.
#[test]
#[ignore = "make proof"]
#[cfg(all(feature = "hostile", target_arch = "x86_64"))]
fn a_kernel_that_does_not_doubt_is_caught_where_numbers_are_flushed() {
    use super::float_modes::{FloatMode, open_edited};
    use crate::device::Device;
    let trusting = |_, text: String| match text.contains("fn lost(") {
        true => change_once(&text, ("  if (doubted) {\n", "  if (doubted && false) {\n")),
        false => text,
    };
    let gpu = pollster::block_on(open_edited(FloatMode::Flushing, &trusting)).expect("a device");
    assert!(gpu.is_software(), "float modes need the software device: run `make proof`");
    for to in [DType::Q2_K, DType::Q3_K, DType::Q4_K, DType::Q5_K, DType::Q6_K] {
        let verdict = pollster::block_on(probe_kernel(&gpu, kernel(to, false))).expect("a device that works");
        assert_eq!(verdict, ProbeVerdict::Refused, "{to}");
    }
}
