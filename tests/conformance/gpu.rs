//! WGSL block kernels in every float mode of a software device. A missing device is a failure;
//! `tests/setup.sh gpu` installs a software device.

use crate::engines::NamedEngine;
use crate::vectors::check_file;
use quantoscope_accel::device::{Device, DeviceOutcome, KernelTask, ProbeVerdict, probe_kernel};
use quantoscope_accel::gpu::{WgpuDevice, float_modes};
use quantoscope_core::DType;
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::quant::{EncodeError, Encoding, decoder, encoder};
use quantoscope_tests::generators::{generate, word};
use quantoscope_tests::vectors::{f32_bytes, load};
use std::sync::LazyLock;

const BLOCKS: [DType; 5] = [DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1];
const SOURCES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// The usual mode, and on x86-64 the others.
static DEVICES: LazyLock<Vec<(String, WgpuDevice)>> = LazyLock::new(|| {
    #[cfg(target_arch = "x86_64")]
    let modes = float_modes::FloatMode::ALL.into_iter().map(|mode| {
        let gpu = pollster::block_on(float_modes::open(mode)).expect("a device");
        (format!("{} {mode:?}", gpu.name()), gpu)
    });
    #[cfg(not(target_arch = "x86_64"))]
    let modes = [pollster::block_on(WgpuDevice::open()).expect("a device")]
        .into_iter()
        .map(|gpu| (gpu.name().into(), gpu));
    modes.collect()
});

/// A device in each mode.
pub(crate) fn devices() -> impl Iterator<Item = (&'static str, &'static WgpuDevice)> {
    DEVICES.iter().map(|(name, gpu)| (&**name, gpu))
}

/// Has a device do what has no weights.
pub(crate) fn ask(device: &dyn Device, from: DType, src: &[u8], to: DType, out: &mut [u8]) -> DeviceOutcome {
    pollster::block_on(device.run(KernelTask { from, to, width: 32, src, weights: &[] }, out))
        .expect("no failure")
}

/// What a device declines must be what the definition refuses, or what is no number.
struct DeviceCodec(&'static WgpuDevice);

impl Kernels for DeviceCodec {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn decode(&self, dtype: DType, src: &[u8], out: &mut [f32]) -> Result<(), EncodeError> {
        let mut raw = vec![0; out.len() * 4];
        let outcome = ask(self.0, dtype, src, DType::F32, &mut raw);
        if outcome == DeviceOutcome::Declined {
            decoder(dtype).ok_or(EncodeError::NoCodec)?(src, out);
            assert!(out.iter().any(|x| !x.is_finite()), "{dtype} is declined without need");
        } else {
            for (x, bytes) in out.iter_mut().zip(raw.as_chunks().0) {
                *x = f32::from_le_bytes(*bytes);
            }
        }
        Ok(())
    }

    fn encode(
        &self,
        e: Encoding,
        x: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        let definition = encoder(e).ok_or(EncodeError::NoCodec)?;
        if importance.is_some() {
            return definition(x, importance, out);
        }
        if ask(self.0, DType::F32, &f32_bytes(x), e.dtype(), out) == DeviceOutcome::Declined {
            let refused = definition(x, None, out);
            assert!(refused.is_err(), "{e} is declined without need");
            return refused;
        }
        Ok(())
    }

    fn transcode(&self, _: DType, _: DType, _: &[u8], _: &mut [u8]) -> Result<(), EncodeError> {
        Err(EncodeError::NoCodec)
    }
}

#[test]
#[ignore = "make proof"]
fn gpu_kernels_in_every_float_mode_pass_the_probe() {
    for (name, gpu) in devices() {
        let small = || gpu.kernels().into_iter().filter(|k| k.block().block_len() == 32);
        for kernel in small() {
            let verdict = pollster::block_on(probe_kernel(gpu, kernel)).expect("no failure");
            assert_eq!(verdict, ProbeVerdict::Exact, "{name}: {kernel}");
        }
        assert_eq!(small().count(), BLOCKS.len() * (SOURCES.len() + 1));
    }
}

#[test]
#[ignore = "make proof"]
fn gpu_vectors_in_every_float_mode_match() {
    for (_, gpu) in devices() {
        let engine = NamedEngine { name: "gpu", kernels: Box::leak(Box::new(DeviceCodec(gpu))) };
        for file in ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1"] {
            check_file(&engine, file, &load(file));
        }
    }
}

/// What a type stores of `blocks` blocks of all kinds, without those that `to` refuses; and what it makes of
/// them.
pub(crate) fn stored(from: DType, to: DType, blocks: usize) -> (Vec<u8>, Vec<u8>) {
    const FAMILIES: [&str; 12] = [
        "normal",
        "heavy",
        "shifted",
        "constant",
        "zeros",
        "sparse",
        "ties",
        "magnitudes",
        "scaled",
        "tiny",
        "huge",
        "patterns",
    ];
    let (size, mut values) = (from.block_bytes() as usize * 32, [0.0_f32; 32]);
    let (mut input, mut want) = (Vec::new(), Vec::new());
    let mut block = vec![0; to.block_bytes() as usize];
    for (n, family) in FAMILIES.iter().enumerate() {
        let seed = word(from.block_bytes(), to.block_bytes() * 16 + n as u64);
        let x = generate(family, seed, blocks / FAMILIES.len() * 32);
        // Half the bits of a value are a value of 16 bits; not every one is a number.
        let half = |x: &f32| if n % 2 == 0 { (x.to_bits() >> 16) as u16 } else { x.to_bits() as u16 };
        let raw = match from {
            DType::F32 => f32_bytes(&x),
            _ => x.iter().flat_map(|x| half(x).to_le_bytes()).collect(),
        };
        for raw in raw.chunks(size) {
            Scalar.decode(from, raw, &mut values).unwrap();
            if Scalar.encode(Encoding::Type(to), &values, None, &mut block).is_ok() {
                input.extend(raw);
                want.extend(&block);
            }
        }
    }
    (input, want)
}

/// Fresh blocks for each type in each mode: a hundred thousand, or as many as `QUANTOSCOPE_BLOCKS` says.
#[test]
#[ignore = "make proof"]
fn gpu_many_blocks_in_every_float_mode_equal_the_reference() {
    let asked = std::env::var("QUANTOSCOPE_BLOCKS").ok();
    let blocks: usize = asked.map_or(100_000, |n| n.parse().expect("a number of blocks"));
    let devices: Vec<_> = devices().map(|(name, gpu)| (name, DeviceCodec(gpu))).collect();
    for to in BLOCKS {
        for from in SOURCES {
            let (input, want) = stored(from, to, blocks / SOURCES.len());
            let count = want.len() / to.block_bytes() as usize;
            assert!(count > blocks / 3 / SOURCES.len(), "{count} blocks of {from} are left for {to}");
            let mut values = vec![0.0; count * 32];
            Scalar.decode(to, &want, &mut values).unwrap();
            for (name, device) in &devices {
                let mut got = vec![0; want.len()];
                let outcome = ask(device.0, from, &input, to, &mut got);
                assert_eq!(outcome, DeviceOutcome::Done, "{name}: {from} to {to}");
                let differing =
                    got.chunks(to.block_bytes() as usize).zip(want.chunks(to.block_bytes() as usize));
                assert_eq!(differing.filter(|(a, b)| a != b).count(), 0, "{name}: {from} to {to}");
                let mut raw = vec![0; count * 128];
                let outcome = ask(device.0, to, &want, DType::F32, &mut raw);
                assert_eq!(outcome, DeviceOutcome::Done, "{name}: {to}");
                assert!(raw == f32_bytes(&values), "{name}: {to} decoded");
            }
        }
    }
}

#[test]
fn gpu_mismatched_lengths_are_declined() {
    let gpu = pollster::block_on(WgpuDevice::open()).expect("a device");
    let quantize = |input: usize, output: usize| {
        ask(&gpu, DType::F32, &vec![0; input], DType::Q8_0, &mut vec![0; output])
    };
    assert_eq!(quantize(128 * 3, 34 * 3), DeviceOutcome::Done);
    assert_eq!(quantize(0, 0), DeviceOutcome::Done);
    for (input, output) in [(128, 33), (128, 68), (127, 34), (0, 34), (130, 34)] {
        assert_eq!(quantize(input, output), DeviceOutcome::Declined, "{input} {output}");
    }
    assert_eq!(ask(&gpu, DType::F32, &[0; 128], DType::IQ4_NL, &mut [0; 18]), DeviceOutcome::Declined);
}

/// More than a submission takes, with something to refuse at the very end.
#[test]
fn gpu_long_inputs_equal_the_reference() {
    let gpu = pollster::block_on(WgpuDevice::open()).expect("a device");
    let n = (1 << 22) + 96;
    let mut x = generate("normal", 7, n);
    let mut want = vec![0; n / 32 * 18];
    Scalar.encode(Encoding::Type(DType::Q4_0), &x, None, &mut want).unwrap();
    let mut got = vec![0; want.len()];
    let outcome = ask(&gpu, DType::F32, &f32_bytes(&x), DType::Q4_0, &mut got);
    assert!(outcome == DeviceOutcome::Done && got == want);
    x[n - 1] = f32::NAN;
    let outcome = ask(&gpu, DType::F32, &f32_bytes(&x), DType::Q4_0, &mut got);
    assert_eq!(outcome, DeviceOutcome::Declined);
}
