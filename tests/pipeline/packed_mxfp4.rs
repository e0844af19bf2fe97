//! MXFP4 experts of gpt-oss: one tensor, its values, and blocks of ggml without loss.

use crate::packed::{f32_file, files, folder, little};
use crate::support::{foreign, gguf, plan, remake};
use quantoscope_core::DType;
use quantoscope_core::error::Code;
use quantoscope_core::plan::convert;
use quantoscope_core::recipe::Recipe;
use quantoscope_tests::memory::MemoryModel;
use quantoscope_tests::models::{Rng, Tensor};

const EXPERTS: &str = "model.layers.0.mlp.experts.gate_up_proj";
const LEVELS: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// Experts `[2, rows, 64]` in MXFP4 of gpt-oss, and their values.
fn mxfp4(rows: u64) -> ([Tensor; 2], Vec<f32>) {
    let mut rng = Rng(12);
    let blocks = 2 * rows * 2;
    let stored: Vec<u8> = (0..blocks * 16).map(|_| rng.below(256) as u8).collect();
    let powers: Vec<u8> = (0..blocks).map(|_| 100 + rng.below(50) as u8).collect();
    let value = |i: usize| {
        let code = stored[i / 2] >> (i % 2 * 4) & 0xF;
        // Zero has no sign, as in ggml.
        let sign = if code > 8 { -1.0 } else { 1.0 };
        let level = LEVELS[usize::from(code & 7)] * sign;
        level * 2_f32.powi(i32::from(powers[i / 32]) - 127)
    };
    let values = (0..stored.len() * 2).map(value).collect();
    let tensors = [
        Tensor::raw(&format!("{EXPERTS}_blocks"), DType::U8, &[2, rows, 2, 16], stored),
        Tensor::raw(&format!("{EXPERTS}_scales"), DType::U8, &[2, rows, 2], powers),
    ];
    (tensors, values)
}

const MXFP4_CONFIG: &str = r#"{"quantization_config":{"quant_method":"mxfp4"}}"#;

#[test]
fn mxfp4_of_gpt_oss_is_one_tensor_and_becomes_blocks_of_ggml_without_loss() {
    let (tensors, values) = mxfp4(6);
    let model = folder(&tensors, MXFP4_CONFIG);
    let [tensor] = &*model.checkpoint.tensors else { panic!("one tensor") };
    assert_eq!((tensor.name.as_str(), tensor.shape.axes()), (EXPERTS, &[2, 6, 64][..]));
    assert_eq!(model.checkpoint.type_name(tensor), "MXFP4 (gpt-oss)");
    let plan = plan(&model, &foreign(DType::MXFP4));
    let file = MemoryModel::file("m.gguf", files(&plan, &model).remove(0)).expect("a GGUF");
    let decoded = remake(&file, &Recipe { allow_requantize: true, ..f32_file() });
    assert!(decoded.tensor(EXPERTS) == little(&values), "other values");
    // The codes are those that were stored: minus zero too.
    let block = |i: usize| &file.tensor(EXPERTS)[i * 17..][..17];
    let (codes, powers) = (model.gather(0, &whole(&model, 0)), model.gather(0, &whole(&model, 1)));
    for i in 0..powers.len() {
        assert_eq!(block(i)[0], powers[i]);
        let code = |at: usize| codes[i * 16 + at / 2] >> (at % 2 * 4) & 0xF;
        let expected: Vec<u8> = (0..16).map(|j| code(j) | code(j + 16) << 4).collect();
        assert_eq!(block(i)[1..], expected);
    }
}

/// The bytes of a part of the only tensor.
fn whole(model: &MemoryModel, part: usize) -> quantoscope_core::job::Region {
    let packed = model.checkpoint.tensors[0].packed.as_deref().expect("a packed weight");
    let bytes = packed.parts[part].bytes;
    quantoscope_core::job::Region { offset: bytes.start, run: bytes.len(), stride: bytes.len(), count: 1 }
}

#[test]
fn mxfp4_of_gpt_oss_is_decoded_in_the_order_of_plain_experts() {
    let (tensors, values) = mxfp4(6);
    let model = folder(&tensors, MXFP4_CONFIG);
    let error = convert::plan(&model.checkpoint, &f32_file(), None, false).expect_err("a refusal");
    assert_eq!(error.code(), Code::Requantize, "{error}");
    let plan = plan(&model, &Recipe { allow_requantize: true, ..f32_file() });
    let made = MemoryModel::file("m.safetensors", files(&plan, &model).remove(0)).expect("a file");
    assert_eq!(made.checkpoint.tensors[0].shape.axes(), [2, 64, 6]);
    let at = |e: usize, i: usize, o: usize| values[(e * 6 + o) * 64 + i];
    let expected: Vec<f32> = (0..2)
        .flat_map(|e| (0..64).flat_map(move |i| (0..6).map(move |o| (e, i, o))))
        .map(|(e, i, o)| at(e, i, o))
        .collect();
    assert!(made.tensor(EXPERTS) == little(&expected), "other values");
}

#[test]
fn parts_of_mxfp4_that_do_not_fit_are_refused_all_at_once() {
    let u8s = |name: &str, shape: &[u64]| {
        Tensor::raw(name, DType::U8, shape, vec![0; shape.iter().product::<u64>() as usize])
    };
    let all = [
        u8s("a_blocks", &[2, 6, 2, 16]),
        u8s("b_scales", &[2, 6, 2]),
        u8s("c_blocks", &[2, 6, 2, 16]),
        u8s("c_scales", &[2, 6, 3]),
        u8s("d_blocks", &[2, 6, 2, 8]),
        u8s("d_scales", &[2, 6, 2]),
        u8s("e_blocks", &[2, 6, 2, 16]),
        Tensor::of("e_scales", DType::F32, &[2, 6, 2], &[1.0; 24]),
    ];
    let model = folder(&all, MXFP4_CONFIG);
    let error = convert::plan(&model.checkpoint, &gguf(DType::Q8_0), None, false).expect_err("a refusal");
    let text = error.to_string();
    for expected in [
        "a_blocks: its scales are missing (a_scales)",
        "b_scales: its codes are missing (b_blocks)",
        "c_scales: its shape is [2, 6, 3]; c_blocks needs [2, 6, 2]",
        "d_blocks: its shape [2, 6, 2, 8] is not [.., rows, cols / 32, 16]",
        "e_scales: it is F32; parts of MXFP4 are U8",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_eq!(error.code(), Code::BadValue);
}
