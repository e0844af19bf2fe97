//! Errors of encoders and the elements that they name; partial lattice blocks; the table of encodings.

use crate::engines::{BLOCKS, encodings, engines, every};
use quantoscope_core::quant::{
    EncodeError, Encoding, ImportanceUse, check_finite, decoder, encoder, transcoder,
};
use quantoscope_core::{Code, DType};
use quantoscope_tests::generators::generate;

/// Encodings that pass NaN and infinity on.
fn plain(e: Encoding) -> bool {
    !matches!(e, Encoding::F16Finite) && e.dtype().block_len() == 1
}

#[test]
fn encode_nan_or_infinity_names_the_first_index() {
    for engine in engines() {
        for e in encodings() {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, 1, 31, 32, 255, 256, 300, 511] {
                    let mut x = generate("normal", 1, 512);
                    x[at] = bad;
                    x[511] = bad;
                    let want = if plain(e) { None } else { Some(EncodeError::NonFinite { index: at }) };
                    assert_eq!(engine.encode(e, &x).err(), want, "{} {e} {at}", engine.name);
                }
            }
        }
    }
}

#[test]
fn encode_nan_leaves_the_output_unchanged() {
    for e in BLOCKS {
        let mut x = generate("normal", 1, 512);
        x[511] = f32::NAN;
        let mut out = vec![0xA5; e.dtype().bytes_for(512).unwrap() as usize];
        let even = vec![1.0; 512];
        let importance = (e.importance() == ImportanceUse::Required).then_some(&even[..]);
        let refused = encoder(e).unwrap()(&x, importance, &mut out);
        assert_eq!(refused, Err(EncodeError::NonFinite { index: 511 }), "{e}");
        assert!(out.iter().all(|&b| b == 0xA5), "{e}");
    }
}

#[test]
fn encode_without_required_importance_is_refused() {
    for e in BLOCKS {
        let mut out = vec![0; e.dtype().bytes_for(256).unwrap() as usize];
        let needs = (e.importance() == ImportanceUse::Required).then_some(EncodeError::NeedsImportance);
        for engine in engines() {
            let got = engine.kernels.encode(e, &generate("normal", 1, 256), None, &mut out).err();
            assert_eq!(got, needs, "{} {e}", engine.name);
        }
    }
}

#[test]
fn encode_lattice_nan_in_the_tail_is_refused() {
    for e in [Encoding::LatticeAsym, Encoding::LatticeSym] {
        let mut x = generate("normal", 1, 40);
        x[37] = f32::NEG_INFINITY;
        assert_eq!(every().encode(e, &x), Err(EncodeError::NonFinite { index: 37 }));
    }
}

#[test]
fn encode_f16_overflow_names_the_value() {
    let largest = f32::from_bits(0x477F_EFFF);
    let over = f32::from_bits(0x477F_F000);
    for e in [Encoding::Type(DType::F16), Encoding::F16Finite] {
        for at in [0, 255, 256, 299] {
            let mut x = vec![largest; 300];
            assert!(every().encode(e, &x).is_ok(), "65519.996 rounds to 65504");
            x[at] = -over;
            assert_eq!(every().encode(e, &x), Err(EncodeError::F16Overflow { index: at }), "{e}");
        }
    }
    assert!(every().encode(Encoding::Type(DType::F16), &[f32::INFINITY, f32::NAN]).is_ok());
    let both = [1.0, over, f32::NAN];
    assert_eq!(every().encode(Encoding::F16Finite, &both), Err(EncodeError::F16Overflow { index: 1 }));
    let both = [f32::NAN, over];
    assert_eq!(every().encode(Encoding::F16Finite, &both), Err(EncodeError::NonFinite { index: 0 }));
}

/// The least magnitude, to a few bits, at which a block holding it alone is refused.
fn limit(e: Encoding, block: impl Fn(f32) -> Vec<f32>) -> f32 {
    let refused = |bits: u32| every().encode(e, &block(f32::from_bits(bits))).is_err();
    let (mut fine, mut bad) = (0, f32::MAX.to_bits());
    while bad - fine > 1 {
        let middle = fine + (bad - fine) / 2;
        if refused(middle) { bad = middle } else { fine = middle }
    }
    f32::from_bits(bad)
}

#[test]
fn encode_overflowing_scale_or_bias_is_refused() {
    for (e, positive, negative) in [
        (Encoding::LatticeAsym, 982_800.0, 65_520.0),
        (Encoding::LatticeSym, 57_330.0, 57_330.0),
        (Encoding::Type(DType::Q4_0), 524_160.0, 524_160.0),
        (Encoding::Type(DType::Q4_1), 982_800.0, 65_520.0),
        (Encoding::Type(DType::Q5_0), 1_048_320.0, 1_048_320.0),
        (Encoding::Type(DType::Q5_1), 2_031_120.0, 65_520.0),
        (Encoding::Type(DType::Q8_0), 8_321_040.0, 8_321_040.0),
        (Encoding::Type(DType::Q2_K), 2_948_400.3, 982_800.0),
        (Encoding::Type(DType::Q3_K), 8_386_560.5, 8_386_560.5),
        (Encoding::Type(DType::Q4_K), 61_916_384.0, 4_127_760.0),
        (Encoding::Type(DType::Q5_K), 127_956_090.0, 4_127_760.0),
        (Encoding::Type(DType::Q6_K), 268_369_940.0, 268_369_940.0),
        (Encoding::Type(DType::IQ4_NL), 7_403_760.5, 7_403_760.5),
        (Encoding::Type(DType::IQ4_XS), 236_920_340.0, 236_920_340.0),
        (Encoding::Type(DType::IQ3_S), 25_561_046.0, 25_561_046.0),
        (Encoding::Type(DType::IQ3_XXS), 22_066_490.0, 22_066_490.0),
        (Encoding::Type(DType::IQ2_S), 10_296_177.0, 10_296_177.0),
        (Encoding::Type(DType::IQ2_XS), 10_535_696.0, 10_535_696.0),
        (Encoding::Type(DType::IQ2_XXS), 10_941_116.0, 10_941_116.0),
        (Encoding::Type(DType::IQ1_M), 1_066_499.9, 1_066_499.9),
        (Encoding::Type(DType::IQ1_S), 1_015_916.75, 1_015_916.75),
        (Encoding::Type(DType::Q2_0), 65_520.0, 65_520.0),
        (Encoding::Type(DType::TQ2_0), 65_520.0, 65_520.0),
        (Encoding::Type(DType::TQ1_0), 65_520.0, 65_520.0),
        (Encoding::Type(DType::Q1_0), 8_386_560.0, 8_386_560.0),
    ] {
        let length = e.dtype().block_len() as usize;
        let alone = |x: f32| {
            let mut b = vec![0.0; length];
            b[9] = x;
            b
        };
        assert_eq!(limit(e, alone), positive, "{e}");
        assert_eq!(limit(e, |x| alone(-x)), negative, "{e}");
        let x = [alone(0.0), alone(-1e10), alone(1.0)].concat();
        assert_eq!(every().encode(e, &x), Err(EncodeError::F16Overflow { index: length + 9 }), "{e}");
    }
}

#[test]
fn encode_error_names_the_element() {
    let error = EncodeError::NonFinite { index: 7 }.error();
    assert_eq!((error.code(), error.detail().element), (Code::NonFinite, Some(7)));
    let error = EncodeError::F16Overflow { index: 8 }.shifted(32).error();
    assert_eq!((error.code(), error.detail().element), (Code::F16Overflow, Some(40)));
    let error = EncodeError::NotExact { block: 3 }.shifted(64).error();
    assert_eq!((error.code(), error.detail().element), (Code::NotExact, Some(160)));
    let error = EncodeError::NeedsImportance.shifted(32).error();
    assert_eq!((error.code(), error.detail().element), (Code::NeedsImportance, None));
    assert!(check_finite(&[]).is_ok());
}

#[test]
fn encoding_importance_use_equals_the_table() {
    let with = |which| {
        let names = DType::ALL.iter().filter(|&&d| Encoding::Type(d).importance() == which);
        names.map(|d| d.name()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(with(ImportanceUse::Required), "IQ2_XXS IQ2_XS IQ1_S IQ1_M");
    assert_eq!(with(ImportanceUse::Wanted), "IQ3_XXS IQ3_S IQ2_S");
    assert_eq!(with(ImportanceUse::Optional), "Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS");
    for e in [Encoding::F16Finite, Encoding::LatticeAsym, Encoding::LatticeSym] {
        assert_eq!(e.importance(), ImportanceUse::Ignored);
    }
}

#[test]
fn lattice_tail_scale_ignores_padding() {
    let raw = every().encode(Encoding::LatticeAsym, &[5.0, 6.0, 7.0]).unwrap();
    // Scale 2/15, bias 5, codes 0 7 15 (the reciprocal of 2/15 is just below 7.5), then the code of 0.0:
    // clamped to 0.
    assert_eq!(raw[..6], [0x44, 0x30, 0x00, 0x45, 0x70, 0x0F]);
    assert!(raw[6..].iter().all(|&b| b == 0));
    let raw = every().encode(Encoding::LatticeAsym, &[-2.0, -1.0, 1.0]).unwrap();
    // Scale 1/5: zero is ten steps above -2.
    assert_eq!(raw[4..7], [0x50, 0xAF, 0xAA]);
    let raw = every().encode(Encoding::LatticeAsym, &[-7.0, -6.0, -5.0]).unwrap();
    assert_eq!(raw[4..7], [0x70, 0xFF, 0xFF], "the code of 0.0 is clamped to 15");
}

#[test]
fn lattice_symmetric_tail_equals_its_padded_block() {
    for n in 1..32 {
        let mut x = generate("heavy", n, n as usize);
        let tail = every().encode(Encoding::LatticeSym, &x).unwrap();
        x.resize(32, 0.0);
        assert_eq!(tail, every().encode(Encoding::LatticeSym, &x).unwrap(), "{n}");
    }
}

#[test]
fn lattice_tiny_range_has_scale_one() {
    for (e, code) in [(Encoding::LatticeAsym, 0x00), (Encoding::LatticeSym, 0x88)] {
        for top in [0.0, 1e-37, 1e-45, 1e-7] {
            let mut x = vec![0.0; 32];
            x[3] = top;
            let raw = every().encode(e, &x).unwrap();
            assert_eq!(raw[..2], [0x00, 0x3C], "{e} {top:e}");
            assert!(raw[4..].iter().all(|&b| b == code), "{e} {top:e}");
        }
    }
}

#[test]
fn lattice_nibbles_are_in_format_order() {
    let x: Vec<f32> = (0..32).map(|i| ((i * 7) % 16) as f32).collect();
    let raw = every().encode(Encoding::LatticeAsym, &x).unwrap();
    for b in 0..16 {
        assert_eq!(raw[4 + b], x[2 * b] as u8 | (x[2 * b + 1] as u8) << 4);
    }
    let raw = every().encode(Encoding::Type(DType::Q4_1), &x).unwrap();
    for j in 0..16 {
        assert_eq!(raw[4 + j], x[j] as u8 | (x[j + 16] as u8) << 4);
    }
}

#[test]
fn lattice_ties_round_away_from_zero() {
    let mut x = vec![0.5; 32];
    (x[0], x[1], x[2], x[3], x[4], x[5]) = (0.0, 15.0, 2.5, 0.499_999_97, 14.5, 3.5);
    let raw = every().encode(Encoding::LatticeAsym, &x).unwrap();
    assert_eq!(raw[4..8], [0xF0, 0x03, 0x4F, 0x11]);
}

#[test]
fn encoding_table_has_every_codec() {
    let written = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::Q8_0,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q2_K,
        DType::Q3_K,
        DType::Q4_K,
        DType::Q5_K,
        DType::Q6_K,
        DType::IQ4_NL,
        DType::IQ4_XS,
        DType::IQ3_S,
        DType::IQ3_XXS,
        DType::IQ2_S,
        DType::IQ2_XS,
        DType::IQ2_XXS,
        DType::IQ1_M,
        DType::IQ1_S,
        DType::MXFP4,
        DType::NVFP4,
        DType::Q2_0,
        DType::TQ2_0,
        DType::TQ1_0,
        DType::Q1_0,
    ];
    let read = [
        DType::F64,
        DType::F8_E4M3,
        DType::F8_E5M2,
        DType::Q8_1,
        DType::Q8_K,
        DType::LATTICE_Q4,
        DType::APR_Q4,
        DType::APR_Q8,
    ];
    for &d in DType::ALL {
        assert_eq!(encoder(Encoding::Type(d)).is_some(), written.contains(&d), "{d}");
        assert_eq!(decoder(d).is_some(), written.contains(&d) || read.contains(&d), "{d}");
    }
    let pairs = |f: DType| DType::ALL.iter().filter(move |&&t| transcoder(f, t).is_some()).count();
    assert_eq!(DType::ALL.iter().map(|&f| pairs(f)).sum::<usize>(), 4);
}

#[test]
fn encoding_names_parse_back() {
    let special = [Encoding::F16Finite, Encoding::LatticeAsym, Encoding::LatticeSym];
    let all = DType::ALL.iter().copied().map(Encoding::Type).chain(special);
    for e in all {
        let json = serde_json::to_string(&e).unwrap();
        assert_eq!(json, json.to_lowercase());
        assert_eq!(serde_json::from_str::<Encoding>(&json).unwrap(), e);
    }
    assert_eq!(serde_json::to_string(&Encoding::LatticeAsym).unwrap(), "\"q4_asym\"");
    assert!(serde_json::from_str::<Encoding>("\"q9_9\"").is_err());
}
