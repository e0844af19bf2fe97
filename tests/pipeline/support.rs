//! Short forms of planning, running and reporting.

use quantoscope_core::DType;
use quantoscope_core::format::Container;
use quantoscope_core::plan::{Plan, convert, pair};
use quantoscope_core::recipe::tensor_filter::TensorFilter;
use quantoscope_core::recipe::{Q4Scheme, Recipe, TensorNaming};
use quantoscope_core::report::{CompareReport, VerifyReport, compared, converted, verified};
use quantoscope_core::schedule::Budget;
use quantoscope_tests::memory::{Made, MemoryModel, run};

/// Every type that a GGUF can be written as.
pub(crate) const GGUF_TYPES: [DType; 24] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q8_0,
    DType::Q5_1,
    DType::Q5_0,
    DType::Q4_1,
    DType::Q4_0,
    DType::Q6_K,
    DType::Q5_K,
    DType::Q4_K,
    DType::Q3_K,
    DType::Q2_K,
    DType::IQ4_NL,
    DType::IQ4_XS,
    DType::IQ3_S,
    DType::IQ3_XXS,
    DType::IQ2_S,
    DType::MXFP4,
    DType::NVFP4,
    DType::Q2_0,
    DType::TQ2_0,
    DType::TQ1_0,
    DType::Q1_0,
];

/// Every recipe that there is, `pure` and not.
pub(crate) fn recipes() -> Vec<Recipe> {
    let mut all: Vec<Recipe> = GGUF_TYPES.iter().map(|&t| foreign(t)).collect();
    all.extend([DType::F32, DType::F16, DType::BF16].map(|t| Recipe::new(Container::Safetensors, Some(t))));
    all.push(Recipe::new(Container::LatticeQ4, None));
    all.push(Recipe { q4_scheme: Q4Scheme::Sym, ..Recipe::new(Container::LatticeQ4, None) });
    let pure: Vec<Recipe> = all.iter().map(|r| Recipe { pure: true, ..r.clone() }).collect();
    all.extend(pure);
    all
}

pub(crate) fn gguf(dtype: DType) -> Recipe {
    Recipe::new(Container::Gguf, Some(dtype))
}

/// A GGUF with the tensor names of its source.
pub(crate) fn foreign(dtype: DType) -> Recipe {
    Recipe { names: TensorNaming::Source, ..gguf(dtype) }
}

pub(crate) fn q4() -> Recipe {
    Recipe::new(Container::LatticeQ4, None)
}

pub(crate) fn plan(model: &MemoryModel, recipe: &Recipe) -> Plan {
    convert::plan(&model.checkpoint, recipe, None, true).expect("a plan")
}

/// Plans and runs.
pub(crate) fn make(model: &MemoryModel, recipe: &Recipe) -> (Plan, Made) {
    let plan = plan(model, recipe);
    let made = run(&plan, &[model], Budget::default()).expect("a run");
    (plan, made)
}

/// What was made, opened again.
pub(crate) fn reopen(plan: &Plan, made: &Made) -> MemoryModel {
    let files = plan.files.iter().map(|f| f.name.clone()).zip(made.files.iter().cloned());
    match plan.conversion.as_ref().expect("a conversion") {
        c if c.directory => MemoryModel::directory(files.collect()).expect("a sound directory"),
        c => MemoryModel::file(&format!("out.{}", c.container.name()), made.files[0].clone())
            .expect("a sound file"),
    }
}

/// Converts and opens the result.
pub(crate) fn remake(model: &MemoryModel, recipe: &Recipe) -> MemoryModel {
    let (plan, made) = make(model, recipe);
    reopen(&plan, &made)
}

/// The report of a conversion, as its JSON.
pub(crate) fn report(model: &MemoryModel, plan: &Plan, made: &Made) -> String {
    let report = converted(&model.checkpoint, plan, Some(&made.collected)).expect("a report");
    serde_json::to_string(&report).expect("JSON")
}

/// Compares two checkpoints with the usual threshold.
pub(crate) fn compare(reference: &MemoryModel, candidate: &MemoryModel) -> CompareReport {
    let pairing = pair::compare(&reference.checkpoint, &candidate.checkpoint, &TensorFilter::default())
        .expect("a pairing");
    let made = run(&pairing.plan, &[reference, candidate], Budget::default()).expect("a run");
    compared(("a", "b"), &pairing.plan, pairing.findings, &made.collected, Some(0.95))
}

/// Verifies an artefact against its source.
pub(crate) fn verify(source: &MemoryModel, artefact: &MemoryModel) -> VerifyReport {
    let pairing = pair::verify(&source.checkpoint, &artefact.checkpoint, None).expect("a pairing");
    let made = run(&pairing.plan, &[source, artefact], Budget::default()).expect("a run");
    verified(("a", "b"), &pairing.plan, pairing.findings, &made.collected)
}

/// The kinds of the findings, in order.
pub(crate) fn kinds(report: &CompareReport) -> Vec<&'static str> {
    report.findings.iter().map(|f| f.kind).collect()
}

/// Asserts that nothing differs at all.
#[track_caller]
pub(crate) fn assert_equal(report: &CompareReport, tensors: usize) {
    assert_eq!(report.findings, [], "no finding");
    assert_eq!(report.tensors.len(), tensors);
    for row in &report.tensors {
        assert_eq!((row.error.rmse, row.error.max_abs), (Some(0.0), Some(0.0)), "{}", row.tensor);
    }
    assert!(report.passes());
}
