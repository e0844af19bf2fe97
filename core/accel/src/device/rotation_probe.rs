//! The probe of rotation kernels: one rotation of each kind that is split into passes differently, over
//! values at which float units differ.

use super::probe_cases::word;
use super::rotation_passes::{Axis, MatrixStep, RotationTask, exponent_limit};
use super::{Arithmetic, Device, DeviceOutcome, ProbeVerdict};
use quantoscope_core::DType;
use quantoscope_core::error::Result;
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::rotation::{Form, Rotation};

/// Runs all cases of a rotation kernel.
///
/// # Errors
/// Those of [`Device::rotate`]: the device failed, which says nothing about the kernel.
pub(super) async fn probe_rotation(device: &dyn Device, arithmetic: Arithmetic) -> Result<ProbeVerdict> {
    let exact = rotations_match(device, arithmetic).await?
        && gains_match(device, arithmetic).await?
        && half_sources_match(device, arithmetic).await?;
    Ok(if exact { ProbeVerdict::Exact } else { ProbeVerdict::Refused })
}

/// A rotation of some vectors of a matrix.
struct RotationCase {
    rotation: Rotation,
    along: Axis,
    /// Number of vectors.
    vectors: usize,
    /// Elements of the axis before the vectors, which are not rotated.
    before: usize,
}

/// Long and short vectors, in one tile and in several passes; dense parts within a tile and in a pass of
/// their own; dense parts of more than 32 signs, transposed ones, block rotations; vectors that do not fill a
/// tile.
fn cases() -> impl Iterator<Item = RotationCase> {
    let all = [
        (64, Form::Full, Axis::In, 75, 9),
        (4096, Form::Full, Axis::In, 6, 0),
        (8192, Form::Full, Axis::In, 6, 0),
        (896, Form::Full, Axis::In, 6, 1),
        (344, Form::FixesOnes, Axis::In, 6, 0),
        (896, Form::Full, Axis::Out, 35, 0),
        (512, Form::FixesOnes, Axis::Out, 18, 1),
        (112, Form::FixesOnes, Axis::Out, 7, 0),
        (192, Form::Block(24), Axis::In, 6, 2),
        (64, Form::Block(16), Axis::Out, 6, 0),
    ];
    all.into_iter().filter_map(|(len, form, along, vectors, before)| {
        let rotation = Rotation::new(len, form, len ^ 0x51).ok()?;
        Some(RotationCase { rotation, along, vectors, before })
    })
}

impl RotationCase {
    fn rows(&self) -> usize {
        if self.along == Axis::In { self.vectors } else { self.rotation.len() + self.before }
    }

    fn width(&self) -> usize {
        if self.along == Axis::In { self.rotation.len() + self.before } else { self.vectors }
    }

    /// A matrix whose vectors take these kinds of values in turn.
    fn matrix(&self, kinds: &[u64]) -> Vec<f32> {
        let width = self.width();
        let value = |at: usize| {
            let vector = if self.along == Axis::In { at / width } else { at % width };
            value(kinds[vector % kinds.len()], word(self.rotation.seed(), at as u64))
        };
        (0..self.rows() * width).map(value).collect()
    }

    fn step(&self) -> MatrixStep<'_> {
        MatrixStep::Rotate { along: self.along, at: self.before, rotation: &self.rotation }
    }
}

/// Kinds of values that any float unit that rounds to nearest gets right.
const USUAL: [u64; 6] = [0, 1, 2, 3, 4, 5];
/// Values just below the overflow limit.
const LARGE: [u64; 1] = [6];
/// Values of which a float unit may decline some.
const SMALL: [u64; 2] = [7, 9];
/// Values that a float unit must decline.
const SUBNORMAL: [u64; 2] = [8, 7];

fn value(kind: u64, w: u64) -> f32 {
    let (bits, sign) = (w as u32, w as u32 & 0x8000_0000);
    let power = |low: u64, count: u64| f32::from_bits(sign | ((low + (w >> 33) % count) as u32) << 23);
    // Nearly normal: the sum of four uniforms.
    let z = (0..4).map(|k| (w >> (16 * k) & 0xFFFF) as f32 - 32767.5).sum::<f32>() / 32768.0;
    match kind {
        0 => z * 0.02,
        // Odd multiples of small powers of two with 24-bit significands: sums are ties, half of them next to
        // an odd bit.
        1 => f32::from_bits(sign | (127 + (w >> 60) as u32 % 3) << 23 | bits >> 8 & 0x7F_FFFE | 1),
        // Magnitudes that absorb each other and cancel: the order of the sums decides.
        2 => power(127, 2) * [1.0, 33_554_432.0, 3.0, 1.0 / 1024.0][(w >> 60) as usize % 4],
        3 => [f32::from_bits(sign), f32::from_bits(sign), 1.0, z][(w >> 60) as usize % 4],
        4 => f32::from_bits(sign | (67 + (w >> 33) as u32 % 100) << 23 | bits >> 8 & 0x7F_FFFF),
        5 => f32::from_bits(sign),
        6 => f32::from_bits(sign | (236 + (w >> 33) as u32 % 3) << 23 | bits >> 8 & 0x7F_FFFF),
        7 => f32::from_bits(sign | (25 + (w >> 33) as u32 % 6) << 23 | bits >> 8 & 0x7F_FFFF),
        8 => f32::from_bits(sign | bits >> 6 & 0x1FF_FFFF),
        // Nearly equal values: some differences keep only the last bits.
        _ => f32::from_bits(sign | 25 << 23 | bits & 3),
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Runs a task; returns the outcome and whether the output equals the CPU reference. The output starts as the
/// complement of the expected bytes, so that every byte must be written.
async fn run(
    device: &dyn Device,
    arithmetic: Arithmetic,
    matrix: RotationTask<'_>,
) -> Result<(DeviceOutcome, bool)> {
    let mut values = vec![0.0; matrix.rows * matrix.width];
    if Scalar.decode(matrix.from, matrix.src, &mut values).is_err() {
        return Ok((DeviceOutcome::Declined, false));
    }
    matrix.steps.iter().for_each(|step| step.apply(&mut values, matrix.width));
    let want = bytes(&values);
    let mut got: Vec<u8> = want.iter().map(|b| !b).collect();
    let outcome = device.rotate(matrix, arithmetic, &mut got).await?;
    Ok((outcome, got == want))
}

/// Bit patterns at the limits of what a kernel may compute, and the outcome that each must have.
fn edges(arithmetic: Arithmetic, rotation: &Rotation) -> [(u32, DeviceOutcome); 7] {
    let limit = exponent_limit(rotation.hadamard());
    let below =
        if arithmetic == Arithmetic::HardwareF32 { DeviceOutcome::Declined } else { DeviceOutcome::Done };
    // The inputs of the second product were scaled down by the first.
    let least = if rotation.form() == Form::FixesOnes { 40 } else { 25 };
    [
        (0x7FC0_0000, DeviceOutcome::Declined),
        (0xFF80_0000, DeviceOutcome::Declined),
        (limit << 23, DeviceOutcome::Declined),
        ((limit << 23) - 1, DeviceOutcome::Done),
        (least << 23, DeviceOutcome::Done),
        ((25 << 23) - 1, below),
        (1, below),
    ]
}

/// Rotations of each kind of values and of each edge value.
async fn rotations_match(device: &dyn Device, arithmetic: Arithmetic) -> Result<bool> {
    let mut count = 0;
    for case in cases() {
        let step = [case.step()];
        let (rows, width) = (case.rows(), case.width());
        for kinds in [&USUAL[..], &LARGE, &SMALL, &SUBNORMAL] {
            let src = bytes(&case.matrix(kinds));
            let matrix =
                RotationTask { steps: &step, rows, width, from: DType::F32, src: &src, to: DType::F32 };
            let (outcome, same) = run(device, arithmetic, matrix).await?;
            let exact = match (arithmetic, kinds) {
                (Arithmetic::HardwareF32, k) if k == SUBNORMAL => outcome == DeviceOutcome::Declined,
                (Arithmetic::HardwareF32, k) if k == SMALL => {
                    outcome == DeviceOutcome::Declined || outcome == DeviceOutcome::Done && same
                }
                _ => outcome == DeviceOutcome::Done && same,
            };
            if !exact {
                return Ok(false);
            }
            count += 1;
        }
        for (edge, want) in edges(arithmetic, &case.rotation) {
            let mut values = case.matrix(&USUAL);
            if let Some(last) = values.last_mut() {
                *last = f32::from_bits(edge);
            }
            let src = bytes(&values);
            let matrix =
                RotationTask { steps: &step, rows, width, from: DType::F32, src: &src, to: DType::F32 };
            let (outcome, same) = run(device, arithmetic, matrix).await?;
            if outcome != want || (outcome == DeviceOutcome::Done) != same {
                return Ok(false);
            }
        }
    }
    // Without a case, nothing is known.
    Ok(count > 0)
}

/// Gains along both axes, of all magnitudes.
async fn gains_match(device: &dyn Device, arithmetic: Arithmetic) -> Result<bool> {
    const ROWS: usize = 53;
    const WIDTH: usize = 39;
    let mix = |seed: u64, at: usize| value([0, 1, 2, 8][at % 4], word(seed, at as u64));
    // Divisors are not 0, nor so small that quotients overflow.
    let divisor = |x: f32| if x.abs() < 1e-30 { 0.3 } else { x };
    let values: Vec<f32> = (0..ROWS * WIDTH).map(|at| mix(3, at)).collect();
    let gain: Vec<f32> = (0..ROWS).map(|at| divisor(mix(4, at))).collect();
    let mut small: Vec<f32> = (0..WIDTH).map(|at| mix(5, at)).collect();
    small[0] = 0.0;
    let src = bytes(&values);
    let of = |along, gain, divides| MatrixStep::Gain { along, gain, divides };
    for (steps, done) in [
        ([of(Axis::Out, &gain, true), of(Axis::In, &small, false)], true),
        ([of(Axis::Out, &gain, false), of(Axis::In, &gain[..WIDTH], true)], true),
        ([of(Axis::In, &[1e-38; WIDTH], true), of(Axis::In, &[1e-9; WIDTH], true)], false),
        ([of(Axis::Out, &[3e38; ROWS], false), of(Axis::Out, &[1e9; ROWS], false)], false),
    ] {
        let matrix = RotationTask {
            steps: &steps,
            rows: ROWS,
            width: WIDTH,
            from: DType::F32,
            src: &src,
            to: DType::F32,
        };
        let (outcome, same) = run(device, arithmetic, matrix).await?;
        let declined = outcome == DeviceOutcome::Declined;
        let exact = if done { outcome == DeviceOutcome::Done && same } else { declined };
        if !exact {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Every finite F16 and BF16 number, and the smallest of the others.
async fn half_sources_match(device: &dyn Device, arithmetic: Arithmetic) -> Result<bool> {
    for (from, top) in [(DType::F16, 0x7C00_u16), (DType::BF16, 0x7F80)] {
        let finite = |x: &u16| x & 0x7FFF < top;
        let src: Vec<u8> = (0..=u16::MAX).filter(finite).flat_map(u16::to_le_bytes).collect();
        let width = src.len() / 2;
        let matrix = RotationTask { steps: &[], rows: 1, width, from, src: &src, to: DType::F32 };
        if run(device, arithmetic, matrix).await? != (DeviceOutcome::Done, true) {
            return Ok(false);
        }
        for bad in [top, top | 0x8001] {
            let src = [src.as_slice(), &bad.to_le_bytes()].concat();
            let matrix = RotationTask { width: width + 1, src: &src, ..matrix };
            if run(device, arithmetic, matrix).await?.0 != DeviceOutcome::Declined {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
