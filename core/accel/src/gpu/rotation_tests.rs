//! The probe refuses rotation kernels whose source is changed, and accepts the others.

use super::WgpuDevice;
use super::rotate::Rotator;
use crate::device::{Arithmetic, Device, Kernel, ProbeVerdict, probe_kernel};

/// Verdicts of the probe on both rotation kernels after an edit of one program: [hardware floats, integers].
fn altered(gpu: &mut WgpuDevice, kernel: &str, from: &str, to: &str) -> [ProbeVerdict; 2] {
    let edit = |name: &str, text: String| {
        if name != kernel {
            return text;
        }
        assert!(text.contains(from), "{kernel} has no {from}");
        text.replace(from, to)
    };
    gpu.rotator = Rotator::new(&edit);
    [Arithmetic::HardwareF32, Arithmetic::SoftF32].map(|arithmetic| {
        pollster::block_on(probe_kernel(gpu, Kernel::Rotate(arithmetic))).expect("a device that works")
    })
}

fn device() -> WgpuDevice {
    pollster::block_on(WgpuDevice::open()).expect("a device")
}

#[test]
#[ignore = "make proof"]
fn gain_kernel_with_an_error_is_refused() {
    let mut gpu = device();
    for (from, to) in [
        ("quotient(result[at], by)", "product(result[at], by)"),
        ("gain.columns == 1u", "gain.columns == 0u"),
        ("(result << 6u) | select(0u, 1u, rest != 0)", "(result << 6u)"),
        ("finite(product(result[at], by))", "product(result[at], by)"),
    ] {
        assert_eq!(altered(&mut gpu, "gain", from, to), [ProbeVerdict::Refused; 2], "{to}");
    }
}

#[test]
#[ignore = "make proof"]
fn widen_kernel_with_an_error_is_refused() {
    let mut gpu = device();
    for (from, to) in [
        ("(leading + 103u)", "(leading + 102u)"),
        ("finite(load(at))", "load(at)"),
        ("half_at(at) << 16u", "half_at(at) << 17u"),
    ] {
        let name = if from.contains("half_at") { "widen BF16" } else { "widen F16" };
        assert_eq!(altered(&mut gpu, name, from, to), [ProbeVerdict::Refused; 2], "{to}");
    }
}

#[test]
#[ignore = "make proof"]
fn rotation_kernel_with_an_error_is_refused() {
    let mut gpu = device();
    for (from, to) in [
        ("tile[at + 2u * h] = subtract(near, far)", "tile[at + 2u * h] = subtract(far, near)"),
        ("tile[at + h] = subtract(a, b)", "tile[at + h] = add(a, b)"),
        ("(col & 31u) == 0u", "(col & 63u) == 0u"),
        ("for (var col = 1u; col", "for (var col = 2u; col"),
        ("flip(task.after, here, x)", "x"),
        ("element & 31u", "element & 15u"),
        (">= task.limit", "> task.limit"),
    ] {
        for (at, name) in [(0, "rotations, guarded"), (1, "rotations")] {
            let found = altered(&mut gpu, name, from, to);
            assert_eq!(found[at], ProbeVerdict::Refused, "{name}: {to}");
            assert_eq!(found[1 - at], ProbeVerdict::Exact, "{name}: {to}");
        }
    }
}

#[test]
#[ignore = "make proof"]
fn soft_f32_with_a_rounding_error_is_refused() {
    let mut gpu = device();
    for (from, to) in [
        ("if (rest == 0x40u)", "if (rest == 0x41u)"),
        ("return select(x, a & b,", "return select(x, a,"),
        // No sticky bit.
        ("select(0u, 1u, (x << (32u - by)) != 0u)", "0u"),
    ] {
        let found = altered(&mut gpu, "rotations", from, to);
        assert_eq!(found, [ProbeVerdict::Exact, ProbeVerdict::Refused], "{to}");
    }
}

#[test]
#[ignore = "make proof"]
fn hardware_f32_with_a_wrong_limit_is_refused() {
    let mut gpu = device();
    for (from, to) in [
        ("< 25u", "< 24u"),
        ("< 25u", "< 26u"),
        ("bitcast<f32>(a) - bitcast<f32>(b)", "bitcast<f32>(b) - bitcast<f32>(a)"),
    ] {
        let found = altered(&mut gpu, "rotations, guarded", from, to);
        assert_eq!(found, [ProbeVerdict::Refused, ProbeVerdict::Exact], "{to}");
    }
}

/// Without the check of scaled results, a device that flushes subnormals is refused and others are not.
#[test]
#[ignore = "make proof"]
#[cfg(all(feature = "test-float-modes", target_arch = "x86_64"))]
fn hardware_f32_without_a_flush_check_is_refused_where_subnormals_are_flushed() {
    use super::float_modes::{FloatMode, open};
    for (mode, verdict) in
        [(FloatMode::Default, ProbeVerdict::Exact), (FloatMode::Flushing, ProbeVerdict::Refused)]
    {
        let mut gpu = pollster::block_on(open(mode)).expect("a device");
        assert!(gpu.is_software(), "float modes need the software device: run `make proof`");
        assert_eq!(altered(&mut gpu, "rotations, guarded", "< 129u", "< 1u"), [verdict, ProbeVerdict::Exact]);
    }
}
