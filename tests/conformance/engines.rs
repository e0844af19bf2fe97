//! The engines of this machine: every SIMD level, with helpers for the other tests.

use quantoscope_accel::SimdLevel;
use quantoscope_core::DType;
use quantoscope_core::kernels::Kernels;
use quantoscope_core::quant::{EncodeError, Encoding, ImportanceUse};

/// Something that encodes and decodes.
#[derive(Clone, Copy)]
pub(crate) struct NamedEngine {
    pub name: &'static str,
    pub kernels: &'static dyn Kernels,
}

/// Every engine of this machine, the definition first.
pub(crate) fn engines() -> Vec<NamedEngine> {
    let engine = |l: SimdLevel| NamedEngine { name: l.name(), kernels: l.kernels() };
    SimdLevel::available().into_iter().map(engine).collect()
}

/// The encodings that have blocks.
pub(crate) const BLOCKS: [Encoding; 27] = [
    Encoding::Type(DType::Q8_0),
    Encoding::Type(DType::Q6_K),
    Encoding::Type(DType::Q5_K),
    Encoding::Type(DType::Q4_K),
    Encoding::Type(DType::Q3_K),
    Encoding::Type(DType::Q2_K),
    Encoding::Type(DType::Q5_1),
    Encoding::Type(DType::Q5_0),
    Encoding::Type(DType::Q4_1),
    Encoding::Type(DType::Q4_0),
    Encoding::Type(DType::IQ4_NL),
    Encoding::Type(DType::IQ4_XS),
    Encoding::Type(DType::IQ3_S),
    Encoding::Type(DType::IQ3_XXS),
    Encoding::Type(DType::IQ2_S),
    Encoding::Type(DType::IQ2_XS),
    Encoding::Type(DType::IQ2_XXS),
    Encoding::Type(DType::IQ1_M),
    Encoding::Type(DType::IQ1_S),
    Encoding::Type(DType::MXFP4),
    Encoding::Type(DType::NVFP4),
    Encoding::Type(DType::Q2_0),
    Encoding::Type(DType::TQ2_0),
    Encoding::Type(DType::TQ1_0),
    Encoding::Type(DType::Q1_0),
    Encoding::LatticeAsym,
    Encoding::LatticeSym,
];

/// All encodings that we write.
pub(crate) fn encodings() -> Vec<Encoding> {
    let plain = [DType::F32, DType::F16, DType::BF16].map(Encoding::Type);
    plain.into_iter().chain([Encoding::F16Finite]).chain(BLOCKS).collect()
}

impl NamedEngine {
    /// Encodes; with weights that have nothing to say where the type needs some.
    pub(crate) fn encode(&self, e: Encoding, x: &[f32]) -> Result<Vec<u8>, EncodeError> {
        if e.importance() == ImportanceUse::Required {
            return self.encode_weighted(e, x, &vec![1.0; x.len()]);
        }
        let mut out = vec![0; e.dtype().bytes_for(x.len() as u64).unwrap() as usize];
        self.kernels.encode(e, x, None, &mut out).map(|()| out)
    }

    /// Encodes rows of as many values as there are weights.
    pub(crate) fn encode_weighted(
        &self,
        e: Encoding,
        x: &[f32],
        importance: &[f32],
    ) -> Result<Vec<u8>, EncodeError> {
        let mut out = vec![0; e.dtype().bytes_for(x.len() as u64).unwrap() as usize];
        self.kernels.encode(e, x, Some(importance), &mut out).map(|()| out)
    }

    pub(crate) fn recode(
        &self,
        from: DType,
        raw: &[u8],
        to: Encoding,
        n: usize,
    ) -> Result<Vec<u8>, EncodeError> {
        let (mut values, mut out) =
            (vec![f32::NAN; n], vec![0; to.dtype().bytes_for(n as u64).unwrap() as usize]);
        self.kernels.recode(from, raw, to, &mut values, &mut out).map(|()| out)
    }

    pub(crate) fn decode(&self, d: DType, raw: &[u8], n: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; n];
        // What binary32 cannot hold is refused, and infinite in what is left.
        let done = self.kernels.decode(d, raw, &mut out);
        assert!(done.is_ok() || d == DType::F64, "{done:?}");
        out
    }
}

/// All engines at once: what one gives, all must give.
pub(crate) struct Every(Vec<NamedEngine>);

pub(crate) fn every() -> Every {
    Every(engines())
}

impl Every {
    /// What the definition gives, once all the others have given it too, refusals included.
    pub(crate) fn encode(&self, e: Encoding, x: &[f32]) -> Result<Vec<u8>, EncodeError> {
        let want = self.0[0].encode(e, x);
        for engine in &self.0[1..] {
            assert!(engine.encode(e, x) == want, "{} {e} of {} values", engine.name, x.len());
        }
        want
    }

    /// The same of rows with weights.
    pub(crate) fn encode_weighted(
        &self,
        e: Encoding,
        x: &[f32],
        weights: &[f32],
    ) -> Result<Vec<u8>, EncodeError> {
        let want = self.0[0].encode_weighted(e, x, weights);
        for engine in &self.0[1..] {
            assert!(
                engine.encode_weighted(e, x, weights) == want,
                "{} {e} of {} values",
                engine.name,
                x.len()
            );
        }
        want
    }

    pub(crate) fn decode(&self, d: DType, raw: &[u8], n: usize) -> Vec<f32> {
        let want = self.0[0].decode(d, raw, n);
        for engine in &self.0[1..] {
            let got = engine.decode(d, raw, n);
            // Which of two NaNs a product or sum hands on is nobody's promise; what a plain type widens to
            // is.
            let same = |(a, b): (&f32, &f32)| {
                a.to_bits() == b.to_bits() || d.block_len() > 1 && a.is_nan() && b.is_nan()
            };
            let at = want.iter().zip(&got).position(|pair| !same(pair));
            assert_eq!(at, None, "{} {d} of {n} values", engine.name);
        }
        want
    }
}

#[test]
fn engine_kernels_match_the_name() {
    let engines = engines();
    assert_eq!(engines[0].name, "scalar");
    for engine in &engines {
        assert_eq!(engine.name, engine.kernels.name());
    }
    let named = |name| pollster::block_on(quantoscope_accel::Engine::open(name));
    let auto = named("auto").unwrap();
    assert_eq!(Some(auto.name()), engines.last().map(|e| e.name));
    for level in SimdLevel::ALL {
        let found = named(level.name());
        let here = SimdLevel::available().contains(&level);
        assert_eq!(found.is_ok(), here, "{level:?}");
        assert_eq!(level.kernels().name(), if here { level.name() } else { "scalar" });
    }
}
