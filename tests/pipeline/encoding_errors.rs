//! Encodings of the lattice container on weights of a trained model; `conformance/order.rs` has the others.

use quantoscope_core::DType;
use quantoscope_core::plan::measure;
use quantoscope_core::quant::Encoding;
use quantoscope_core::report::{StatsReport, stats};
use quantoscope_core::schedule::Budget;
use quantoscope_tests::binary::sample;
use quantoscope_tests::memory::{MemoryModel, run};

fn swept(types: &[Encoding]) -> StatsReport {
    let bytes = std::fs::read(sample().join("model.safetensors")).expect("the sample model");
    let world = MemoryModel::file("model.safetensors", bytes).expect("a sound file");
    let wanted = |t: &quantoscope_core::tensor::TensorInfo| t.shape.axes().len() >= 2;
    let plan = measure::sweep(&world.checkpoint, types, None, &wanted).expect("a plan");
    let made = run(&plan, &[&world], Budget::default()).expect("a run");
    stats(&plan, &made.collected, 0)
}

/// A scheme with a minimum has 16 levels where the symmetric one uses 15.
#[test]
fn the_asymmetric_lattice_block_is_no_worse_than_the_symmetric_one() {
    for t in swept(&[Encoding::LatticeAsym, Encoding::LatticeSym, Encoding::Type(DType::BF16)]).tensors {
        let rmse: Vec<f64> = t.encodings.iter().map(|e| e.error.as_ref().unwrap().rmse.unwrap()).collect();
        assert!(rmse[0] <= rmse[1], "{}: {rmse:?}", t.name);
        assert_eq!(rmse[2], 0.0, "{}: the source is BF16 already", t.name);
    }
}
