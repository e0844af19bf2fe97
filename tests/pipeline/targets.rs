//! Targets: the files of a Hugging Face folder, tensors that the plan carries, the words of recipes.

use crate::support::{foreign, plan};
use quantoscope_core::format::Container;
use quantoscope_core::plan::{FileRange, Grid, Operand, Output, OutputOp, Plan, RowMap, Segment, target};
use quantoscope_core::quant::Encoding;
use quantoscope_core::recipe::{Recipe, TargetName};
use quantoscope_core::schedule::Budget;
use quantoscope_core::tensor::Shape;
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{MemoryModel, run, run_shuffled};
use quantoscope_tests::models::{llama, safetensors};

fn with_tokenizer() -> MemoryModel {
    let files = [
        ("model.safetensors", safetensors(&llama(DType::F32, true, 5))),
        ("config.json", br#"{"model_type":"llama"}"#.to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
        ("tokenizer_config.json", b"{ }".to_vec()),
        ("notes.txt", b"of no model".to_vec()),
    ];
    let files = files.into_iter().map(|(name, bytes)| (name.to_string(), bytes)).collect();
    MemoryModel::directory(files).expect("a sound model")
}

#[test]
fn hf_folder_has_configuration_and_tokenizer() {
    let world = with_tokenizer();
    let folder = plan(&world, &Recipe::new(TargetName::HfFolder, Some(DType::F16)));
    let files: Vec<(&str, u64, bool)> =
        folder.files.iter().map(|f| (f.name.as_str(), f.len, f.copied)).collect();
    let weights = folder.files[0].len;
    let expected = [
        ("model.safetensors", weights, false),
        ("config.json", 22, false),
        ("tokenizer.json", 2, true),
        ("tokenizer_config.json", 3, true),
    ];
    assert_eq!(files, expected);
    let conversion = folder.conversion.as_ref().expect("a conversion");
    assert!(conversion.directory);
    assert_eq!(conversion.container, Container::Safetensors);
    assert_eq!(conversion.totals.total_bytes_out, weights + 27);
    // The weights are those of the file, down to the recorded recipe.
    let file = plan(&world, &Recipe::new(TargetName::Safetensors, Some(DType::F16)));
    assert_eq!(file.files[0].header, folder.files[0].header);
    assert_eq!(file.outputs, folder.outputs);
    assert!(!file.conversion.expect("a conversion").directory);
}

#[test]
fn words_of_targets() {
    for (word, name, written) in [
        ("safetensors", TargetName::Safetensors, "safetensors"),
        ("hf_folder", TargetName::HfFolder, "safetensors"),
        ("gguf", TargetName::Gguf, "gguf"),
        ("q4", TargetName::Lattice, "q4"),
        ("mlx", TargetName::Mlx, "mlx"),
    ] {
        let recipe: Recipe = serde_json::from_str(&format!(r#"{{"to":"{word}"}}"#)).expect("a recipe");
        assert_eq!(recipe.to, name);
        assert_eq!(serde_json::to_value(&recipe).expect("JSON")["to"], written);
    }
    assert!(serde_json::from_str::<Recipe>(r#"{"to":"onnx"}"#).is_err());
}

#[test]
fn folder_accepts_what_the_file_accepts() {
    for dtype in DType::ALL {
        let accepted = |to: TargetName| target::check(&Recipe::new(to, Some(*dtype))).map_err(|e| e.code());
        assert_eq!(accepted(TargetName::HfFolder), accepted(TargetName::Safetensors), "{dtype}");
    }
}

/// The plan with one more tensor, whose values it carries.
fn with_generated(mut plan: Plan, extra: Output) -> Plan {
    let file = &mut plan.files[0];
    let mut extra = extra;
    let bytes = extra.dtype.bytes_for(extra.shape.numel()).expect("whole blocks");
    extra.place = Some(FileRange { file: 0, at: file.len, bytes });
    file.len += bytes;
    plan.outputs.push(extra);
    plan
}

fn table(values: u64) -> Vec<f32> {
    (0..values).map(|i| 10_000_f32.powf(-(i as f32) / values as f32)).collect()
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn generated_tensor_is_written_without_a_source() {
    let world = with_tokenizer();
    let values = table(64);
    let shape = Shape::new([64]).expect("a shape");
    let extra = Output::generated("rope_freqs.weight".into(), DType::F32, shape, bytes_of(&values))
        .expect("bytes of the shape");
    let base = plan(&world, &foreign(DType::F16));
    let before = base.files[0].len as usize;
    let plan = with_generated(base, extra);
    let made = run(&plan, &[&world], Budget::default()).expect("a run");
    assert_eq!(made.files[0][before..], bytes_of(&values));
}

#[test]
fn generated_values_are_encoded_and_permuted_in_any_window() {
    let world = with_tokenizer();
    let (rows, cols) = (64, 512);
    let values = table(rows * cols);
    let shape = Shape::new([rows, cols]).expect("a shape");
    let mut extra = Output::generated("table".into(), DType::F32, shape, bytes_of(&values)).expect("a table");
    extra.dtype = DType::F16;
    let from = Operand::generated(DType::F32, bytes_of(&values));
    extra.grid = Grid { rows, cols };
    extra.segments = Segment::whole(extra.grid, from, OutputOp::Encode(Encoding::Type(DType::F16))).into();
    extra.permute_rows(RowMap::Permute { head: 8 }).expect("whole heads");
    let base = plan(&world, &foreign(DType::F16));
    let before = base.files[0].len as usize;
    let plan = with_generated(base, extra);
    let whole = run(&plan, &[&world], Budget::default()).expect("a run");
    let budget = Budget { memory: 100_000, workers: 1 };
    let cut = run_shuffled(&plan, &[&world], budget, Some(9)).expect("a run");
    assert!(cut.jobs > whole.jobs);
    assert!(cut.files == whole.files);
    let row = |r: u64| values[(r * cols) as usize..((r + 1) * cols) as usize].iter();
    let expected: Vec<u8> = (0..rows)
        .flat_map(|r| row(RowMap::Permute { head: 8 }.operand_row(r)))
        .flat_map(|v| half::f16::from_f32(*v).to_le_bytes())
        .collect();
    assert!(whole.files[0][before..] == expected);
}

#[test]
fn generated_bytes_must_be_those_of_the_shape() {
    let shape = Shape::new([4]).expect("a shape");
    let refused = Output::generated("t".into(), DType::F32, shape, vec![0; 15]).map_err(|e| e.code());
    assert_eq!(refused, Err(Code::SizeMismatch));
}
