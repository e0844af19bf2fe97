//! Which ways to rotate answer as the definition does: a rotation of each kind that is cut into passes differently, over
//! values at which floats differ.

use super::probe_cases::word;
use super::rotation_passes::{Axis, MatrixStep, RotationTask, limit};
use super::{Arithmetic, Device, DeviceOutcome, ProbeVerdict};
use quantoscope_core::DType;
use quantoscope_core::error::Result;
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::rotation::{Form, Rotation};

/// Asks all that is known of rotations; an error is the device's, not the kernel's.
pub async fn probe_rotation(device: &dyn Device, by: Arithmetic) -> Result<ProbeVerdict> {
    let right = turns(device, by).await? && gains(device, by).await? && sources(device, by).await?;
    Ok(if right { ProbeVerdict::Exact } else { ProbeVerdict::Refused })
}

/// A rotation of some vectors of a matrix.
struct RotationCase {
    rotation: Rotation,
    along: Axis,
    /// Vectors, and values beside them on their side.
    vectors: usize,
    beside: usize,
}

/// Long and short ones, in one tile and in several passes, with dense parts within a tile and apart, of more signs than
/// a word has, transposed, in blocks; vectors that fill no tile.
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
    all.into_iter().filter_map(|(len, form, along, vectors, beside)| {
        let rotation = Rotation::new(len, form, len ^ 0x51).ok()?;
        Some(RotationCase { rotation, along, vectors, beside })
    })
}

impl RotationCase {
    fn rows(&self) -> usize {
        if self.along == Axis::In { self.vectors } else { self.rotation.len() + self.beside }
    }

    fn width(&self) -> usize {
        if self.along == Axis::In { self.rotation.len() + self.beside } else { self.vectors }
    }

    /// A matrix whose vectors are of these kinds, one after the other.
    fn paint(&self, kinds: &[u64]) -> Vec<f32> {
        let width = self.width();
        let value = |at: usize| {
            let vector = if self.along == Axis::In { at / width } else { at % width };
            value(kinds[vector % kinds.len()], word(self.rotation.seed(), at as u64))
        };
        (0..self.rows() * width).map(value).collect()
    }

    fn step(&self) -> MatrixStep<'_> {
        MatrixStep::Rotate { along: self.along, at: self.beside, rotation: &self.rotation }
    }
}

/// Kinds of values whose sums and multiples floats get right where they round to nearest.
const USUAL: [u64; 6] = [0, 1, 2, 3, 4, 5];
/// As great as may be.
const GREAT: [u64; 1] = [6];
/// Of which floats get right those that they are sure of.
const SMALL: [u64; 2] = [7, 9];
/// Of which floats must not be sure.
const TINY: [u64; 2] = [8, 7];

fn value(kind: u64, w: u64) -> f32 {
    let (bits, sign) = (w as u32, w as u32 & 0x8000_0000);
    let power = |low: u64, count: u64| f32::from_bits(sign | ((low + (w >> 33) % count) as u32) << 23);
    // Nearly normal: the sum of four uniforms.
    let z = (0..4).map(|k| (w >> (16 * k) & 0xFFFF) as f32 - 32767.5).sum::<f32>() / 32768.0;
    match kind {
        0 => z * 0.02,
        // Odd multiples of small powers of two, all 24 bits long: sums are ties, at every other one of which the bit
        // before is set.
        1 => f32::from_bits(sign | (127 + (w >> 60) as u32 % 3) << 23 | bits >> 8 & 0x7F_FFFE | 1),
        // What is greater swallows what is smaller, and then may go: the order decides.
        2 => power(127, 2) * [1.0, 33_554_432.0, 3.0, 1.0 / 1024.0][(w >> 60) as usize % 4],
        3 => [f32::from_bits(sign), f32::from_bits(sign), 1.0, z][(w >> 60) as usize % 4],
        4 => f32::from_bits(sign | (67 + (w >> 33) as u32 % 100) << 23 | bits >> 8 & 0x7F_FFFF),
        5 => f32::from_bits(sign),
        6 => f32::from_bits(sign | (236 + (w >> 33) as u32 % 3) << 23 | bits >> 8 & 0x7F_FFFF),
        7 => f32::from_bits(sign | (25 + (w >> 33) as u32 % 6) << 23 | bits >> 8 & 0x7F_FFFF),
        8 => f32::from_bits(sign | bits >> 6 & 0x1FF_FFFF),
        // Nearly equal: what is left of some sums is their last bits.
        _ => f32::from_bits(sign | 25 << 23 | bits & 3),
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// What comes of a matrix, on a ground of which no byte may stay: whether all is the definition's where all is there.
async fn ask(device: &dyn Device, by: Arithmetic, matrix: RotationTask<'_>) -> Result<(DeviceOutcome, bool)> {
    let mut values = vec![0.0; matrix.rows * matrix.width];
    if Scalar.decode(matrix.from, matrix.src, &mut values).is_err() {
        return Ok((DeviceOutcome::Declined, false));
    }
    matrix.steps.iter().for_each(|step| step.apply(&mut values, matrix.width));
    let want = bytes(&values);
    let mut got: Vec<u8> = want.iter().map(|b| !b).collect();
    let end = device.rotate(matrix, by, &mut got).await?;
    Ok((end, got == want))
}

/// Single values at which what may be decided ends.
fn edges(by: Arithmetic, rotation: &Rotation) -> [(u32, DeviceOutcome); 7] {
    let limit = limit(rotation.hadamard());
    let below = if by == Arithmetic::Guarded { DeviceOutcome::Declined } else { DeviceOutcome::Done };
    // The second product begins with what the first has scaled down.
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

async fn turns(device: &dyn Device, by: Arithmetic) -> Result<bool> {
    let mut asked = 0;
    for case in cases() {
        let step = [case.step()];
        let (rows, width) = (case.rows(), case.width());
        for kinds in [&USUAL[..], &GREAT, &SMALL, &TINY] {
            let src = bytes(&case.paint(kinds));
            let matrix =
                RotationTask { steps: &step, rows, width, from: DType::F32, src: &src, to: DType::F32 };
            let (end, same) = ask(device, by, matrix).await?;
            let right = match (by, kinds) {
                (Arithmetic::Guarded, k) if k == TINY => end == DeviceOutcome::Declined,
                (Arithmetic::Guarded, k) if k == SMALL => {
                    end == DeviceOutcome::Declined || end == DeviceOutcome::Done && same
                }
                _ => end == DeviceOutcome::Done && same,
            };
            if !right {
                return Ok(false);
            }
            asked += 1;
        }
        for (edge, want) in edges(by, &case.rotation) {
            let mut values = case.paint(&USUAL);
            if let Some(last) = values.last_mut() {
                *last = f32::from_bits(edge);
            }
            let src = bytes(&values);
            let matrix =
                RotationTask { steps: &step, rows, width, from: DType::F32, src: &src, to: DType::F32 };
            let (end, same) = ask(device, by, matrix).await?;
            if end != want || (end == DeviceOutcome::Done) != same {
                return Ok(false);
            }
        }
    }
    // What was not asked is not known.
    Ok(asked > 0)
}

/// Gains of both sides, of all sizes.
async fn gains(device: &dyn Device, by: Arithmetic) -> Result<bool> {
    const ROWS: usize = 53;
    const WIDTH: usize = 39;
    let mix = |seed: u64, at: usize| value([0, 1, 2, 8][at % 4], word(seed, at as u64));
    // Neither 0 to divide by, nor so small that quotients overflow.
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
        let (end, same) = ask(device, by, matrix).await?;
        let right = if done { end == DeviceOutcome::Done && same } else { end == DeviceOutcome::Declined };
        if !right {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Every finite number of 16 bits.
async fn sources(device: &dyn Device, by: Arithmetic) -> Result<bool> {
    for (from, top) in [(DType::F16, 0x7C00_u16), (DType::BF16, 0x7F80)] {
        let finite = |x: &u16| x & 0x7FFF < top;
        let src: Vec<u8> = (0..=u16::MAX).filter(finite).flat_map(u16::to_le_bytes).collect();
        let width = src.len() / 2;
        let matrix = RotationTask { steps: &[], rows: 1, width, from, src: &src, to: DType::F32 };
        if ask(device, by, matrix).await? != (DeviceOutcome::Done, true) {
            return Ok(false);
        }
        for bad in [top, top | 0x8001] {
            let src = [src.as_slice(), &bad.to_le_bytes()].concat();
            let matrix = RotationTask { width: width + 1, src: &src, ..matrix };
            if ask(device, by, matrix).await?.0 != DeviceOutcome::Declined {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
