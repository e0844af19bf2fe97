//! What is refused, with the place where it is wrong.

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
fn a_value_that_is_no_number_is_named_to_the_element() {
    for (bad, at) in
        [(f32::NAN, 0), (f32::INFINITY, 70_001), (f32::NEG_INFINITY, 199 * 768 + 767), (f32::NAN, 65_536)]
    {
        let mut values = Rng(1).weights(200 * 768);
        values[at] = bad;
        let world = MemoryModel::safetensors(&[Tensor::of("a.weight", DType::F32, &[200, 768], &values)]);
        for recipe in recipes().into_iter().filter(|r| r.dtype.is_none_or(DType::is_quantized)) {
            for memory in [64 << 20, 60_000] {
                let error = run(&plan(&world, &recipe), &[&world], Budget { memory, workers: 1 });
                let error = error.expect_err("not finite");
                assert_eq!(place(&error).0, Code::NonFinite, "{recipe:?}");
                assert_eq!(place(&error).2, Some(at as u64), "{recipe:?} with {memory}");
            }
        }
    }
}

#[test]
fn a_value_too_large_for_a_16_bit_scale_is_named() {
    let mut values = Rng(1).weights(64 * 64);
    values[1234] = 1e6;
    let world = MemoryModel::safetensors(&[Tensor::of("a.weight", DType::F32, &[64, 64], &values)]);
    let error = run(&plan(&world, &q4()), &[&world], Budget::default()).expect_err("too large");
    assert_eq!((place(&error).0, place(&error).2), (Code::F16Overflow, Some(1234)));
    // A norm that would not fit the `.f16` file is refused as well: its reader would refuse the file.
    let world = MemoryModel::safetensors(&[Tensor::of("norm.weight", DType::F32, &[2], &[1.0, 70_000.0])]);
    let error = run(&plan(&world, &q4()), &[&world], Budget::default()).expect_err("too large");
    assert_eq!((place(&error).0, place(&error).2), (Code::F16Overflow, Some(1)));
}

#[test]
fn an_8_bit_float_with_its_scale_beside_it_is_refused() {
    let weight = Tensor::raw("a.weight", DType::F8_E4M3, &[32, 32], vec![0x38; 1024]);
    for scale in ["a.weight_scale", "a.weight_scale_inv"] {
        let world = MemoryModel::safetensors(&[weight.clone(), Tensor::of(scale, DType::F32, &[1], &[1.0])]);
        let error =
            convert::plan(&world.checkpoint, &gguf(DType::Q8_0), None, true).expect_err("not applied");
        assert_eq!(place(&error), (Code::UnsupportedDtype, Some("a.weight"), None));
        assert!(error.to_string().contains(scale), "{error}");
    }
    let alone = MemoryModel::safetensors(&[weight, Tensor::of("b.weight_scale", DType::F32, &[1], &[1.0])]);
    assert!(convert::plan(&alone.checkpoint, &gguf(DType::Q8_0), None, true).is_ok());
}

#[test]
fn quantized_sources_are_refused_without_leave() {
    let world = MemoryModel::safetensors(&llama(DType::BF16, true, 2));
    let first = remake(&world, &gguf(DType::Q8_0));
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
fn recipes_that_make_no_sense_are_refused() {
    use quantoscope_core::format::Container;
    let refused = |r: Recipe| target::check(&r).expect_err("nonsense").code();
    assert_eq!(refused(Recipe::new(Container::Gguf, None)), Code::Usage);
    assert_eq!(refused(Recipe::new(Container::LatticeQ4, Some(DType::Q4_0))), Code::Usage);
    assert_eq!(refused(Recipe::new(Container::Safetensors, Some(DType::Q4_0))), Code::Usage);
    assert_eq!(refused(Recipe::new(Container::Gguf, Some(DType::LATTICE_Q4))), Code::Usage);
    assert_eq!(refused(Recipe::new(Container::Gguf, Some(DType::Q8_K))), Code::UnsupportedDtype);
    assert_eq!(refused(Recipe::new(Container::Gguf, Some(DType::F64))), Code::UnsupportedDtype);
}

#[test]
fn a_type_that_needs_weights_is_refused_by_the_name_of_what_has_none() {
    let values = vec![1.0; 4 * 256];
    let world = MemoryModel::safetensors(&[Tensor::of("a.proj.weight", DType::F32, &[4, 256], &values)]);
    for dtype in [DType::IQ1_S, DType::IQ1_M, DType::IQ2_XXS, DType::IQ2_XS] {
        let error = convert::plan(&world.checkpoint, &gguf(dtype), None, true).expect_err("no weights");
        assert_eq!(place(&error), (Code::NeedsImportance, Some("a.proj.weight"), None));
    }
    for dtype in [DType::IQ2_S, DType::IQ3_XXS, DType::IQ3_S] {
        let plan = convert::plan(&world.checkpoint, &gguf(dtype), None, true).expect("a plan");
        assert!(
            plan.warnings.iter().any(|w| w.message.contains("importance")),
            "{dtype}: {:?}",
            plan.warnings
        );
    }
}

#[test]
fn a_checkpoint_without_tensors_is_refused() {
    let world = MemoryModel::safetensors(&[]);
    let error = convert::plan(&world.checkpoint, &gguf(DType::Q4_0), None, true).expect_err("nothing to do");
    assert_eq!(error.code(), Code::Empty);
}

#[test]
fn what_a_container_cannot_hold_is_refused_by_name() {
    let u16s = Tensor::raw("ids", DType::U16, &[4], vec![0; 8]);
    let world =
        MemoryModel::safetensors(&[Tensor::random("a.weight", DType::F32, &[32, 32], &mut Rng(1)), u16s]);
    for recipe in [gguf(DType::Q8_0), q4()] {
        let error = convert::plan(&world.checkpoint, &recipe, None, true).expect_err("no such type there");
        assert_eq!(place(&error), (Code::UnsupportedDtype, Some("ids"), None));
    }
    let deep = Tensor::random("a.weight", DType::F32, &[1, 2, 1, 2, 32], &mut Rng(1));
    let world = MemoryModel::safetensors(&[deep]);
    let error = convert::plan(&world.checkpoint, &gguf(DType::Q8_0), None, true).expect_err("five axes");
    assert_eq!(
        error.code().kind(),
        quantoscope_core::ErrorKind::Unsupported,
        "{error}: the file is not to blame"
    );
    assert_eq!(error.detail().tensor.as_deref(), Some("a.weight"));
}
