//! SIMD levels of the CPU: the list, detection, and their kernels. Knows no job.

mod decode;
mod groups;
mod measure;
mod products;
mod rotation;
mod search;
mod single_blocks;
mod small_blocks;
mod super_blocks;
mod vector;

use fearless_simd::Simd;
use quantoscope_core::kernels::{Kernels, Scalar};
use vector::Vector;

/// A SIMD level. A value, so that tests can iterate over levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimdLevel {
    /// Scalar code of `quantoscope-core`, the CPU reference. Available on every machine.
    Scalar,
    /// 128-bit vectors of WebAssembly, if the build enables them.
    Simd128,
    /// 128-bit vectors of 64-bit ARM.
    Neon,
    /// 256-bit vectors of x86 (x86-64-v3: with FMA, F16C and BMI).
    Avx2,
    /// 512-bit vectors of x86 (the AVX-512 subset of Ice Lake and Zen 4).
    Avx512,
}

impl SimdLevel {
    /// All levels, slowest first.
    pub const ALL: [SimdLevel; 5] =
        [SimdLevel::Scalar, SimdLevel::Simd128, SimdLevel::Neon, SimdLevel::Avx2, SimdLevel::Avx512];

    /// Levels that this machine supports, slowest first.
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

    /// Kernels of the level; those of [`SimdLevel::Scalar`] (see [`Kernels::name`]) if the machine does not
    /// support it.
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

/// Kernels of the level of a token. A token proves that the machine supports its level.
fn kernels<S: Simd>(token: Option<S>) -> Option<&'static dyn Kernels> {
    // Of size zero, so nothing is allocated.
    const { assert!(size_of::<Vector<S>>() == 0, "a token is nothing but a proof") };
    token.map(|simd| Box::leak(Box::new(Vector::new(simd))) as &dyn Kernels)
}

/// The level of a token.
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
