//! The probe refuses super-block kernels whose source is changed.

use super::WgpuDevice;
use crate::device::{Kernel, ProbeVerdict, probe_kernel};
use quantoscope_core::DType;

fn kernel(to: DType, weighted: bool) -> Kernel {
    Kernel::Quantize { from: DType::F32, to, weighted }
}

/// Verdict of the probe on a kernel after each `from` in its source is replaced by its `to`.
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
fn scale_search_with_a_wrong_constant_is_refused() {
    let (q4, q6) = (kernel(DType::Q4_K, false), kernel(DType::Q6_K, false));
    refuses(q4, "Grid(15.0, -1.0, 0.1, 20u, false)", "Grid(15.0, -1.0, 0.1, 19u, false)");
    refuses(q4, "Grid(15.0, -1.0, 0.1, 20u, false)", "Grid(15.0, -1.0, 0.1001, 20u, false)");
    refuses(
        kernel(DType::Q5_K, true),
        "Grid(f32(TOP), -0.9, 0.05, 36u, false)",
        "Grid(f32(TOP), -0.9, 0.05, 35u, false)",
    );
    refuses(
        kernel(DType::Q2_K, true),
        "black_box(0.1 * f32(k)) + f32(MOST)",
        "black_box(0.2 * f32(k)) + f32(MOST)",
    );
    refuses(q6, "black_box(full + black_box(0.1 * f32(k)))", "black_box(full + black_box(0.1001 * f32(k)))");
    refuses(kernel(DType::Q3_K, false), "turn < 5u", "turn < 2u");
}

/// Contraction and reassociation change the last bit of a sum.
#[test]
#[ignore = "make proof"]
fn scale_search_in_another_order_is_refused() {
    let (q4, q6) = (kernel(DType::Q4_K, false), kernel(DType::Q6_K, false));
    refuses(q4, "black_box(part * x[i])", "black_box(w[i] * black_box(code * x[i]))");
    refuses(
        q4,
        "black_box(w[i] * select(black_box(off * off), abs(off), absolute))",
        "black_box(black_box(w[i] * off) * off)",
    );
    refuses(q6, "black_box(black_box(w[i] * x[i]) * code)", "black_box(w[i] * black_box(x[i] * code))");
}

/// An emulated fused multiply-add, from halves of 12 bits: close to contraction, and enough to be detected.
const FUSED: &str = "
fn fused(a: f32, b: f32, c: f32) -> f32 {
  let upper = bitcast<f32>(bits(a) & 0xfffff000u);
  let over = bitcast<f32>(bits(b) & 0xfffff000u);
  let lower = black_box(a - upper);
  let under = black_box(b - over);
  let p = black_box(a * b);
  let rest = black_box(black_box(black_box(black_box(black_box(upper * over) - p) + black_box(upper * under)) + black_box(lower * over)) + black_box(lower * under));
  let s = black_box(p + c);
  let back = black_box(s - p);
  let lost_of_sum = black_box(black_box(p - black_box(s - back)) + black_box(c - back));
  return black_box(s + black_box(rest + lost_of_sum));
}
fn nearest(";

#[test]
#[ignore = "make proof"]
fn scale_search_with_contraction_is_refused() {
    let change = [
        ("\nfn nearest(", FUSED),
        ("black_box(s.cross + black_box(part * x[i]))", "fused(part, x[i], s.cross)"),
    ];
    for to in [DType::Q2_K, DType::Q4_K, DType::Q5_K] {
        assert_eq!(altered(kernel(to, false), &change), ProbeVerdict::Refused, "{to}");
    }
    let change = [
        change[0],
        (
            "black_box(s.square + black_box(black_box(w[i] * code) * code))",
            "fused(black_box(w[i] * code), code, s.square)",
        ),
    ];
    assert_eq!(altered(kernel(DType::Q6_K, false), &change), ProbeVerdict::Refused);
}

#[test]
#[ignore = "make proof"]
fn super_block_with_a_wrong_header_or_code_is_refused() {
    refuses(
        kernel(DType::Q3_K, true),
        "clamp(nearest(black_box(found.inverse * x[j])), -32, 31) + 32",
        "clamp(nearest(black_box(found.inverse * x[j])), -31, 31) + 32",
    );
    refuses(kernel(DType::Q6_K, false), "scales[lane + j])), 127)", "scales[lane + j])), 128)");
    refuses(kernel(DType::Q6_K, true), "const EPSILON = 0x26901d7du;", "const EPSILON = 0x36901d7du;");
    refuses(Kernel::Dequantize(DType::Q6_K), "abs(scale * q)", "scale * q");
    refuses(Kernel::Dequantize(DType::Q3_K), "(scale < 0) != (q < 0)", "q < 0");
}

/// On a device that flushes subnormals, only the `uncertain` checks keep bytes exact.
#[test]
#[ignore = "make proof"]
#[cfg(all(feature = "test-float-modes", target_arch = "x86_64"))]
fn super_block_without_uncertainty_checks_is_refused_where_subnormals_are_flushed() {
    use super::float_modes::{FloatMode, open_edited};
    use crate::device::Device;
    let trusting = |_, text: String| match text.contains("fn flushed_or_infinite(") {
        true => change_once(&text, ("  if (uncertain) {\n", "  if (uncertain && false) {\n")),
        false => text,
    };
    let gpu = pollster::block_on(open_edited(FloatMode::Flushing, &trusting)).expect("a device");
    assert!(gpu.is_software(), "float modes need the software device: run `make proof`");
    for to in [DType::Q2_K, DType::Q3_K, DType::Q4_K, DType::Q5_K, DType::Q6_K] {
        let verdict = pollster::block_on(probe_kernel(&gpu, kernel(to, false))).expect("a device that works");
        assert_eq!(verdict, ProbeVerdict::Refused, "{to}");
    }
}
