//! Which ways to rotate answer as the definition does: a rotation of each kind that is cut into passes differently, over
//! values at which floats differ.

use super::chain::End;
use super::course::limit;
use super::probe::word;
use super::rotate::{Floats, Matrix};
use super::{Gpu, Verdict};
use crate::device::turn::Step;
use quantoscope_core::DType;
use quantoscope_core::error::Result;
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::plan::Along;
use quantoscope_core::rotate::{Form, Rotation};

/// Asks both ways, and from then on uses those alone that answer as the definition does.
pub async fn probe(gpu: &mut Gpu) -> Result<()> {
    for at in 0..gpu.rotator.turn.len() {
        let floats = gpu.rotator.turn[at].0;
        let right = turns(gpu, floats).await? && gains(gpu, floats).await? && sources(gpu, floats).await?;
        gpu.rotator.turn[at].2 = if right { Verdict::Exact } else { Verdict::Refused };
    }
    Ok(())
}

/// A rotation of some vectors of a matrix.
struct Case {
    rotation: Rotation,
    along: Along,
    /// Vectors, and values beside them on their side.
    vectors: usize,
    beside: usize,
}

/// Long and short ones, in one tile and in several passes, with dense parts within a tile and apart, of more signs than
/// a word has, transposed, in blocks; vectors that fill no tile.
fn cases() -> impl Iterator<Item = Case> {
    let all = [
        (64, Form::Full, Along::Columns, 75, 9),
        (4096, Form::Full, Along::Columns, 6, 0),
        (8192, Form::Full, Along::Columns, 6, 0),
        (896, Form::Full, Along::Columns, 6, 1),
        (344, Form::FixesOnes, Along::Columns, 6, 0),
        (896, Form::Full, Along::Rows, 35, 0),
        (512, Form::FixesOnes, Along::Rows, 18, 1),
        (112, Form::FixesOnes, Along::Rows, 7, 0),
        (192, Form::Block(24), Along::Columns, 6, 2),
        (64, Form::Block(16), Along::Rows, 6, 0),
    ];
    all.into_iter().filter_map(|(len, form, along, vectors, beside)| {
        let rotation = Rotation::new(len, form, len ^ 0x51).ok()?;
        Some(Case { rotation, along, vectors, beside })
    })
}

impl Case {
    fn rows(&self) -> usize {
        if self.along == Along::Columns { self.vectors } else { self.rotation.len() + self.beside }
    }

    fn width(&self) -> usize {
        if self.along == Along::Columns { self.rotation.len() + self.beside } else { self.vectors }
    }

    /// A matrix whose vectors are of these kinds, one after the other.
    fn paint(&self, kinds: &[u64]) -> Vec<f32> {
        let width = self.width();
        let value = |at: usize| {
            let vector = if self.along == Along::Columns { at / width } else { at % width };
            value(kinds[vector % kinds.len()], word(self.rotation.seed(), at as u64))
        };
        (0..self.rows() * width).map(value).collect()
    }

    fn step(&self) -> Step<'_> {
        Step::Turn { along: self.along, at: self.beside, rotation: &self.rotation }
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
async fn ask(gpu: &Gpu, floats: Floats, matrix: &Matrix<'_>) -> Result<(End, bool)> {
    let mut values = vec![0.0; matrix.rows * matrix.width];
    if Scalar.decode(matrix.from, matrix.src, &mut values).is_err() {
        return Ok((End::Doubted, false));
    }
    matrix.steps.iter().for_each(|step| step.apply(&mut values, matrix.width));
    let want = bytes(&values);
    let mut got: Vec<u8> = want.iter().map(|b| !b).collect();
    let end = gpu.turn(floats, matrix, &mut got).await?;
    Ok((end, got == want))
}

/// Single values at which what may be decided ends.
fn edges(floats: Floats, rotation: &Rotation) -> [(u32, End); 7] {
    let limit = limit(rotation.hadamard());
    let below = if floats == Floats::Guarded { End::Unsure } else { End::Done };
    // The second product begins with what the first has scaled down.
    let least = if rotation.form() == Form::FixesOnes { 40 } else { 25 };
    [
        (0x7FC0_0000, End::Doubted),
        (0xFF80_0000, End::Doubted),
        (limit << 23, End::Doubted),
        ((limit << 23) - 1, End::Done),
        (least << 23, End::Done),
        ((25 << 23) - 1, below),
        (1, below),
    ]
}

async fn turns(gpu: &Gpu, floats: Floats) -> Result<bool> {
    let mut asked = 0;
    for case in cases() {
        let step = [case.step()];
        let (rows, width) = (case.rows(), case.width());
        for kinds in [&USUAL[..], &GREAT, &SMALL, &TINY] {
            let src = bytes(&case.paint(kinds));
            let matrix = Matrix { steps: &step, rows, width, from: DType::F32, src: &src, to: DType::F32 };
            let (end, same) = ask(gpu, floats, &matrix).await?;
            let right = match (floats, kinds) {
                (Floats::Guarded, k) if k == TINY => end == End::Unsure,
                (Floats::Guarded, k) if k == SMALL => end == End::Unsure || end == End::Done && same,
                _ => end == End::Done && same,
            };
            if !right {
                return Ok(false);
            }
            asked += 1;
        }
        for (edge, want) in edges(floats, &case.rotation) {
            let mut values = case.paint(&USUAL);
            if let Some(last) = values.last_mut() {
                *last = f32::from_bits(edge);
            }
            let src = bytes(&values);
            let matrix = Matrix { steps: &step, rows, width, from: DType::F32, src: &src, to: DType::F32 };
            let (end, same) = ask(gpu, floats, &matrix).await?;
            if end != want || (end == End::Done) != same {
                return Ok(false);
            }
        }
    }
    // What was not asked is not known.
    Ok(asked > 0)
}

/// Gains of both sides, of all sizes.
async fn gains(gpu: &Gpu, floats: Floats) -> Result<bool> {
    const ROWS: usize = 53;
    const WIDTH: usize = 39;
    let mix = |seed: u64, at: usize| value([0, 1, 2, 8][at % 4], word(seed, at as u64));
    // Neither 0 to divide by, nor so small that quotients overflow.
    let by = |x: f32| if x.abs() < 1e-30 { 0.3 } else { x };
    let values: Vec<f32> = (0..ROWS * WIDTH).map(|at| mix(3, at)).collect();
    let gain: Vec<f32> = (0..ROWS).map(|at| by(mix(4, at))).collect();
    let mut small: Vec<f32> = (0..WIDTH).map(|at| mix(5, at)).collect();
    small[0] = 0.0;
    let src = bytes(&values);
    let of = |along, gain, divides| Step::Gain { along, gain, divides };
    for (steps, done) in [
        ([of(Along::Rows, &gain, true), of(Along::Columns, &small, false)], true),
        ([of(Along::Rows, &gain, false), of(Along::Columns, &gain[..WIDTH], true)], true),
        ([of(Along::Columns, &[1e-38; WIDTH], true), of(Along::Columns, &[1e-9; WIDTH], true)], false),
        ([of(Along::Rows, &[3e38; ROWS], false), of(Along::Rows, &[1e9; ROWS], false)], false),
    ] {
        let matrix =
            Matrix { steps: &steps, rows: ROWS, width: WIDTH, from: DType::F32, src: &src, to: DType::F32 };
        let (end, same) = ask(gpu, floats, &matrix).await?;
        let right = if done { end == End::Done && same } else { end == End::Doubted };
        if !right {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Every finite number of 16 bits.
async fn sources(gpu: &Gpu, floats: Floats) -> Result<bool> {
    for (from, top) in [(DType::F16, 0x7C00_u16), (DType::BF16, 0x7F80)] {
        let finite = |x: &u16| x & 0x7FFF < top;
        let src: Vec<u8> = (0..=u16::MAX).filter(finite).flat_map(u16::to_le_bytes).collect();
        let width = src.len() / 2;
        let matrix = Matrix { steps: &[], rows: 1, width, from, src: &src, to: DType::F32 };
        if ask(gpu, floats, &matrix).await? != (End::Done, true) {
            return Ok(false);
        }
        for bad in [top, top | 0x8001] {
            let src = [src.as_slice(), &bad.to_le_bytes()].concat();
            let matrix = Matrix { width: width + 1, src: &src, ..matrix };
            if ask(gpu, floats, &matrix).await?.0 != End::Doubted {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::rotate::Rotator;
    use super::*;

    /// What the probe finds where a kernel's text is altered: of floats, and of integers.
    fn altered(gpu: &mut Gpu, kernel: &str, from: &str, to: &str) -> [Verdict; 2] {
        let edit = |name: &str, text: String| {
            if name != kernel {
                return text;
            }
            assert!(text.contains(from), "{kernel} has no {from}");
            text.replace(from, to)
        };
        gpu.rotator = Rotator::new(&gpu.device, &edit);
        pollster::block_on(probe(gpu)).expect("a device that works");
        [0, 1].map(|at| gpu.rotator.turn[at].2)
    }

    fn device() -> Gpu {
        pollster::block_on(Gpu::unprobed(&|_, text| text)).expect("a device")
    }

    #[test]
    fn a_wrong_gain_is_caught() {
        let mut gpu = device();
        for (from, to) in [
            ("quotient(result[at], by)", "product(result[at], by)"),
            ("gain.columns == 1u", "gain.columns == 0u"),
            ("(result << 6u) | digit |", "(result << 6u) | digit ^"),
            ("finite(product(result[at], by))", "product(result[at], by)"),
        ] {
            assert_eq!(altered(&mut gpu, "gain", from, to), [Verdict::Refused; 2], "{to}");
        }
    }

    #[test]
    fn a_wrong_source_is_caught() {
        let mut gpu = device();
        for (from, to) in [
            ("(leading + 103u)", "(leading + 102u)"),
            ("finite(load(at))", "load(at)"),
            ("half_at(at) << 16u", "half_at(at) << 17u"),
        ] {
            let name = if from.contains("half_at") { "widen BF16" } else { "widen F16" };
            assert_eq!(altered(&mut gpu, name, from, to), [Verdict::Refused; 2], "{to}");
        }
    }

    #[test]
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
            for (at, name) in [(0, "rotations by floats"), (1, "rotations by integers")] {
                let found = altered(&mut gpu, name, from, to);
                assert_eq!(found[at], Verdict::Refused, "{name}: {to}");
                assert_eq!(found[1 - at], Verdict::Exact, "{name}: {to}");
            }
        }
    }

    #[test]
    fn a_wrong_sum_is_caught() {
        let mut gpu = device();
        for (from, to) in [
            ("if (rest == 0x40u)", "if (rest == 0x41u)"),
            ("return select(x, a & b,", "return select(x, a,"),
            // What is shifted out leaves no mark.
            ("select(0u, 1u, (x << (32u - by)) != 0u)", "0u"),
        ] {
            let found = altered(&mut gpu, "rotations by integers", from, to);
            assert_eq!(found, [Verdict::Exact, Verdict::Refused], "{to}");
        }
    }

    #[test]
    fn floats_that_are_sure_too_early_are_caught() {
        let mut gpu = device();
        for (from, to) in [
            ("< 25u", "< 24u"),
            ("< 25u", "< 26u"),
            ("bitcast<f32>(a) - bitcast<f32>(b)", "bitcast<f32>(b) - bitcast<f32>(a)"),
        ] {
            let found = altered(&mut gpu, "rotations by floats", from, to);
            assert_eq!(found, [Verdict::Refused, Verdict::Exact], "{to}");
        }
    }

    /// What is lost where small results are flushed is not lost elsewhere.
    #[test]
    #[cfg(all(feature = "hostile", target_arch = "x86_64"))]
    fn floats_that_may_be_flushed_are_caught_where_they_are() {
        use super::super::hostile::{Mode, open};
        for (mode, verdict) in [(Mode::Usual, Verdict::Exact), (Mode::Flushing, Verdict::Refused)] {
            let mut gpu = pollster::block_on(open(mode)).expect("a device");
            if gpu.is_software() {
                assert_eq!(
                    altered(&mut gpu, "rotations by floats", "< 129u", "< 1u"),
                    [verdict, Verdict::Exact]
                );
            }
        }
    }
}
