//! The choice of `auto` between the processor and a device, from rates that are given.

use quantoscope_accel::device::Kernel;
use quantoscope_accel::select::{self, KernelLoad};
use quantoscope_core::DType;
use quantoscope_core::format::Container;
use quantoscope_core::plan::convert;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::schedule::whole;
use quantoscope_tests::memory::MemoryModel;
use quantoscope_tests::models::{Rng, Tensor};

const fn encoder(from: DType, to: DType) -> Kernel {
    Kernel::Quantize { from, to, weighted: false }
}

#[test]
fn loads_count_every_value_of_an_encoder_once() {
    let mut rng = Rng(3);
    let mut tensor = |name, dtype, rows| Tensor::random(name, dtype, &[rows, 256], &mut rng);
    let model = MemoryModel::safetensors(&[
        tensor("model.layers.0.mlp.up_proj.weight", DType::F32, 10),
        tensor("model.layers.1.mlp.up_proj.weight", DType::F32, 7),
        tensor("model.layers.2.mlp.up_proj.weight", DType::BF16, 5),
    ]);
    let recipe = Recipe::new(Container::Gguf, Some(DType::Q8_0));
    let plan = convert::plan(&model.checkpoint, &recipe, None, true).expect("a plan");
    let loads = select::loads(whole(&plan), |kernel| if kernel.from() == DType::F32 { 100.0 } else { 50.0 });
    let expected = |from, rows: u64, processor_rate| KernelLoad {
        kernel: encoder(from, DType::Q8_0),
        values: rows * 256,
        processor_rate,
    };
    assert_eq!(loads, [expected(DType::F32, 17, 100.0), expected(DType::BF16, 5, 50.0)]);
    assert_eq!(loads[0].seconds(), 43.52);
}

#[test]
fn work_is_long_from_ten_seconds_of_the_processor() {
    let load =
        |values| KernelLoad { kernel: encoder(DType::F32, DType::Q4_K), values, processor_rate: 100.0 };
    assert!(!select::is_long(&[]));
    assert!(!select::is_long(&[load(999)]));
    assert!(select::is_long(&[load(1000)]));
    assert!(select::is_long(&[load(500), load(500)]), "kernels add up");
}

#[test]
fn a_device_gets_the_kernels_that_it_is_a_quarter_faster_at() {
    let load = |to, values| KernelLoad { kernel: encoder(DType::F32, to), values, processor_rate: 100.0 };
    let loads = [load(DType::Q4_K, 1000), load(DType::Q8_0, 5000), load(DType::Q6_K, 300)];
    let rate = |k: Kernel| match k.to() {
        DType::Q4_K => Some(126.0),
        DType::Q8_0 => Some(125.0),
        _ => None,
    };
    assert_eq!(select::offloaded(&loads, rate), (vec![loads[0].kernel], 10.0));
    assert_eq!(select::offloaded(&loads, |_| None), (vec![], 0.0));
}
