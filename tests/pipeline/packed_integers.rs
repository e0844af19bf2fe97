//! GPTQ, AWQ, integers of compressed-tensors and MLX: codes packed here by the definition of each format.

use crate::support::plan;
use quantoscope_core::DType;
use quantoscope_core::error::Code;
use quantoscope_core::format::Container;
use quantoscope_core::plan::convert;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::schedule::Budget;
use quantoscope_tests::memory::{MemoryModel, run, run_shuffled};
use quantoscope_tests::models::{Rng, Tensor, safetensors};

const STEM: &str = "model.layers.0.mlp.down_proj";

fn folder(tensors: &[Tensor], config: &str) -> MemoryModel {
    let files = [
        ("model.safetensors".to_string(), safetensors(tensors)),
        ("config.json".to_string(), config.as_bytes().to_vec()),
    ];
    MemoryModel::directory(files.into()).expect("a sound folder")
}

fn f32_file() -> Recipe {
    Recipe { allow_requantize: true, ..Recipe::new(Container::Safetensors, Some(DType::F32)) }
}

/// Codes of a weight, and what its groups of columns have in common.
struct CodedWeight {
    rows: usize,
    cols: usize,
    bits: u32,
    /// Row-major.
    codes: Vec<u32>,
    /// The group of each column.
    index: Vec<usize>,
    groups: usize,
    /// `[rows, groups]`.
    zeros: Vec<u32>,
    scales: Vec<f32>,
}

impl CodedWeight {
    fn random(rows: usize, cols: usize, bits: u32, group: usize, seed: u64) -> CodedWeight {
        let mut rng = Rng(seed);
        let groups = cols.div_ceil(group);
        let mut below = |n: u64| rng.below(n) as u32;
        let codes = (0..rows * cols).map(|_| below(1 << bits)).collect();
        // Version 1 of GPTQ has no zero of 0.
        let zeros = (0..rows * groups).map(|_| 1 + below((1 << bits) - 1)).collect();
        let scales = (0..rows * groups).map(|_| (1 + below(200)) as f32 / 1024.0).collect();
        CodedWeight {
            rows,
            cols,
            bits,
            codes,
            index: (0..cols).map(|c| c / group).collect(),
            groups,
            zeros,
            scales,
        }
    }

    fn code(&self, row: usize, col: usize) -> u32 {
        self.codes[row * self.cols + col]
    }

    /// `[groups, rows]`.
    fn transposed<T: Copy>(&self, of: &[T]) -> Vec<T> {
        (0..self.groups).flat_map(|g| (0..self.rows).map(move |r| of[r * self.groups + g])).collect()
    }

    /// `scale * (code - zero)`.
    fn values(&self, zero: impl Fn(usize) -> i32) -> Vec<f32> {
        let value = |i: usize| {
            let at = i / self.cols * self.groups + self.index[i % self.cols];
            self.scales[at] * (self.codes[i] as i32 - zero(at)) as f32
        };
        (0..self.codes.len()).map(value).collect()
    }
}

/// Words of a stream of codes, the first in the lowest bits.
fn words(codes: impl Iterator<Item = u32>, bits: u32) -> Vec<u32> {
    let (mut made, mut at) = (Vec::new(), 0_u32);
    for code in codes {
        for bit in 0..bits {
            if at.is_multiple_of(32) {
                made.push(0);
            }
            *made.last_mut().expect("a word") |= (code >> bit & 1) << (at % 32);
            at += 1;
        }
    }
    made
}

/// The columns of words as rows: `[words, columns]`.
fn transpose(columns: &[Vec<u32>]) -> Vec<u32> {
    (0..columns[0].len()).flat_map(|w| columns.iter().map(move |c| c[w])).collect()
}

fn integers(name: &str, dtype: DType, shape: &[usize], words: &[u32]) -> Tensor {
    let shape: Vec<u64> = shape.iter().map(|n| *n as u64).collect();
    Tensor::raw(
        &format!("{STEM}.{name}"),
        dtype,
        &shape,
        words.iter().flat_map(|w| w.to_le_bytes()).collect(),
    )
}

fn floats(name: &str, dtype: DType, shape: &[usize], values: &[f32]) -> Tensor {
    let shape: Vec<u64> = shape.iter().map(|n| *n as u64).collect();
    Tensor::of(&format!("{STEM}.{name}"), dtype, &shape, values)
}

fn little(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Asserts the values in windows of several sizes, the label, and the refusal without a flag.
#[track_caller]
fn assert_decodes(model: &MemoryModel, label: &str, expected: &[f32]) {
    let [tensor] = &*model.checkpoint.tensors else { panic!("{label}: one tensor") };
    assert_eq!(tensor.name, format!("{STEM}.weight"));
    assert_eq!(model.checkpoint.type_name(tensor), label);
    let refused =
        convert::plan(&model.checkpoint, &Recipe { allow_requantize: false, ..f32_file() }, None, false);
    assert_eq!(refused.expect_err("a refusal").code(), Code::Requantize);
    let plan = plan(model, &f32_file());
    let start = plan.files[0].header.len();
    let whole = run(&plan, &[model], Budget::default()).expect("a run").files;
    assert!(whole[0][start..] == little(expected), "{label}: other values");
    for memory in [60_000, 400_000] {
        let cut = run_shuffled(&plan, &[model], Budget { memory, workers: 1 }, Some(memory)).expect("a run");
        assert!(cut.files == whole, "{label}: {memory} bytes");
    }
}

/// The parts of GPTQ; `add` is what version 1 stores less.
fn gptq(w: &CodedWeight, add: u32, indexed: bool) -> Vec<Tensor> {
    let columns: Vec<_> = (0..w.rows).map(|r| words((0..w.cols).map(|c| w.code(r, c)), w.bits)).collect();
    let zeros = w.transposed(&w.zeros);
    let zeros: Vec<u32> =
        zeros.chunks(w.rows).flat_map(|row| words(row.iter().map(|z| z - add), w.bits)).collect();
    let packed = w.rows * w.bits as usize / 32;
    let mut all = vec![
        integers("qweight", DType::I32, &[columns[0].len(), w.rows], &transpose(&columns)),
        integers("qzeros", DType::I32, &[w.groups, packed], &zeros),
        floats("scales", DType::F16, &[w.groups, w.rows], &w.transposed(&w.scales)),
    ];
    if indexed {
        let index: Vec<u32> = w.index.iter().map(|g| *g as u32).collect();
        all.push(integers("g_idx", DType::I32, &[w.cols], &index));
    }
    all
}

fn gptq_config(bits: u32, group: i64, format: &str) -> String {
    format!(
        r#"{{"quantization_config":{{"quant_method":"gptq","bits":{bits},"group_size":{group},"checkpoint_format":"{format}"}}}}"#
    )
}

#[test]
fn gptq_of_both_versions_and_all_widths_gives_scale_times_code_less_zero() {
    for bits in [2, 3, 4, 8] {
        for (format, add) in [("gptq", 1), ("gptq_v2", 0)] {
            for (group, order) in [(32, 0), (32, 1), (32, 2), (128, 0), (96, 0)] {
                let mut w = CodedWeight::random(64, 128, bits, group, u64::from(bits) + 1);
                // With `g_idx`, and with columns in the order of their activations.
                if order == 2 {
                    Rng(9).shuffle(&mut w.index);
                }
                let model = folder(&gptq(&w, add, order > 0), &gptq_config(bits, group as i64, format));
                let label = match group {
                    128 => format!("W{bits} per row (GPTQ)"),
                    _ => format!("W{bits} g{group} (GPTQ)"),
                };
                assert_decodes(&model, &label, &w.values(|at| w.zeros[at] as i32));
            }
        }
    }
}

#[test]
fn gptq_without_a_configuration_is_of_version_1() {
    let w = CodedWeight::random(64, 256, 4, 128, 5);
    assert_decodes(&folder(&gptq(&w, 1, false), "{}"), "W4 g128 (GPTQ)", &w.values(|at| w.zeros[at] as i32));
}

#[test]
fn gptq_group_beyond_the_scales_is_refused_by_name() {
    let mut w = CodedWeight::random(64, 128, 4, 32, 6);
    w.index[70] = 4;
    let model = folder(&gptq(&w, 1, true), &gptq_config(4, 32, "gptq"));
    let plan = plan(&model, &f32_file());
    let error = run(&plan, &[&model], Budget::default()).expect_err("a refusal");
    assert_eq!(error.code(), Code::BadValue);
    assert!(error.to_string().contains("g_idx has the group 4 for column 70, and there are 4"), "{error}");
}

#[test]
fn gptq_parts_that_do_not_fit_are_refused() {
    let w = CodedWeight::random(64, 128, 4, 32, 7);
    let all = gptq(&w, 1, true);
    let config = gptq_config(4, 32, "gptq");
    let refused = |tensors: &[Tensor], config: &str, expected: &str| {
        let model = folder(tensors, config);
        let error = convert::plan(&model.checkpoint, &f32_file(), None, false).expect_err("a refusal");
        assert_eq!(error.code(), Code::BadValue, "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    };
    refused(&[all[0].clone(), all[2].clone()], &config, "down_proj.qzeros is missing");
    refused(&[all[0].clone(), all[1].clone()], &config, "down_proj.scales is missing");
    refused(
        &all,
        &gptq_config(4, 64, "gptq"),
        "down_proj.scales: its shape is [4, 64]; the other parts need [2, 64]",
    );
    let short = integers("g_idx", DType::I32, &[64], &[0; 64]);
    refused(&[&all[..3], &[short]].concat(), &config, "down_proj.g_idx: it is I32 [64], not I32 [128]");
    let other = floats("scales", DType::F16, &[4, 32], &[1.0; 128]);
    refused(&[all[0].clone(), all[1].clone(), other], &config, "down_proj.");
    let stray = Tensor::raw("a.qzeros", DType::I32, &[1, 8], vec![0; 32]);
    refused(
        &[&all[..], &[stray]].concat(),
        &config,
        "a.qzeros: it is a part of a weight that the checkpoint does not have",
    );
    // Codes in another order are not decoded.
    let model = folder(&all, &gptq_config(4, 32, "marlin"));
    let error = convert::plan(&model.checkpoint, &f32_file(), None, false).expect_err("a refusal");
    assert_eq!(error.code(), Code::UnsupportedDtype);
}

#[test]
fn awq_gives_scale_times_code_less_zero() {
    /// The output of each nibble of a word.
    const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
    let pack = |row: &[u32]| -> Vec<u32> {
        row.chunks(8).map(|eight| (0..8).map(|i| eight[ORDER[i]] << (4 * i)).sum()).collect()
    };
    for (cols, group) in [(128, 32), (192, 64), (128, 128)] {
        let w = CodedWeight::random(40, cols, 4, group, 11);
        let codes: Vec<u32> =
            (0..cols).flat_map(|c| pack(&(0..w.rows).map(|r| w.code(r, c)).collect::<Vec<_>>())).collect();
        let zeros: Vec<u32> = w.transposed(&w.zeros).chunks(w.rows).flat_map(pack).collect();
        let all = [
            integers("qweight", DType::I32, &[cols, w.rows / 8], &codes),
            integers("qzeros", DType::I32, &[w.groups, w.rows / 8], &zeros),
            floats("scales", DType::F16, &[w.groups, w.rows], &w.transposed(&w.scales)),
        ];
        let config = format!(
            r#"{{"quantization_config":{{"quant_method":"awq","bits":4,"group_size":{group},"version":"gemm"}}}}"#
        );
        let label = if w.groups == 1 { "W4 per row (AWQ)".into() } else { format!("W4 g{group} (AWQ)") };
        assert_decodes(&folder(&all, &config), &label, &w.values(|at| w.zeros[at] as i32));
        let gemv = config.replace("gemm", "gemv");
        let error =
            convert::plan(&folder(&all, &gemv).checkpoint, &f32_file(), None, false).expect_err("a refusal");
        assert_eq!(error.code(), Code::UnsupportedDtype);
    }
}

/// The configuration of integers of compressed-tensors.
fn compressed(bits: u32, group: Option<usize>) -> String {
    let group = group.map_or("null".into(), |g| g.to_string());
    format!(
        r#"{{"quantization_config":{{"quant_method":"compressed-tensors","config_groups":{{"group_0":{{"targets":["Linear"],"weights":{{"num_bits":{bits},"type":"int","group_size":{group}}}}}}}}}}}"#
    )
}

#[test]
fn packed_integers_of_compressed_tensors_with_and_without_zeros() {
    for bits in [4, 8] {
        for (group, asymmetric) in [(Some(32), false), (Some(32), true), (None, false), (None, true)] {
            let w = CodedWeight::random(20, 128, bits, group.unwrap_or(128), 13);
            let codes: Vec<u32> =
                (0..w.rows).flat_map(|r| words((0..w.cols).map(|c| w.code(r, c)), bits)).collect();
            let shape = [w.rows as u64, w.cols as u64];
            let shaped = |shape: [u64; 2]| {
                Tensor::raw(
                    &format!("{STEM}.weight_shape"),
                    DType::I64,
                    &[2],
                    shape.iter().flat_map(|n| n.to_le_bytes()).collect(),
                )
            };
            let mut all = vec![
                integers("weight_packed", DType::I32, &[w.rows, w.cols * bits as usize / 32], &codes),
                floats("weight_scale", DType::BF16, &[w.rows, w.groups], &rounded(&w.scales)),
                shaped(shape),
            ];
            let w = CodedWeight { scales: rounded(&w.scales), ..w };
            let column = |g: usize| words((0..w.rows).map(|r| w.zeros[r * w.groups + g]), bits);
            if asymmetric {
                let columns: Vec<_> = (0..w.groups).map(column).collect();
                let rows = columns[0].len();
                all.push(integers("weight_zero_point", DType::I32, &[rows, w.groups], &transpose(&columns)));
            }
            let label = match group {
                Some(group) => format!("W{bits} g{group} (compressed-tensors)"),
                None => format!("W{bits} per row (compressed-tensors)"),
            };
            let half = 1 << (bits - 1);
            let zero = |at: usize| if asymmetric { w.zeros[at] as i32 } else { half };
            assert_decodes(&folder(&all, &compressed(bits, group)), &label, &w.values(zero));
            let narrow = |n: &u64| (*n as u32).to_le_bytes();
            let bytes: Vec<u8> = shape.iter().flat_map(narrow).collect();
            all[2] = Tensor::raw(&format!("{STEM}.weight_shape"), DType::I32, &[2], bytes);
            assert_decodes(&folder(&all, &compressed(bits, group)), &label, &w.values(zero));
            all[2] = shaped([20, 127]);
            let model = folder(&all, &compressed(bits, group));
            let error = run(&plan(&model, &f32_file()), &[&model], Budget::default()).expect_err("a refusal");
            assert!(error.to_string().contains("weight_shape is [20, 127]"), "{error}");
        }
    }
}

/// Values that BF16 holds.
fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|v| f32::from_bits(v.to_bits() & 0xFFFF_0000)).collect()
}

#[test]
fn signed_bytes_of_compressed_tensors() {
    for zeros in [false, true] {
        let w = CodedWeight::random(9, 100, 8, 100, 17);
        let bytes: Vec<u8> = w.codes.iter().map(|q| *q as u8).collect();
        let mut all = vec![
            Tensor::raw(&format!("{STEM}.weight"), DType::I8, &[9, 100], bytes.clone()),
            floats("weight_scale", DType::F32, &[9, 1], &w.scales),
        ];
        let points: Vec<u8> = w.zeros.iter().map(|z| *z as u8).collect();
        if zeros {
            all.push(Tensor::raw(&format!("{STEM}.weight_zero_point"), DType::I8, &[9, 1], points.clone()));
        }
        let value = |i: usize| {
            let zero = if zeros { points[i / 100] as i8 } else { 0 };
            w.scales[i / 100] * (i32::from(bytes[i] as i8) - i32::from(zero)) as f32
        };
        let expected: Vec<f32> = (0..bytes.len()).map(value).collect();
        assert_decodes(&folder(&all, &compressed(8, None)), "W8 per row (compressed-tensors)", &expected);
    }
}

/// Bytes `[9, 100]` of compressed-tensors, their scales, and scales of activations.
fn bytes_with_scales_of_activations() -> Vec<Tensor> {
    let w = CodedWeight::random(9, 100, 8, 100, 17);
    let bytes = w.codes.iter().map(|q| *q as u8).collect();
    vec![
        Tensor::raw(&format!("{STEM}.weight"), DType::I8, &[9, 100], bytes),
        floats("weight_scale", DType::F32, &[9, 1], &w.scales),
        floats("input_scale", DType::F32, &[1], &[0.5]),
        Tensor::raw(&format!("{STEM}.input_zero_point"), DType::I8, &[1], vec![3]),
    ]
}

#[test]
fn scales_and_zeros_of_activations_beside_integers_are_left_out() {
    let model = folder(&bytes_with_scales_of_activations(), &compressed(8, None));
    assert_eq!(model.checkpoint.tensors.len(), 1);
    let warnings: Vec<&str> = model.checkpoint.warnings.iter().map(|w| w.code).collect();
    assert_eq!(warnings, ["activation_scales"]);
    let stored = model.checkpoint.clone().into_stored();
    assert_eq!((stored.tensors.len(), stored.warnings.len()), (4, 0));
}

#[test]
fn parts_that_do_not_fit_stay_tensors_of_the_file() {
    let mut all = bytes_with_scales_of_activations();
    all[1] = floats("weight_scale", DType::F32, &[8, 1], &[1.0; 8]);
    let model = folder(&all, &compressed(8, None));
    let error = convert::plan(&model.checkpoint, &f32_file(), None, false).expect_err("a refusal");
    assert_eq!(error.code(), Code::BadValue, "{error}");
    assert_eq!(model.checkpoint.into_stored().tensors.len(), all.len());
}

#[test]
fn weights_that_a_model_rotates_while_it_runs_are_refused() {
    let all = bytes_with_scales_of_activations();
    let transformed = |place: &str| {
        let config = compressed(8, None).replacen(
            r#""quant_method""#,
            &format!(
                r#""transform_config":{{"config_groups":{{"R3":{{"type":"hadamard","apply":[{{"location":"{place}"}}]}}}}}},"quant_method""#
            ),
            1,
        );
        let model = folder(&all, &config);
        convert::plan(&model.checkpoint, &f32_file(), None, false).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(transformed("weight_output"), Ok(()));
    let refused = transformed("input").expect_err("a refusal");
    assert!(refused.contains("transform_config"), "{refused}");
}

/// A weight of MLX's affine mode, and its values.
fn mlx(w: &CodedWeight, bits: u32) -> ([Tensor; 3], Vec<f32>) {
    let codes: Vec<u32> = (0..w.rows).flat_map(|r| words((0..w.cols).map(|c| w.code(r, c)), bits)).collect();
    let biases: Vec<f32> = w.zeros.iter().map(|z| *z as f32 / -64.0).collect();
    let all = [
        integers("weight", DType::U32, &[w.rows, w.cols * bits as usize / 32], &codes),
        floats("scales", DType::F16, &[w.rows, w.groups], &w.scales),
        floats("biases", DType::F16, &[w.rows, w.groups], &biases),
    ];
    let value = |i: usize| {
        let at = i / w.cols * w.groups + w.index[i % w.cols];
        let product = w.scales[at] * w.codes[i] as f32;
        product + biases[at]
    };
    (all, (0..w.codes.len()).map(value).collect())
}

/// What a module's settings leave out is what MLX does by default, not what the model's settings say.
#[test]
fn settings_of_an_mlx_module_replace_those_of_the_model() {
    let w = CodedWeight::random(7, 256, 8, 64, 3);
    let (all, expected) = mlx(&w, 8);
    let config =
        format!(r#"{{"quantization":{{"group_size":32,"bits":4,"mode":"mxfp4","{STEM}":{{"bits":8}}}}}}"#);
    assert_decodes(&folder(&all, &config), "W8 g64 (MLX)", &expected);
}

#[test]
fn mlx_affine_of_all_widths_gives_scale_times_code_plus_bias() {
    for bits in [2, 3, 4, 5, 6, 8] {
        for group in [32, 64, 128] {
            let w = CodedWeight::random(7, 256, bits, group, 19);
            let (all, expected) = mlx(&w, bits);
            // The module has bits of its own.
            let config = format!(
                r#"{{"quantization":{{"group_size":16,"bits":7,"mode":"affine","{STEM}":{{"group_size":{group},"bits":{bits},"mode":"affine"}}}}}}"#
            );
            assert_decodes(&folder(&all, &config), &format!("W{bits} g{group} (MLX)"), &expected);
            for refused in ["{}", &config.replace("affine", "mxfp4")] {
                let model = folder(&all, refused);
                let error =
                    convert::plan(&model.checkpoint, &f32_file(), None, false).expect_err("a refusal");
                assert_eq!(error.code(), Code::UnsupportedDtype, "{error}");
            }
            let model = folder(&all[..2], &config);
            let error = convert::plan(&model.checkpoint, &f32_file(), None, false).expect_err("a refusal");
            assert!(error.to_string().contains("down_proj.biases is missing"), "{error}");
        }
    }
}
