//! The engines that must agree with the vectors. An engine is a name and its way to encode and decode.

use quantoscope_core::DType;
use quantoscope_core::quant::{self, DecodeFn, EncodeFn, Encoding, Importance, Refused};

/// Something that encodes and decodes.
pub struct Engine {
    pub name: &'static str,
    pub encoder: fn(Encoding) -> Option<EncodeFn>,
    pub decoder: fn(DType) -> Option<DecodeFn>,
}

/// Every engine of this build: the scalar definition for now.
pub fn engines() -> Vec<Engine> {
    vec![Engine { name: "scalar", encoder: quant::encoder, decoder: quant::decoder }]
}

/// The encodings that have blocks.
pub const BLOCKS: [Encoding; 27] = [
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
pub fn encodings() -> Vec<Encoding> {
    let plain = [DType::F32, DType::F16, DType::BF16].map(Encoding::Type);
    plain.into_iter().chain([Encoding::F16Finite]).chain(BLOCKS).collect()
}

impl Engine {
    /// Encodes; with an importance row that has nothing to say where the type needs one.
    pub fn encode(&self, e: Encoding, x: &[f32]) -> Result<Vec<u8>, Refused> {
        let even = vec![1.0; x.len()];
        self.encode_weighted(e, x, (e.importance() == Importance::Required).then_some(&even))
    }

    /// Encodes with an importance row.
    pub fn encode_weighted(
        &self,
        e: Encoding,
        x: &[f32],
        importance: Option<&[f32]>,
    ) -> Result<Vec<u8>, Refused> {
        let mut out = vec![0; e.dtype().bytes_for(x.len() as u64).unwrap() as usize];
        (self.encoder)(e).unwrap()(x, importance, &mut out).map(|()| out)
    }

    pub fn decode(&self, d: DType, raw: &[u8], n: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; n];
        (self.decoder)(d).unwrap()(raw, &mut out);
        out
    }
}

/// The definition.
pub fn scalar() -> Engine {
    engines().remove(0)
}
