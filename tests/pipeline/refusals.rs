//! Refused conversions, and the tensor and element that the error names.

use crate::support::{gguf, plan, q4, recipes, remake};
use quantoscope_core::error::Error;
use quantoscope_core::plan::{convert, target};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::schedule::Budget;
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{MemoryModel, run};
use quantoscope_tests::models::{Rng, Tensor, llama};

fn place(e: &Error) -> (Code, Option<&str>, Option<u64>) {
    (e.code(), e.detail().tensor.as_deref(), e.detail().element)
}

/// One bad value in a large weight, found in windows of every size.
#[test]
fn conversion_of_nan_names_the_element() {
    for (bad, at) in
        [(f32::NAN, 0), (f32::INFINITY, 70_001), (f32::NEG_INFINITY, 199 * 768 + 767), (f32::NAN, 65_536)]
    {
        let mut values = Rng(1).weights(200 * 768);
        values[at] = bad;
        let model = MemoryModel::safetensors(&[Tensor::of("a.weight", DType::F32, &[200, 768], &values)]);
        for recipe in recipes().into_iter().filter(|r| r.dtype.is_none_or(DType::is_quantized)) {
            for memory in [64 << 20, 60_000] {
                let error = run(&plan(&model, &recipe), &[&model], Budget { memory, workers: 1 });
                let error = error.expect_err("not finite");
                assert_eq!(place(&error).0, Code::NonFinite, "{recipe:?}");
                assert_eq!(place(&error).2, Some(at as u64), "{recipe:?} with {memory}");
            }
        }
    }
}

#[test]
fn conversion_overflowing_a_scale_names_the_element() {
    let mut values = Rng(1).weights(64 * 64);
    values[1234] = 1e6;
    let model = MemoryModel::safetensors(&[Tensor::of("a.weight", DType::F32, &[64, 64], &values)]);
    let error = run(&plan(&model, &q4()), &[&model], Budget::default()).expect_err("too large");
    assert_eq!((place(&error).0, place(&error).2), (Code::F16Overflow, Some(1234)));
    // A norm that would not fit the `.f16` file is refused as well: its reader would refuse the file.
    let model = MemoryModel::safetensors(&[Tensor::of("norm.weight", DType::F32, &[2], &[1.0, 70_000.0])]);
    let error = run(&plan(&model, &q4()), &[&model], Budget::default()).expect_err("too large");
    assert_eq!((place(&error).0, place(&error).2), (Code::F16Overflow, Some(1)));
}

/// A scale is applied, and one that scales nothing is a tensor like others.
#[test]
fn conversion_of_f8_takes_its_scale_only() {
    let weight = Tensor::raw("a.weight", DType::F8_E4M3, &[32, 32], vec![0x38; 1024]);
    let converted = |scale: &str| {
        let model = MemoryModel::safetensors(&[weight.clone(), Tensor::of(scale, DType::F32, &[1], &[0.5])]);
        let plan = convert::plan(&model.checkpoint, &gguf(DType::Q8_0), None, true).expect("a plan");
        plan.outputs.len()
    };
    assert_eq!(converted("a.weight_scale"), 1);
    assert_eq!(converted("a.weight_scale_inv"), 1);
    assert_eq!(converted("b.weight_scale"), 2);
}

#[test]
fn conversion_of_quantized_source_needs_permission() {
    let model = MemoryModel::safetensors(&llama(DType::BF16, true, 2));
    let first = remake(&model, &gguf(DType::Q8_0));
    let again = gguf(DType::Q4_0);
    let error = convert::plan(&first.checkpoint, &again, None, true).expect_err("quantized already");
    assert_eq!(error.code(), Code::Requantize);
    assert!(error.to_string().contains("--allow-requantize") && error.detail().tensor.is_some(), "{error}");
    assert!(
        convert::plan(&first.checkpoint, &Recipe { allow_requantize: true, ..again }, None, true).is_ok()
    );
    assert!(convert::plan(&first.checkpoint, &gguf(DType::Q8_0), None, true).is_ok(), "a copy loses nothing");
}

#[test]
fn conversion_with_invalid_recipe_is_refused() {
    use quantoscope_core::format::Container;
    let refused = |r: Recipe| target::check(&r).expect_err("nonsense").code();
    assert!(target::check(&Recipe::new(Container::Gguf, None)).is_ok(), "keeps the source's precision");
    assert_eq!(refused(Recipe::new(Container::Safetensors, None)), Code::Usage);
    assert_eq!(refused(Recipe::new(Container::LatticeQ4, Some(DType::Q4_0))), Code::Usage);
    assert_eq!(refused(Recipe::new(Container::Safetensors, Some(DType::Q4_0))), Code::Usage);
    assert_eq!(refused(Recipe::new(Container::Gguf, Some(DType::LATTICE_Q4))), Code::Usage);
    assert_eq!(refused(Recipe::new(Container::Gguf, Some(DType::Q8_K))), Code::UnsupportedDtype);
    assert_eq!(refused(Recipe::new(Container::Gguf, Some(DType::F64))), Code::UnsupportedDtype);
}

#[test]
fn conversion_without_required_importance_names_the_tensor() {
    let values = vec![1.0; 4 * 256];
    let model = MemoryModel::safetensors(&[Tensor::of("a.proj.weight", DType::F32, &[4, 256], &values)]);
    for dtype in [DType::IQ1_S, DType::IQ1_M, DType::IQ2_XXS, DType::IQ2_XS] {
        let error = convert::plan(&model.checkpoint, &gguf(dtype), None, true).expect_err("no weights");
        assert_eq!(place(&error), (Code::NeedsImportance, Some("a.proj.weight"), None));
    }
    for dtype in [DType::IQ2_S, DType::IQ3_XXS, DType::IQ3_S] {
        let plan = convert::plan(&model.checkpoint, &gguf(dtype), None, true).expect("a plan");
        assert!(
            plan.warnings.iter().any(|w| w.message.contains("importance")),
            "{dtype}: {:?}",
            plan.warnings
        );
    }
}

#[test]
fn conversion_without_tensors_is_refused() {
    let model = MemoryModel::safetensors(&[]);
    let error = convert::plan(&model.checkpoint, &gguf(DType::Q4_0), None, true).expect_err("nothing to do");
    assert_eq!(error.code(), Code::Empty);
}

#[test]
fn conversion_to_container_without_the_type_names_the_tensor() {
    let u16s = Tensor::raw("ids", DType::U16, &[4], vec![0; 8]);
    let model =
        MemoryModel::safetensors(&[Tensor::random("a.weight", DType::F32, &[32, 32], &mut Rng(1)), u16s]);
    for recipe in [gguf(DType::Q8_0), q4()] {
        let error = convert::plan(&model.checkpoint, &recipe, None, true).expect_err("no such type there");
        assert_eq!(place(&error), (Code::UnsupportedDtype, Some("ids"), None));
    }
    let deep = Tensor::random("a.weight", DType::F32, &[1, 2, 1, 2, 32], &mut Rng(1));
    let model = MemoryModel::safetensors(&[deep]);
    let error = convert::plan(&model.checkpoint, &gguf(DType::Q8_0), None, true).expect_err("five axes");
    assert_eq!(
        error.code().kind(),
        quantoscope_core::ErrorKind::Unsupported,
        "{error}: the file is not to blame"
    );
    assert_eq!(error.detail().tensor.as_deref(), Some("a.weight"));
}
