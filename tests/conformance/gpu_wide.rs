//! WGSL super-block kernels. They rely on rounding to nearest: in other float modes the probe must refuse
//! them, and where it does not, every byte must equal the CPU reference.

use crate::engines::NamedEngine;
use crate::gpu::devices;
use crate::vectors::check_file;
use quantoscope_accel::device::{Device, DeviceOutcome, Kernel, KernelTask, ProbeVerdict, probe_kernel};
use quantoscope_accel::gpu::WgpuDevice;
use quantoscope_core::DType;
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::quant::{EncodeError, Encoding};
use quantoscope_tests::generators::{generate, importance, word};
use quantoscope_tests::vectors::{f32_bytes, load};
use std::sync::atomic::{AtomicUsize, Ordering};

const BLOCKS: [DType; 5] = [DType::Q2_K, DType::Q3_K, DType::Q4_K, DType::Q5_K, DType::Q6_K];
const SOURCES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// What a search may be asked for: a mode in which the probe lets it.
fn is_exact(gpu: &WgpuDevice, kernel: Kernel) -> bool {
    pollster::block_on(probe_kernel(gpu, kernel)).expect("no failure") == ProbeVerdict::Exact
}

#[test]
#[ignore = "make proof"]
fn gpu_searches_in_every_float_mode_are_exact_or_refused() {
    for (name, gpu) in devices() {
        let wide = gpu.kernels().into_iter().filter(|k| k.block().block_len() == 256);
        let (searches, decoders): (Vec<_>, Vec<_>) = wide.partition(|k| matches!(k, Kernel::Quantize { .. }));
        assert_eq!((searches.len(), decoders.len()), (BLOCKS.len() * SOURCES.len() * 2, BLOCKS.len()));
        for kernel in decoders {
            assert!(is_exact(gpu, kernel), "{name}: {kernel}");
        }
        let to_nearest = !gpu.is_software() || name.ends_with("Default") || name.ends_with("Flushing");
        for kernel in searches {
            assert_eq!(is_exact(gpu, kernel), to_nearest, "{name}: {kernel}");
        }
    }
}

/// A device in whose stead the definition answers where it declines; counts what it does.
pub(crate) struct WideDeviceCodec {
    gpu: &'static dyn Device,
    made: &'static AtomicUsize,
    declined: &'static AtomicUsize,
}

impl WideDeviceCodec {
    pub(crate) fn new(gpu: &'static dyn Device) -> &'static WideDeviceCodec {
        let [made, declined] = [(); 2].map(|()| &*Box::leak(Box::new(AtomicUsize::new(0))));
        Box::leak(Box::new(WideDeviceCodec { gpu, made, declined }))
    }

    /// How many tasks it made, and how many it declined.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.made.load(Ordering::Relaxed), self.declined.load(Ordering::Relaxed))
    }

    fn ask(&self, task: KernelTask<'_>, out: &mut [u8]) -> DeviceOutcome {
        let outcome = pollster::block_on(self.gpu.run(task, out)).expect("no failure");
        let count = if outcome == DeviceOutcome::Done { self.made } else { self.declined };
        count.fetch_add(1, Ordering::Relaxed);
        outcome
    }
}

impl Kernels for WideDeviceCodec {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn decode(&self, dtype: DType, src: &[u8], out: &mut [f32]) -> Result<(), EncodeError> {
        let mut raw = vec![0; out.len() * 4];
        let task = KernelTask { from: dtype, to: DType::F32, width: 256, src, weights: &[] };
        if self.ask(task, &mut raw) == DeviceOutcome::Declined {
            Scalar.decode(dtype, src, out)?;
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
        let (weights, src) = (importance.unwrap_or(&[]), f32_bytes(x));
        let width = if weights.is_empty() { 256 } else { weights.len() };
        let task = KernelTask { from: DType::F32, to: e.dtype(), width, src: &src, weights };
        match self.ask(task, out) {
            DeviceOutcome::Done => Ok(()),
            DeviceOutcome::Declined => Scalar.encode(e, x, importance, out),
        }
    }

    fn transcode(&self, _: DType, _: DType, _: &[u8], _: &mut [u8]) -> Result<(), EncodeError> {
        Err(EncodeError::NoCodec)
    }
}

#[test]
#[ignore = "make proof"]
fn gpu_super_block_vectors_of_exact_searches_match() {
    let mut modes = 0;
    for (name, gpu) in devices() {
        if !is_exact(gpu, Kernel::Quantize { from: DType::F32, to: DType::Q4_K, weighted: false }) {
            continue;
        }
        modes += 1;
        let kernels = WideDeviceCodec::new(gpu);
        for file in ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k"] {
            check_file(&NamedEngine { name: "gpu", kernels }, file, &load(file));
        }
        let (made, declined) = kernels.counts();
        println!("{name}: {made} made, {declined} declined");
        // Four families of fourteen are at the ends of binary32.
        assert!(made > declined, "{name}: {made} made, {declined} declined");
    }
    assert!(modes > 0);
}

/// Families of values as weights have them: these no search may decline.
pub(crate) const USUAL: [&str; 6] = ["normal", "shifted", "constant", "zeros", "bf16", "f16"];
/// Families of which it may decline some.
pub(crate) const UNUSUAL: [&str; 6] = ["heavy", "sparse", "ties", "magnitudes", "scaled", "tiny"];

/// What a type stores of the values of a family.
fn stored(from: DType, family: &str, seed: u64, n: usize) -> Vec<u8> {
    let x = generate(family, seed, n);
    let mut raw = vec![0; n * from.block_bytes() as usize];
    Scalar.encode(Encoding::Type(from), &x, None, &mut raw).expect("these are small enough");
    raw
}

/// Fresh super-blocks in each mode: some thousand, or as many as `QUANTOSCOPE_BLOCKS` says.
fn many_super_blocks(to: DType) {
    let asked = std::env::var("QUANTOSCOPE_BLOCKS").ok();
    let blocks: usize = asked.map_or(1000, |n| n.parse().expect("a number of blocks"));
    let kernels: Vec<Kernel> = SOURCES
        .into_iter()
        .flat_map(|from| [false, true].map(|weighted| Kernel::Quantize { from, to, weighted }))
        .collect();
    let families = USUAL.len() + UNUSUAL.len();
    let each = (blocks / (BLOCKS.len() * kernels.len() * families)).next_multiple_of(4).max(4);
    for (kernel, seed) in kernels.into_iter().zip(1..) {
        let exact = devices().filter(|(_, gpu)| is_exact(gpu, kernel));
        let exact: Vec<(&str, &dyn Device)> = exact.map(|(name, gpu)| (name, gpu as &dyn Device)).collect();
        assert!(!exact.is_empty(), "{kernel} is refused in every mode");
        for (n, family) in USUAL.iter().chain(&UNUSUAL).enumerate() {
            check_on(&exact, kernel, family, (word(seed, n as u64), each, n < USUAL.len()));
        }
    }
}

#[test]
#[ignore = "make proof"]
fn gpu_many_super_blocks_q2_k_equal_the_reference() {
    many_super_blocks(DType::Q2_K);
}

#[test]
#[ignore = "make proof"]
fn gpu_many_super_blocks_q3_k_equal_the_reference() {
    many_super_blocks(DType::Q3_K);
}

#[test]
#[ignore = "make proof"]
fn gpu_many_super_blocks_q4_k_equal_the_reference() {
    many_super_blocks(DType::Q4_K);
}

#[test]
#[ignore = "make proof"]
fn gpu_many_super_blocks_q5_k_equal_the_reference() {
    many_super_blocks(DType::Q5_K);
}

#[test]
#[ignore = "make proof"]
fn gpu_many_super_blocks_q6_k_equal_the_reference() {
    many_super_blocks(DType::Q6_K);
}

/// Fresh super-blocks through devices that are exact.
pub(crate) fn check_on(
    devices: &[(&str, &dyn Device)],
    kernel: Kernel,
    family: &str,
    (seed, blocks, usual): (u64, usize, bool),
) {
    let (from, to) = (kernel.from(), kernel.to());
    let n = blocks * 256;
    let src = stored(from, family, seed, n);
    let weights = if kernel.is_weighted() { importance(seed, 1024) } else { Vec::new() };
    let size = to.block_bytes() as usize;
    let (mut x, mut want) = (vec![0.0; n], vec![0; blocks * size]);
    Scalar.decode(from, &src, &mut x).expect("stored values");
    let given = kernel.is_weighted().then_some(&*weights);
    Scalar.encode(Encoding::Type(to), &x, given, &mut want).expect("these are small enough");
    // Rows of four super-blocks with weights, one without: whoever declines one declines no other.
    let row = if kernel.is_weighted() { 4 } else { 1 };
    let mut declined = 0;
    for (name, gpu) in devices {
        let mut got = vec![0; want.len()];
        let task = |src| KernelTask { from, to, width: 256 * row, src, weights: &weights };
        if pollster::block_on(gpu.run(task(&src), &mut got)).expect("no failure") == DeviceOutcome::Declined {
            assert!(!usual || kernel.is_weighted(), "{name}: {kernel}, {family}");
            let rows = src.chunks(row * 256 * from.block_bytes() as usize).zip(got.chunks_mut(row * size));
            for ((src, got), want) in rows.zip(want.chunks(row * size)) {
                if pollster::block_on(gpu.run(task(src), got)).expect("no failure") == DeviceOutcome::Declined
                {
                    got.copy_from_slice(want);
                    declined += row;
                }
            }
        }
        let differing = got.chunks(size).zip(want.chunks(size)).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 0, "{name}: {kernel}, {family}");
    }
    println!("{kernel}, {family}: {declined} declined of {blocks}, twice");
}
