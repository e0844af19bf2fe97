//! The levels of the processor: which there are, which this machine has, and their kernels. Knows no job.

mod decode;
mod groups;
mod measure;
mod rotation;
mod search;
mod single_blocks;
mod small_blocks;
mod super_blocks;
mod vector;

use fearless_simd::Simd;
use quantoscope_core::kernels::{Kernels, Scalar};
use vector::Vector;

/// A level of CPU support. A value, so that tests can iterate over levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimdLevel {
    /// Plain loops, on every machine: the definition.
    Scalar,
    /// WebAssembly's 128-bit vectors, where the build has them.
    Simd128,
    /// 128-bit vectors of 64-bit ARM.
    Neon,
    /// 256-bit vectors of x86 (x86-64-v3: with FMA, F16C and BMI).
    Avx2,
    /// 512-bit vectors of x86, as Ice Lake and Zen 4 have them.
    Avx512,
}

impl SimdLevel {
    /// All levels, the slowest first.
    pub const ALL: [SimdLevel; 5] =
        [SimdLevel::Scalar, SimdLevel::Simd128, SimdLevel::Neon, SimdLevel::Avx2, SimdLevel::Avx512];

    /// Every level that this machine supports, the slowest first.
    pub fn available() -> Vec<SimdLevel> {
        SimdLevel::ALL.into_iter().filter(|l| l.found().is_some()).collect()
    }

    /// The name for `--engine` and reports.
    pub const fn name(self) -> &'static str {
        match self {
            SimdLevel::Scalar => "scalar",
            SimdLevel::Simd128 => "simd128",
            SimdLevel::Neon => "neon",
            SimdLevel::Avx2 => "avx2",
            SimdLevel::Avx512 => "avx512",
        }
    }

    /// Its kernels; those of [`SimdLevel::Scalar`], which say so by their name, where the machine lacks the level.
    pub fn kernels(self) -> &'static dyn Kernels {
        self.found().unwrap_or(&Scalar)
    }

    fn found(self) -> Option<&'static dyn Kernels> {
        let machine = fearless_simd::Level::new();
        match self {
            SimdLevel::Scalar => Some(&Scalar),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            SimdLevel::Simd128 => kernels(machine.as_wasm_simd128()),
            #[cfg(target_arch = "aarch64")]
            SimdLevel::Neon => kernels(machine.as_neon()),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => kernels(machine.as_avx2()),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 => kernels(machine.as_avx512()),
            _ => None,
        }
    }
}

/// The kernels of a level whose token, the proof that the machine has it, is at hand.
fn kernels<S: Simd>(token: Option<S>) -> Option<&'static dyn Kernels> {
    // Of size zero, so nothing is allocated.
    const { assert!(size_of::<Vector<S>>() == 0, "a token is nothing but a proof") };
    token.map(|simd| Box::leak(Box::new(Vector::new(simd))) as &dyn Kernels)
}

/// The level that a token proves.
fn level_of<S: Simd>(simd: S) -> SimdLevel {
    match simd.level() {
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        fearless_simd::Level::WasmSimd128(_) => SimdLevel::Simd128,
        #[cfg(target_arch = "aarch64")]
        fearless_simd::Level::Neon(_) => SimdLevel::Neon,
        #[cfg(target_arch = "x86_64")]
        fearless_simd::Level::Avx2(_) => SimdLevel::Avx2,
        #[cfg(target_arch = "x86_64")]
        fearless_simd::Level::Avx512(_) => SimdLevel::Avx512,
        _ => SimdLevel::Scalar,
    }
}
