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
use quantoscope_core::kernels::Kernels;
#[cfg(any(not(target_arch = "wasm32"), not(target_feature = "simd128"), feature = "scalar"))]
use quantoscope_core::kernels::Scalar;
use vector::Vector;

/// A SIMD level. A value, so that tests can iterate over levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimdLevel {
    /// Scalar code of `quantoscope-core`, the CPU reference. Available on every machine, except in WebAssembly
    /// with vectors: there in builds with the feature `scalar`.
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

    /// Kernels of the level; those of the lowest level (see [`Kernels::name`]) if the machine does not support
    /// it.
    pub fn kernels(self) -> &'static dyn Kernels {
        self.found().unwrap_or_else(|| lowest().1)
    }

    fn found(self) -> Option<&'static dyn Kernels> {
        let machine = fearless_simd::Level::new();
        match self {
            level if level == lowest().0 => Some(lowest().1),
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

/// The lowest level of this build, and its kernels.
#[cfg(any(not(target_arch = "wasm32"), not(target_feature = "simd128"), feature = "scalar"))]
fn lowest() -> (SimdLevel, &'static dyn Kernels) {
    (SimdLevel::Scalar, &Scalar)
}

/// The lowest level of this build, and its kernels: that of the target. Links no scalar kernels, which would
/// never run.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128", not(feature = "scalar")))]
fn lowest() -> (SimdLevel, &'static dyn Kernels) {
    match fearless_simd::Level::new().as_wasm_simd128() {
        Some(token) => (SimdLevel::Simd128, leaked(token)),
        None => unreachable!("the target has vectors"),
    }
}

/// Kernels of the level of a token. A token proves that the machine supports its level.
fn kernels<S: Simd>(token: Option<S>) -> Option<&'static dyn Kernels> {
    token.map(leaked)
}

fn leaked<S: Simd>(token: S) -> &'static dyn Kernels {
    // Of size zero, so nothing is allocated.
    const { assert!(size_of::<Vector<S>>() == 0, "a token is nothing but a proof") };
    Box::leak(Box::new(Vector::new(token)))
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
