//! Checkpoints whose weights are stored as several tensors, against values computed here from the bytes.

use crate::support::{compare, foreign, make, plan, reopen, verify};
use quantoscope_core::DType;
use quantoscope_core::error::Code;
use quantoscope_core::format::Container;
use quantoscope_core::plan::{Plan, convert, measure};
use quantoscope_core::recipe::{Recipe, TargetName};
use quantoscope_core::schedule::Budget;
use quantoscope_tests::memory::{MemoryModel, run, run_shuffled};
use quantoscope_tests::models::{Rng, Tensor, safetensors};

/// The value of an 8-bit float, by the definition of its format.
fn float8(dtype: DType, code: u8) -> f32 {
    let (mantissa, bias) = if dtype == DType::F8_E4M3 { (3, 7) } else { (2, 15) };
    let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((code & 0x7F) >> mantissa);
    let fraction = f64::from(code & ((1 << mantissa) - 1)) / f64::from(1 << mantissa);
    let value = match exponent {
        0 => fraction * 2_f64.powi(1 - bias),
        e => (1.0 + fraction) * 2_f64.powi(e - bias),
    };
    (sign * value) as f32
}

/// Codes without NaN and infinities.
fn codes(dtype: DType, n: u64, rng: &mut Rng) -> Vec<u8> {
    let finite = |c: u8| match dtype {
        DType::F8_E4M3 => c & 0x7F != 0x7F,
        _ => c & 0x7C != 0x7C,
    };
    (0..n)
        .map(|_| std::iter::repeat_with(|| rng.below(256) as u8).find(|c| finite(*c)).expect("one"))
        .collect()
}

/// A scale as it is stored, and its values.
fn scale(name: &str, dtype: DType, shape: &[u64], rng: &mut Rng) -> (Tensor, Vec<f32>) {
    let n = shape.iter().product::<u64>();
    if matches!(dtype, DType::F8_E8M0 | DType::U8) {
        let bytes: Vec<u8> = (0..n).map(|_| 110 + rng.below(20) as u8).collect();
        let values = bytes.iter().map(|b| 2_f32.powi(i32::from(*b) - 127)).collect();
        return (Tensor::raw(name, dtype, shape, bytes), values);
    }
    // Values that every float type holds.
    let values: Vec<f32> = (0..n).map(|_| (1 + rng.below(200)) as f32 / 4096.0).collect();
    (Tensor::of(name, dtype, shape, &values), values)
}

/// A layout of scales: the weight's shape, the scale's, and the blocks of `config.json`.
struct ScaleLayout {
    weight: &'static [u64],
    scale: &'static [u64],
    block: Option<[u64; 2]>,
    /// The scale's element for a matrix, row and column.
    of: fn(u64, u64, u64) -> u64,
    label: &'static str,
}

const LAYOUTS: &[ScaleLayout] = &[
    ScaleLayout { weight: &[5, 33], scale: &[], block: None, of: |_, _, _| 0, label: "one scale" },
    ScaleLayout { weight: &[5, 33], scale: &[1], block: None, of: |_, _, _| 0, label: "one scale" },
    ScaleLayout { weight: &[5, 33], scale: &[1, 1], block: None, of: |_, _, _| 0, label: "one scale" },
    ScaleLayout { weight: &[5, 33], scale: &[5], block: None, of: |_, r, _| r, label: "scale per row" },
    ScaleLayout { weight: &[5, 33], scale: &[5, 1], block: None, of: |_, r, _| r, label: "scale per row" },
    ScaleLayout {
        weight: &[5, 33],
        scale: &[1, 33],
        block: None,
        of: |_, _, c| c,
        label: "scale per column",
    },
    // Blocks that end beyond the weight, and are not square.
    ScaleLayout {
        weight: &[20, 300],
        scale: &[2, 38],
        block: Some([16, 8]),
        of: |_, r, c| r / 16 * 38 + c / 8,
        label: "16x8 scales",
    },
    ScaleLayout {
        weight: &[7, 40],
        scale: &[1, 2],
        block: Some([128, 24]),
        of: |_, _, c| c / 24,
        label: "128x24 scales",
    },
    // Without a configuration: the usual blocks, or equal ones.
    ScaleLayout {
        weight: &[130, 260],
        scale: &[2, 3],
        block: None,
        of: |_, r, c| r / 128 * 3 + c / 128,
        label: "128x128 scales",
    },
    ScaleLayout {
        weight: &[6, 96],
        scale: &[6, 3],
        block: None,
        of: |_, r, c| r * 3 + c / 32,
        label: "1x32 scales",
    },
    // Stacks.
    ScaleLayout { weight: &[3, 5, 12], scale: &[3], block: None, of: |e, _, _| e, label: "scale per matrix" },
    ScaleLayout {
        weight: &[3, 5, 12],
        scale: &[3, 1, 1],
        block: None,
        of: |e, _, _| e,
        label: "scale per matrix",
    },
    ScaleLayout {
        weight: &[3, 5, 12],
        scale: &[3, 5, 1],
        block: None,
        of: |e, r, _| e * 5 + r,
        label: "scale per row",
    },
    ScaleLayout {
        weight: &[3, 5, 12],
        scale: &[3, 5],
        block: None,
        of: |e, r, _| e * 5 + r,
        label: "scale per row",
    },
    ScaleLayout {
        weight: &[3, 5, 12],
        scale: &[3, 1, 12],
        block: None,
        of: |e, _, c| e * 12 + c,
        label: "scale per column",
    },
    ScaleLayout {
        weight: &[3, 5, 12],
        scale: &[3, 2, 3],
        block: Some([4, 5]),
        of: |e, r, c| e * 6 + r / 4 * 3 + c / 5,
        label: "4x5 scales",
    },
];

const NAME: &str = "model.layers.0.mlp.down_proj.weight";

/// A folder of these tensors.
pub(crate) fn folder(tensors: &[Tensor], config: &str) -> MemoryModel {
    let files = [
        ("model.safetensors".to_string(), safetensors(tensors)),
        ("config.json".to_string(), config.as_bytes().to_vec()),
    ];
    MemoryModel::directory(files.into()).expect("a sound folder")
}

fn fp8_config(block: Option<[u64; 2]>) -> String {
    let block = block.map(|[r, c]| format!(r#","weight_block_size":[{r},{c}]"#)).unwrap_or_default();
    format!(r#"{{"quantization_config":{{"quant_method":"fp8"{block}}}}}"#)
}

pub(crate) fn f32_file() -> Recipe {
    Recipe::new(Container::Safetensors, Some(DType::F32))
}

pub(crate) fn little(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The files of a plan, in windows of several sizes and in several orders; all are equal.
pub(crate) fn files(plan: &Plan, model: &MemoryModel) -> Vec<Vec<u8>> {
    let whole = run(plan, &[model], Budget::default()).expect("a run").files;
    for memory in [30_000, 200_000] {
        let cut = run_shuffled(plan, &[model], Budget { memory, workers: 1 }, Some(memory));
        assert_eq!(cut.expect("a run").files, whole, "{memory}");
    }
    whole
}

#[test]
fn fp8_of_every_layout_of_scales_gives_the_product_in_f32() {
    let mut rng = Rng(3);
    for case in LAYOUTS {
        for codes_of in [DType::F8_E4M3, DType::F8_E5M2] {
            for scales in [DType::F32, DType::BF16, DType::F16, DType::F8_E8M0, DType::U8] {
                let n = case.weight.iter().product::<u64>();
                let stored = codes(codes_of, n, &mut rng);
                let weight = Tensor::raw(NAME, codes_of, case.weight, stored.clone());
                let (part, factors) = scale(&format!("{NAME}_scale_inv"), scales, case.scale, &mut rng);
                let model = folder(&[part, weight], &fp8_config(case.block));
                let [.., rows, cols] = *case.weight else { panic!("a matrix") };
                let value = |i: u64| {
                    let (e, r, c) = (i / (rows * cols), i / cols % rows, i % cols);
                    float8(codes_of, stored[i as usize]) * factors[(case.of)(e, r, c) as usize]
                };
                let expected: Vec<f32> = (0..n).map(value).collect();
                let context = format!("{:?} {:?} {codes_of} {scales}", case.weight, case.scale);
                let [tensor] = &*model.checkpoint.tensors else { panic!("{context}: one tensor") };
                assert_eq!((tensor.name.as_str(), tensor.shape.axes()), (NAME, case.weight), "{context}");
                let label = model.checkpoint.type_name(tensor).replace("E8M0 ", "");
                assert!(label.ends_with(case.label), "{context}: {label}");
                let plan = plan(&model, &f32_file());
                let file = files(&plan, &model).remove(0);
                let made = MemoryModel::file("m.safetensors", file).expect("a file");
                assert!(made.tensor(NAME) == little(&expected), "{context}");
            }
        }
    }
}

/// A weight of 8-bit floats, and its scale under another name.
fn named(weight: &str, scale_name: &str) -> MemoryModel {
    let mut rng = Rng(5);
    let stored = codes(DType::F8_E4M3, 64 * 64, &mut rng);
    let weight = Tensor::raw(weight, DType::F8_E4M3, &[64, 64], stored);
    folder(&[weight, scale(scale_name, DType::F32, &[1], &mut rng).0], "{}")
}

#[test]
fn fp8_scale_under_every_known_name_is_a_part() {
    for (weight, scale) in [
        ("l.0.q_proj.weight", "l.0.q_proj.weight_scale_inv"),
        ("l.0.q_proj.weight", "l.0.q_proj.weight_scale"),
        ("l.0.q_proj.weight", "l.0.q_proj.weight.scale"),
        ("l.0.q_proj.weight", "l.0.q_proj.weight._scale"),
        ("l.0.q_proj.weight", "l.0.q_proj.scale_weight"),
        ("l.0.q_proj.weight", "l.0.q_proj.scale"),
        ("l.0.q_proj.weight", "l.0.q_proj.weights_scaling_factor"),
        ("layers.0.attention.wq.weight", "layers.0.attention.wq.qscale_weight"),
        ("l.0.mlp.experts.gate_up_proj", "l.0.mlp.experts.gate_up_proj_scale_inv"),
        ("l.0.mlp.experts.gate_up_proj", "l.0.mlp.experts.gate_up_proj_scale"),
    ] {
        let model = named(weight, scale);
        let names: Vec<&str> = model.checkpoint.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, [weight], "{scale}");
    }
}

#[test]
fn scales_of_activations_are_left_out_and_named() {
    let mut rng = Rng(6);
    let weight = Tensor::raw(NAME, DType::F8_E4M3, &[8, 64], codes(DType::F8_E4M3, 512, &mut rng));
    let one = |name: &str| Tensor::of(name, DType::F32, &[1], &[0.5]);
    let module = NAME.trim_end_matches("weight");
    let more = ["input_scale", "k_scale", "qscale_act"].map(|name| one(&format!("{module}{name}")));
    let mut all = vec![weight, one(&format!("{NAME}_scale"))];
    all.extend(more);
    let model = folder(&all, "{}");
    let plan = plan(&model, &f32_file());
    let left_out = &plan.conversion.as_ref().expect("a conversion").left_out;
    assert_eq!(left_out.len(), 3, "{left_out:?}");
    assert!(left_out.iter().all(|l| l.reason.code == "activation_scale"));
    let warning = plan.warnings.iter().find(|w| w.code == "activation_scales").expect("a warning");
    assert!(warning.message.contains("input_scale"), "{}", warning.message);
    assert_eq!(plan.outputs.len(), 1);
}

#[test]
fn parts_that_do_not_fit_are_refused_all_at_once() {
    let mut rng = Rng(7);
    let mut weight =
        |name: &str| Tensor::raw(name, DType::F8_E4M3, &[32, 48], codes(DType::F8_E4M3, 32 * 48, &mut rng));
    let part = |name: &str, shape: &[u64]| {
        Tensor::of(name, DType::F32, shape, &vec![1.0; shape.iter().product::<u64>() as usize])
    };
    let all = [
        weight("a.weight"),
        part("a.weight_scale_inv", &[2, 3]),
        weight("b.weight"),
        weight("c.weight"),
        part("c.weight_scale_inv", &[3, 2]),
        part("d.weight_scale_inv", &[2, 3]),
        part("e.weight", &[32, 48]),
        part("e.weight_scale_inv", &[2, 3]),
        weight("f.weight"),
        part("f.weight_scale_inv", &[2, 3]),
        part("f.weight_scale", &[2, 3]),
        weight("g.weight"),
        Tensor::raw("g.weight_scale_inv", DType::I32, &[2, 3], vec![0; 24]),
        weight("h.weight"),
        part("h.weight_scale_inv", &[1]),
    ];
    let model = folder(&all, &fp8_config(Some([16, 16])));
    let recipes = [f32_file(), foreign(DType::Q8_0), Recipe::new(TargetName::HfFolder, Some(DType::BF16))];
    for recipe in recipes {
        let error = convert::plan(&model.checkpoint, &recipe, None, false).expect_err("a refusal");
        assert_eq!(error.code(), Code::BadValue);
        let text = error.to_string();
        for expected in [
            "b.weight: its scale is missing (b.weight_scale_inv)",
            "c.weight_scale_inv: its shape is [3, 2]; blocks of 16x16 of [32, 48] need [2, 3]",
            "d.weight_scale_inv: it is the scale of a weight that the checkpoint does not have",
            "e.weight_scale_inv: it is a scale, and its weight is stored as plain floats",
            "f.weight: it has two scales, f.weight_scale_inv and f.weight_scale",
            "g.weight_scale_inv: a scale of I32 is not known",
            "h.weight_scale_inv: its shape is [1]; blocks of 16x16 of [32, 48] need [2, 3]",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(!text.contains("a.weight"), "{text}");
    }
    let error = measure::moments(&model.checkpoint, &|_| true).expect_err("a refusal");
    assert_eq!(error.code(), Code::BadValue);
}

#[test]
fn fp8_scale_without_a_layout_is_refused() {
    for (weight, scale) in [([30, 50], [7, 9]), ([30, 50], [31, 1]), ([30, 50], [0, 2])] {
        let mut rng = Rng(8);
        let stored = codes(DType::F8_E4M3, weight.iter().product(), &mut rng);
        let weight = Tensor::raw(NAME, DType::F8_E4M3, &weight, stored);
        let values = vec![1.0; scale.iter().product::<u64>() as usize];
        let scale = Tensor::of(&format!("{NAME}_scale"), DType::F32, &scale, &values);
        let model = folder(&[weight, scale], "{}");
        let error = convert::plan(&model.checkpoint, &f32_file(), None, false).expect_err("a refusal");
        assert_eq!(error.code(), Code::BadValue, "{error}");
    }
}

#[test]
fn fp8_without_any_scale_is_plain() {
    let mut rng = Rng(9);
    let stored = codes(DType::F8_E5M2, 64 * 2, &mut rng);
    let model = folder(&[Tensor::raw(NAME, DType::F8_E5M2, &[2, 64], stored.clone())], "{}");
    let plan = plan(&model, &f32_file());
    assert!(plan.warnings.iter().any(|w| w.code == "no_scale"));
    let made = reopen(&plan, &run(&plan, &[&model], Budget::default()).expect("a run"));
    let expected: Vec<f32> = stored.iter().map(|c| float8(DType::F8_E5M2, *c)).collect();
    assert_eq!(made.tensor(NAME), little(&expected));
}

#[test]
fn scale_or_code_that_is_no_number_is_refused_by_name() {
    let mut rng = Rng(10);
    let stored = codes(DType::F8_E4M3, 4 * 64, &mut rng);
    let mut spoiled = stored.clone();
    spoiled[70] = 0x7F;
    let scales = |values: &[f32]| Tensor::of(&format!("{NAME}_scale"), DType::F32, &[4, 1], values);
    let e8m0 = Tensor::raw(&format!("{NAME}_scale"), DType::F8_E8M0, &[4, 1], vec![127, 255, 127, 127]);
    let fine = [1.0, 2.0, 3.0, 4.0];
    for (bytes, scale, at) in [
        (&stored, scales(&[1.0, f32::NAN, 1.0, 1.0]), 64),
        (&stored, e8m0, 64),
        (&spoiled, scales(&fine), 70),
    ] {
        let model = folder(&[Tensor::raw(NAME, DType::F8_E4M3, &[4, 64], bytes.clone()), scale], "{}");
        for recipe in [f32_file(), foreign(DType::Q8_0)] {
            let plan = convert::plan(&model.checkpoint, &recipe, None, false).expect("a plan");
            let error = run(&plan, &[&model], Budget::default()).expect_err("a refusal");
            assert_eq!(error.code(), Code::NonFinite, "{error}");
            assert_eq!(error.detail().element, Some(at), "{error}");
        }
    }
}

/// A model of packed weights, and the same in binary32.
fn pair_of_models() -> (MemoryModel, MemoryModel) {
    let mut rng = Rng(11);
    let (mut packed, mut plain) = (Vec::new(), Vec::new());
    for name in ["model.layers.0.self_attn.q_proj.weight", NAME, "model.layers.0.mlp.up_proj.weight"] {
        let stored = codes(DType::F8_E4M3, 96 * 256, &mut rng);
        let (part, factors) = scale(&format!("{name}_scale_inv"), DType::F32, &[3, 8], &mut rng);
        let value = |(i, code): (usize, &u8)| {
            float8(DType::F8_E4M3, *code) * factors[i / 256 / 32 * 8 + i % 256 / 32]
        };
        let values: Vec<f32> = stored.iter().enumerate().map(value).collect();
        packed.extend([Tensor::raw(name, DType::F8_E4M3, &[96, 256], stored), part]);
        plain.push(Tensor::of(name, DType::F32, &[96, 256], &values));
    }
    (folder(&packed, &fp8_config(Some([32, 32]))), folder(&plain, "{}"))
}

#[test]
fn every_type_of_packed_weights_equals_that_of_their_values() {
    let (packed, plain) = pair_of_models();
    for dtype in [DType::F32, DType::BF16, DType::F16, DType::Q8_0, DType::Q4_K, DType::IQ4_XS, DType::MXFP4]
    {
        let (a, b) = (plan(&packed, &foreign(dtype)), plan(&plain, &foreign(dtype)));
        let data = |plan: &Plan, model| files(plan, model)[0][plan.files[0].header.len()..].to_vec();
        assert!(data(&a, &packed) == data(&b, &plain), "{dtype}");
    }
    let report = compare(&packed, &plain);
    assert_eq!(report.tensors.len(), 3);
    assert!(report.tensors.iter().all(|t| t.error.max_abs == Some(0.0)), "{report:?}");
    let sweep = |model: &MemoryModel| {
        let encodings = measure::sweep_encodings();
        let plan = measure::sweep(&model.checkpoint, &encodings, None, &|_| true).expect("a plan");
        run(&plan, &[model], Budget { memory: 300_000, workers: 1 }).expect("a run").collected
    };
    assert_eq!(format!("{:?}", sweep(&packed)), format!("{:?}", sweep(&plain)));
}

#[test]
fn file_of_packed_weights_verifies_and_a_changed_byte_does_not() {
    let (packed, _) = pair_of_models();
    for dtype in [DType::F32, DType::Q4_0] {
        let recipe = foreign(dtype);
        let (_, made) = make(&packed, &recipe);
        let check = |bytes: Vec<u8>| {
            let file = MemoryModel::file("m.gguf", bytes).expect("a GGUF");
            verify(&packed, &file).verified
        };
        assert!(check(made.files[0].clone()));
        let mut spoiled = made.files[0].clone();
        *spoiled.last_mut().expect("bytes") ^= 1;
        assert!(!check(spoiled));
    }
}
