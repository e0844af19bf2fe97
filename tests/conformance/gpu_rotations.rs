//! WGSL rotation kernels against the CPU reference, bit for bit, in every float mode of a software device;
//! and decode, rotate and encode in one task.

use crate::gpu::devices;
use quantoscope_accel::device::rotation_passes::{Axis, MatrixStep, RotationTask};
use quantoscope_accel::device::{Arithmetic, Device, DeviceOutcome, Kernel, Offload};
use quantoscope_accel::gpu::WgpuDevice;
use quantoscope_core::DType;
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::quant::Encoding;
use quantoscope_core::rotation::{Form, Rotation};
use quantoscope_tests::generators::{generate, word};
use quantoscope_tests::vectors::f32_bytes;

const WAYS: [Arithmetic; 2] = [Arithmetic::HardwareF32, Arithmetic::SoftF32];

fn ask(device: &dyn Device, by: Arithmetic, matrix: RotationTask<'_>, out: &mut [u8]) -> DeviceOutcome {
    pollster::block_on(device.rotate(matrix, by, out)).expect("no failure")
}

fn run(
    device: &dyn Device,
    by: Arithmetic,
    steps: &[MatrixStep<'_>],
    rows: usize,
    width: usize,
    x: &[f32],
) -> (DeviceOutcome, Vec<u8>) {
    let mut out = vec![0xA5; x.len() * 4];
    let src = f32_bytes(x);
    let matrix = RotationTask { from: DType::F32, src: &src, rows, width, steps, to: DType::F32 };
    (ask(device, by, matrix, &mut out), out)
}

/// The graphics device as an engine has it.
fn offload(gpu: &'static WgpuDevice) -> Offload {
    let offload = Offload::new("gpu", Box::new(gpu), &Scalar);
    let small = |k: Kernel| k.block().block_len() <= 32;
    pollster::block_on(offload.probe(small)).expect("a device that works");
    offload
}

fn is_exact(offload: &Offload, by: Arithmetic) -> bool {
    offload.is_exact(Kernel::Rotate(by))
}

/// What the definition makes of a matrix.
fn definition(steps: &[MatrixStep<'_>], width: usize, x: &[f32]) -> Vec<f32> {
    let mut values = x.to_vec();
    steps.iter().for_each(|step| step.apply(&mut values, width));
    values
}

fn same(a: &[u8], want: &[f32]) -> bool {
    a == f32_bytes(want)
}

/// A rotation, the side, vectors, and values on their side: before them, and in all.
type RotationShape = (u64, Form, Axis, usize, usize, usize);

fn cases() -> Vec<RotationShape> {
    let sylvester = (0..=15).map(|k| 1 << k);
    let dense = [12, 36, 896, 1536, 2560, 3584, 4864, 11008, 14336];
    let mut all = Vec::new();
    for len in sylvester.chain(dense) {
        let n = len as usize;
        let vectors = if n > 4096 { 2 } else { 3 };
        all.push((len, Form::Full, Axis::In, vectors, 0, n));
        all.push((len, Form::Full, Axis::Out, if n > 4096 { 3 } else { 37 }, 0, n));
    }
    for (len, form) in [
        (64, Form::FixesOnes),
        (896, Form::FixesOnes),
        (3584, Form::FixesOnes),
        (8192, Form::FixesOnes),
        (2880, Form::FixesOnes),
        (4096, Form::Block(32)),
        (1536, Form::Block(96)),
        (14336, Form::Block(7168)),
    ] {
        let n = len as usize;
        all.push((len, form, Axis::In, 3, 5, n + 9));
        all.push((len, form, Axis::Out, 3, 5, n + 9));
    }
    all
}

fn in_one_way(name: &str, device: &dyn Device, by: Arithmetic) {
    for (len, form, along, vectors, at, side) in cases() {
        let rotation = Rotation::new(len, form, len ^ 0xA5).expect("a rotation");
        let steps = [MatrixStep::Rotate { along, at, rotation: &rotation }];
        let (rows, width) = if along == Axis::In { (vectors, side) } else { (side, vectors) };
        for scale in [0.02, 1e-30, 1e-37] {
            let x: Vec<f32> =
                generate("normal", len, rows * width).iter().map(|v| v * (scale / 0.02)).collect();
            let want = definition(&steps, width, &x);
            let (outcome, got) = run(device, by, &steps, rows, width, &x);
            let what = format!("{name}: {len} {form:?} {along:?} {scale}");
            // Floats are not sure of what may be flushed.
            let sure = by == Arithmetic::SoftF32 || scale == 0.02;
            assert!(outcome == DeviceOutcome::Done || !sure, "{what} is declined");
            assert!(outcome == DeviceOutcome::Declined || same(&got, &want), "{what} differs");
        }
    }
}

#[test]
#[ignore = "make proof"]
fn gpu_rotations_in_every_float_mode_equal_the_reference() {
    for (name, gpu) in devices() {
        let offload = offload(gpu);
        assert!(is_exact(&offload, Arithmetic::SoftF32), "{name}");
        for by in WAYS.into_iter().filter(|by| is_exact(&offload, *by)) {
            in_one_way(name, offload.device(), by);
        }
    }
}

/// A rotated matrix from end to end: gains on both sides, the whole axis, and heads on either side.
#[test]
#[ignore = "make proof"]
fn gpu_rotate_and_encode_equals_the_reference() {
    const ROWS: usize = 192;
    const WIDTH: usize = 896;
    let stream = Rotation::new(WIDTH as u64, Form::Full, 1).expect("a rotation");
    let writer = Rotation::new(ROWS as u64, Form::FixesOnes, 2).expect("a rotation");
    let heads: Vec<Rotation> =
        (3..10).map(|seed| Rotation::new(64, Form::Full, seed).expect("one")).collect();
    let gain: Vec<f32> = generate("normal", 3, WIDTH).iter().map(|v| 1.0 + v * 10.0).collect();
    let rows: Vec<f32> = (0..ROWS).map(|r| 0.3 + word(1, r as u64) as u8 as f32 / 77.0).collect();
    let head = |along| {
        let turn = move |(n, rotation)| MatrixStep::Rotate { along, at: n * 64, rotation };
        heads.iter().enumerate().map(turn)
    };
    let mut programs: Vec<Vec<MatrixStep<'_>>> = vec![
        vec![],
        vec![
            MatrixStep::Gain { along: Axis::In, gain: &gain, divides: false },
            MatrixStep::Rotate { along: Axis::In, at: 0, rotation: &stream },
        ],
        vec![
            MatrixStep::Gain { along: Axis::Out, gain: &rows, divides: true },
            MatrixStep::Rotate { along: Axis::Out, at: 0, rotation: &writer },
        ],
    ];
    // Readers with heads below them, writers with heads beside them.
    let mut both = programs[1].clone();
    both.extend(head(Axis::Out).take(3));
    programs.push(both);
    let mut both: Vec<_> = head(Axis::In).collect();
    both.extend(programs[2].clone());
    programs.push(both);
    for (name, gpu) in devices() {
        let offload = offload(gpu);
        for (n, steps) in programs.iter().enumerate() {
            for from in [DType::F32, DType::F16, DType::BF16] {
                let x = generate("heavy", 9 + n as u64, ROWS * WIDTH);
                let src: Vec<u8> = match from {
                    DType::F32 => f32_bytes(&x),
                    // A positive exponent of two digits at most: about 2^-9 to 2^-2.
                    DType::F16 => {
                        x.iter().flat_map(|v| (v.to_bits() as u16 & 0x8FFF | 0x2000).to_le_bytes()).collect()
                    }
                    _ => x.iter().flat_map(|v| ((v.to_bits() >> 16) as u16).to_le_bytes()).collect(),
                };
                let mut values = vec![0.0; x.len()];
                Scalar.decode(from, &src, &mut values).expect("a plain type");
                let values = definition(steps, WIDTH, &values);
                for to in [DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1] {
                    let mut want = vec![0; to.bytes_for(values.len() as u64).expect("whole blocks") as usize];
                    Scalar.encode(Encoding::Type(to), &values, None, &mut want).expect("finite values");
                    let mut got = vec![0xA5; want.len()];
                    let matrix = RotationTask { from, src: &src, rows: ROWS, width: WIDTH, steps, to };
                    let outcome = pollster::block_on(offload.rotate(matrix, &mut got));
                    assert_eq!(outcome, DeviceOutcome::Done, "{name}: {n} {from} {to}");
                    assert!(got == want, "{name}: {n} {from} {to}");
                }
            }
        }
    }
}

/// More than a submission takes; the last rows have a gain of their own.
#[test]
fn gpu_rotate_long_matrices_equal_the_reference() {
    let gpu = pollster::block_on(WgpuDevice::open()).expect("a device");
    let (rows, width) = (2055, 2048);
    let rotation = Rotation::new(2048, Form::Block(512), 1).expect("a rotation");
    let gain: Vec<f32> = (0..rows).map(|r| 1.0 + r as f32 / 7.0).collect();
    let steps = [
        MatrixStep::Gain { along: Axis::Out, gain: &gain, divides: true },
        MatrixStep::Rotate { along: Axis::In, at: 0, rotation: &rotation },
    ];
    let mut x = generate("normal", 1, rows * width);
    let want = definition(&steps, width, &x);
    let (outcome, got) = run(&gpu, Arithmetic::HardwareF32, &steps, rows, width, &x);
    assert!(outcome == DeviceOutcome::Done && same(&got, &want));
    x[rows * width - 1] = f32::NAN;
    assert_eq!(run(&gpu, Arithmetic::HardwareF32, &steps, rows, width, &x).0, DeviceOutcome::Declined);
}

#[test]
fn gpu_rotate_impossible_tasks_are_declined() {
    let gpu = pollster::block_on(WgpuDevice::open()).expect("a device");
    let rotation = Rotation::new(64, Form::Full, 1).expect("a rotation");
    let x = generate("normal", 1, 64 * 96);
    let turn = |along, at| MatrixStep::Rotate { along, at, rotation: &rotation };
    let declined = |steps: &[MatrixStep<'_>], x: &[f32]| {
        let [guarded, exact] = WAYS.map(|by| run(&gpu, by, steps, 64, 96, x).0);
        assert_eq!(guarded, exact);
        exact == DeviceOutcome::Declined
    };
    assert!(!declined(&[turn(Axis::In, 32), turn(Axis::Out, 0)], &x));
    assert!(declined(&[turn(Axis::In, 33)], &x));
    assert!(declined(&[turn(Axis::In, usize::MAX)], &x));
    assert!(declined(&[turn(Axis::Out, 1)], &x));
    let gain = |gain, divides| MatrixStep::Gain { along: Axis::Out, gain, divides };
    assert!(!declined(&[gain(&[2.0; 64], true)], &x));
    assert!(!declined(&[gain(&[0.0; 64], false)], &x));
    assert!(declined(&[gain(&[0.0; 64], true)], &x));
    assert!(declined(&[gain(&[f32::INFINITY; 64], false)], &x));
    assert!(declined(&[gain(&[2.0; 63], false)], &x));
    assert!(declined(&[gain(&[1e38; 64], false), gain(&[1e38; 64], false)], &x));
    for bad in [f32::NAN, f32::INFINITY, 3e38] {
        let mut x = x.clone();
        x[95] = bad;
        assert!(declined(&[turn(Axis::Out, 0)], &x), "{bad}");
    }
    let src = f32_bytes(&x);
    let quantize = |rows, width, to, bytes| {
        let mut out = vec![0; bytes];
        let matrix = RotationTask { from: DType::F32, src: &src, rows, width, steps: &[], to };
        ask(&gpu, Arithmetic::HardwareF32, matrix, &mut out)
    };
    assert_eq!(quantize(64, 96, DType::Q8_0, 64 * 3 * 34), DeviceOutcome::Done);
    for (rows, width, to, bytes) in [
        (64, 96, DType::Q8_0, 64 * 3 * 34 - 1),
        (63, 96, DType::Q8_0, 63 * 3 * 34),
        (384, 16, DType::Q8_0, 64 * 3 * 34),
        (64, 96, DType::IQ4_NL, 64 * 3 * 18),
        (0, 96, DType::Q8_0, 0),
        (usize::MAX, 96, DType::Q8_0, 34),
    ] {
        assert_eq!(quantize(rows, width, to, bytes), DeviceOutcome::Declined, "{rows} {width} {to}");
    }
}

#[test]
#[ignore = "make proof"]
fn gpu_rotate_declined_by_hardware_floats_is_done_by_integers() {
    let (_, gpu) = devices().next().expect("the usual mode");
    let rotation = Rotation::new(128, Form::Full, 1).expect("a rotation");
    let steps = [MatrixStep::Rotate { along: Axis::In, at: 0, rotation: &rotation }];
    let x: Vec<f32> = generate("normal", 1, 128 * 7).iter().map(|v| v * 1e-35).collect();
    assert_eq!(run(gpu, Arithmetic::HardwareF32, &steps, 7, 128, &x).0, DeviceOutcome::Declined);
    let src = f32_bytes(&x);
    let matrix =
        RotationTask { from: DType::F32, src: &src, rows: 7, width: 128, steps: &steps, to: DType::F32 };
    let mut out = vec![0; src.len()];
    assert_eq!(pollster::block_on(offload(gpu).rotate(matrix, &mut out)), DeviceOutcome::Done);
    assert!(same(&out, &definition(&steps, 128, &x)));
}

/// How fast each way is on this device, with no step beside: `--ignored --nocapture`.
#[test]
#[ignore = "by hand: a measurement"]
fn by_hand_gpu_rotation_speed() {
    const ROWS: usize = 512;
    let gpu = pollster::block_on(WgpuDevice::open()).expect("a device");
    let name = gpu.name().to_string();
    for (len, form, along) in [
        (1024, Form::Full, Axis::In),
        (4096, Form::Full, Axis::In),
        (4096, Form::Block(128), Axis::In),
        (8192, Form::Full, Axis::In),
        (896, Form::Full, Axis::In),
        (4096, Form::Full, Axis::Out),
        (3584, Form::Full, Axis::Out),
    ] {
        let rotation = Rotation::new(len, form, 1).expect("a rotation");
        let turn = [MatrixStep::Rotate { along, at: 0, rotation: &rotation }];
        let (rows, width) = if along == Axis::In { (ROWS, len as usize) } else { (len as usize, ROWS) };
        let src = f32_bytes(&generate("normal", 1, rows * width));
        let mut out = vec![0; src.len() / 128 * 34];
        let mut rates = Vec::new();
        for (by, steps) in [
            (Arithmetic::HardwareF32, &[][..]),
            (Arithmetic::HardwareF32, &turn),
            (Arithmetic::SoftF32, &turn),
        ] {
            let matrix = RotationTask { from: DType::F32, src: &src, rows, width, steps, to: DType::Q8_0 };
            let mut times: Vec<f64> = (0..7)
                .map(|_| {
                    let start = std::time::Instant::now();
                    assert_eq!(ask(&gpu, by, matrix, &mut out), DeviceOutcome::Done);
                    start.elapsed().as_secs_f64()
                })
                .collect();
            times.sort_by(f64::total_cmp);
            rates.push((rows * width) as f64 / times[3] / 1e6);
        }
        println!(
            "{name}: {len} {form:?} {along:?}: {rates:.1?} million values a second: none, floats, integers"
        );
    }
}
