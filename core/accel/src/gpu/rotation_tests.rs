//! What the probe finds of rotations that are right, and of such that are not.

use super::WgpuDevice;
use super::rotate::Rotator;
use crate::device::{Arithmetic, Device, Kernel, ProbeVerdict, probe_kernel};

/// What the probe finds where a kernel's text is altered: of floats, and of integers.
fn altered(gpu: &mut WgpuDevice, kernel: &str, from: &str, to: &str) -> [ProbeVerdict; 2] {
    let edit = |name: &str, text: String| {
        if name != kernel {
            return text;
        }
        assert!(text.contains(from), "{kernel} has no {from}");
        text.replace(from, to)
    };
    gpu.rotator = Rotator::new(&edit);
    [Arithmetic::Guarded, Arithmetic::Exact]
        .map(|by| pollster::block_on(probe_kernel(gpu, Kernel::Rotate(by))).expect("a device that works"))
}

fn device() -> WgpuDevice {
    pollster::block_on(WgpuDevice::open()).expect("a device")
}

#[test]
#[ignore = "make proof"]
fn a_wrong_gain_is_caught() {
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
fn a_wrong_source_is_caught() {
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
fn a_wrong_turn_is_caught() {
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
fn a_wrong_sum_is_caught() {
    let mut gpu = device();
    for (from, to) in [
        ("if (rest == 0x40u)", "if (rest == 0x41u)"),
        ("return select(x, a & b,", "return select(x, a,"),
        // What is shifted out leaves no mark.
        ("select(0u, 1u, (x << (32u - by)) != 0u)", "0u"),
    ] {
        let found = altered(&mut gpu, "rotations", from, to);
        assert_eq!(found, [ProbeVerdict::Exact, ProbeVerdict::Refused], "{to}");
    }
}

#[test]
#[ignore = "make proof"]
fn floats_that_are_sure_too_early_are_caught() {
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

/// What is lost where small results are flushed is not lost elsewhere.
#[test]
#[ignore = "make proof"]
#[cfg(all(feature = "hostile", target_arch = "x86_64"))]
fn floats_that_may_be_flushed_are_caught_where_they_are() {
    use super::float_modes::{FloatMode, open};
    for (mode, verdict) in
        [(FloatMode::Usual, ProbeVerdict::Exact), (FloatMode::Flushing, ProbeVerdict::Refused)]
    {
        let mut gpu = pollster::block_on(open(mode)).expect("a device");
        assert!(gpu.is_software(), "float modes need the software device: run `make proof`");
        assert_eq!(altered(&mut gpu, "rotations, guarded", "< 129u", "< 1u"), [verdict, ProbeVerdict::Exact]);
    }
}
