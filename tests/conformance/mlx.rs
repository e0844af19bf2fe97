//! MLX's affine mode: what `mx.quantize` made of generated inputs, refusals, and the formula of the decoder.

use crate::engines::{engines, every};
use quantoscope_core::DType;
use quantoscope_core::dtype::{MlxFloat, MlxType};
use quantoscope_core::float::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use quantoscope_core::quant::{EncodeError, Encoding};
use quantoscope_tests::generators::generate;
use quantoscope_tests::vectors::{f32_bytes, sha256};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct MlxVectors {
    provenance: BTreeMap<String, String>,
    count: usize,
    cases: Vec<MlxCase>,
}

#[derive(Deserialize)]
struct MlxCase {
    dtype: DType,
    family: String,
    seed: u64,
    input_sha256: String,
    /// The first 64 bits of the hash of the blocks, by type.
    made: BTreeMap<String, String>,
}

fn rounded(x: f32, dtype: DType) -> f32 {
    match dtype {
        DType::BF16 => bf16_to_f32(f32_to_bf16(x)),
        DType::F16 => f16_to_f32(f32_to_f16(x)),
        _ => x,
    }
}

#[test]
fn mlx_blocks_equal_those_of_mx_quantize_on_every_engine() {
    let text = include_bytes!("../vectors/mlx.json");
    let vectors: MlxVectors = serde_json::from_slice(text).expect("vectors");
    assert_eq!(vectors.provenance["library"], "mlx[cpu]");
    let mut compared = 0;
    for case in &vectors.cases {
        let x: Vec<f32> = generate(&case.family, case.seed, vectors.count)
            .into_iter()
            .map(|x| rounded(x, case.dtype))
            .collect();
        assert_eq!(sha256(&f32_bytes(&x)), case.input_sha256, "generators differ: {}", case.family);
        for (name, wanted) in &case.made {
            let e = Encoding::Type(DType::parse(name).expect("a type"));
            let made = every().encode(e, &x).unwrap_or_else(|r| panic!("{} {name}: {r:?}", case.family));
            assert_eq!(&sha256(&made)[..16], wanted, "{} as {name}", case.family);
            compared += 1;
        }
    }
    assert_eq!(compared, 33 * MlxType::named().count(), "18 types of 33 inputs");
}

#[test]
fn mlx_decoder_multiplies_code_by_scale_and_adds_bias() {
    for of in MlxType::all() {
        let dtype = DType::MLX(of);
        let e = Encoding::Type(dtype);
        let (bits, group, n) = (of.bits(), of.group() as usize, 512);
        let raw = every().encode(e, &generate("heavy", 77, n)).expect("encoded");
        let size = dtype.block_bytes() as usize;
        let field = of.float().dtype().block_bytes() as usize;
        let read = |bytes: &[u8]| match of.float() {
            MlxFloat::F32 => f32::from_le_bytes(bytes.try_into().expect("4 bytes")),
            MlxFloat::F16 => f16_to_f32(u16::from_le_bytes(bytes.try_into().expect("2 bytes"))),
            MlxFloat::Bf16 => bf16_to_f32(u16::from_le_bytes(bytes.try_into().expect("2 bytes"))),
        };
        let value = |i: usize| {
            let block = &raw[i / group * size..][..size];
            let (codes, fields) = block.split_at(size - 2 * field);
            let bit = |k: u64| (codes[k as usize / 8] >> (k % 8)) & 1;
            let first = (i % group) as u64 * bits;
            let code = (0..bits).fold(0_u32, |code, k| code | u32::from(bit(first + k)) << k);
            read(&fields[..field]) * code as f32 + read(&fields[field..])
        };
        let wanted: Vec<f32> = (0..n).map(value).collect();
        for engine in engines() {
            assert_eq!(engine.decode(dtype, &raw, n), wanted, "{} {dtype}", engine.name);
        }
    }
}

#[test]
fn mlx_encoder_refuses_what_its_fields_cannot_hold() {
    for of in MlxType::all() {
        let (e, n) = (Encoding::Type(DType::MLX(of)), of.group() as usize);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 3 * n];
            x[n + 5] = bad;
            assert_eq!(every().encode(e, &x), Err(EncodeError::NonFinite { index: n + 5 }), "{e}");
        }
        // The range of this group is infinite in binary32.
        let mut x = vec![1.0; 3 * n];
        (x[2 * n + 3], x[2 * n + 7]) = (3e38, -3.2e38);
        let index = 2 * n + 7;
        let wanted = match of.float() {
            MlxFloat::F32 => EncodeError::F32Overflow { index },
            MlxFloat::F16 => EncodeError::F16Overflow { index },
            MlxFloat::Bf16 => EncodeError::BF16Overflow { index },
        };
        assert_eq!(every().encode(e, &x), Err(wanted), "{e}");
        let large = vec![70_000.0; n];
        assert_eq!(every().encode(e, &large).is_err(), of.float() == MlxFloat::F16, "{e}");
    }
}

#[test]
fn mlx_names_are_read_back_and_the_usual_group_may_be_left_out() {
    for of in MlxType::all() {
        let dtype = DType::MLX(of);
        assert_eq!(DType::parse(&dtype.name().to_ascii_lowercase()), Ok(dtype));
        let bytes = of.group() * of.bits() / 8 + 2 * of.float().dtype().block_bytes();
        assert_eq!((dtype.block_len(), dtype.block_bytes()), (of.group(), bytes), "{dtype}");
    }
    let names: std::collections::BTreeSet<_> = MlxType::all().map(|of| DType::MLX(of).name()).collect();
    assert_eq!(names.len(), MlxType::COUNT);
    for (short, name) in [("mlx_q4", "MLX_Q4_G64"), ("MLX_Q8", "MLX_Q8_G64")] {
        assert_eq!(DType::parse(short).map(DType::name), Ok(name));
    }
    for wrong in ["mlx_q7", "mlx_q4_g16", "mlx_q1_g64", "mlx_", "mlx_q4_g64_g64"] {
        assert!(DType::parse(wrong).is_err(), "{wrong}");
    }
}
