//! Speed of a kernel on the CPU and on a device, in weights per second. Reads no clock; the caller passes
//! one.

use super::{DeviceOutcome, Kernel, KernelTask, Offload};
use quantoscope_core::DType;
use quantoscope_core::float::{f32_to_bf16, f32_to_f16};
use quantoscope_core::kernels::Kernels;
use quantoscope_core::quant::{EncodeError, Encoding};

/// Seconds that a measurement lasts at least.
const MIN_SECONDS: f64 = 0.03;
/// Values of the first measurement.
const FIRST_VALUES: usize = 1 << 16;
/// Values per row.
const WIDTH: usize = 4096;

/// Input and output of a kernel, of nearly normal weights.
struct BenchmarkInput {
    src: Vec<u8>,
    weights: Vec<f32>,
    out: Vec<u8>,
}

impl BenchmarkInput {
    fn new(kernel: Kernel, values: usize, cpu: &dyn Kernels) -> Result<BenchmarkInput, EncodeError> {
        let x: Vec<f32> = (0..values as u64).map(weight).collect();
        let weights =
            if kernel.is_weighted() { (0..WIDTH as u64).map(|i| weight(!i).abs()).collect() } else { vec![] };
        let blocks = values / kernel.block().block_len() as usize;
        let mut src = vec![0; kernel.bytes_in(blocks)];
        match kernel {
            Kernel::Quantize { from: DType::BF16, .. } => {
                src = x.iter().flat_map(|x| f32_to_bf16(*x).to_le_bytes()).collect();
            }
            Kernel::Quantize { from: DType::F16, .. } => {
                src = x.iter().flat_map(|x| f32_to_f16(*x).to_le_bytes()).collect();
            }
            Kernel::Quantize { .. } => src = x.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Kernel::Dequantize(from) => cpu.encode(Encoding::Type(from), &x, None, &mut src)?,
            Kernel::Rotate(_) => return Err(EncodeError::NoCodec),
        }
        Ok(BenchmarkInput { src, weights, out: vec![0; kernel.bytes_out(blocks)] })
    }

    fn task(&self, kernel: Kernel) -> KernelTask<'_> {
        KernelTask {
            from: kernel.from(),
            to: kernel.to(),
            width: WIDTH,
            src: &self.src,
            weights: &self.weights,
        }
    }
}

/// Pseudorandom weight: nearly normal, standard deviation 0.02.
fn weight(at: u64) -> f32 {
    let mut z = at.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (0..4).map(|k| (z >> (16 * k) & 0xFFFF) as f32 - 32767.5).sum::<f32>() * 5e-7
}

/// Weights per second of one CPU thread; `now` is a clock in seconds. `None` if the CPU has no such kernel.
pub fn of_processor(cpu: &dyn Kernels, kernel: Kernel, now: &dyn Fn() -> f64) -> Option<f64> {
    let mut sample = BenchmarkInput::new(kernel, FIRST_VALUES, cpu).ok()?;
    let mut values = vec![0.0; FIRST_VALUES];
    let mut done = 0;
    let start = now();
    while now() - start < MIN_SECONDS {
        let BenchmarkInput { src, weights, out } = &mut sample;
        match kernel {
            Kernel::Dequantize(from) => cpu.decode(from, src, &mut values),
            Kernel::Rotate(_) => return None,
            Kernel::Quantize { from, to, weighted: false } => {
                cpu.recode(from, src, Encoding::Type(to), &mut values, out)
            }
            Kernel::Quantize { from, to, weighted: true } => {
                let row = to.bytes_for(WIDTH as u64).unwrap_or(1) as usize;
                let mut rows = values.chunks(WIDTH).zip(out.chunks_mut(row));
                rows.try_for_each(|(x, out)| cpu.encode(Encoding::Type(to), x, Some(weights), out))
                    .and_then(|()| cpu.decode(from, src, &mut values))
            }
        }
        .ok()?;
        done += FIRST_VALUES;
    }
    Some(done as f64 / (now() - start))
}

/// Weights per second of a device from and to host memory, at its preferred batch. `None` if the kernel did
/// not pass the probe.
pub async fn of_device(offload: &Offload, kernel: Kernel, now: &dyn Fn() -> f64) -> Option<f64> {
    measured(offload, kernel, now, true).await
}

/// Weights per second of the copies to the device and back alone: the upper bound of [`of_device`].
pub async fn of_copies(offload: &Offload, kernel: Kernel, now: &dyn Fn() -> f64) -> Option<f64> {
    measured(offload, kernel, now, false).await
}

/// Measures with four times as many values until a run is long enough or the preferred batch is reached.
async fn measured(offload: &Offload, kernel: Kernel, now: &dyn Fn() -> f64, computes: bool) -> Option<f64> {
    let mut values = FIRST_VALUES;
    loop {
        let mut sample = BenchmarkInput::new(kernel, values, offload.cpu()).ok()?;
        let mut out = std::mem::take(&mut sample.out);
        let mut seconds = 0.0;
        // The first run pays for compilation and allocation; the second is measured.
        for _ in 0..2 {
            let start = now();
            let outcome = match computes {
                true => offload.make(sample.task(kernel), &mut out).await,
                false => offload
                    .device()
                    .copy_roundtrip(&sample.src, &mut out)
                    .await
                    .unwrap_or(DeviceOutcome::Declined),
            };
            if outcome != DeviceOutcome::Done {
                return None;
            }
            seconds = now() - start;
        }
        if seconds >= MIN_SECONDS || values >= offload.device().preferred_batch() {
            return Some(values as f64 / seconds.max(1e-9));
        }
        values *= 4;
    }
}
