//! Jobs on the graphics device: the same files, reports and refusals as by the definition.

use crate::support::{gguf, report};
use quantoscope_accel::Engine;
use quantoscope_accel::gpu::Graphics;
use quantoscope_core::plan::{Plan, convert};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::schedule::Budget;
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{Made, World, run, run_with};
use quantoscope_tests::models::{Rng, Tensor, llama};

const BUDGET: Budget = Budget { memory: 200_000, workers: 1 };

fn graphics() -> Graphics {
    match pollster::block_on(Engine::open("gpu")) {
        Ok(Engine::Gpu(graphics)) => graphics,
        other => panic!("no device: {other:?}"),
    }
}

fn on(graphics: Graphics, plan: &Plan, world: &World) -> quantoscope_core::Result<Made> {
    let engine = Engine::Gpu(graphics);
    run_with(plan, &[world], BUDGET, None, |job, inputs, scratch| {
        pollster::block_on(engine.run(job, inputs, scratch))
    })
}

#[test]
fn files_and_reports_are_the_definitions() {
    let graphics = graphics();
    assert_eq!(Engine::Gpu(graphics).name(), "gpu");
    for stored in [DType::BF16, DType::F16, DType::F32] {
        let mut all = llama(stored, false, 3);
        all.push(Tensor::random("long.weight", stored, &[5, 9984], &mut Rng(7)));
        all.push(Tensor::random("odd.weight", stored, &[37, 33], &mut Rng(8)));
        let world = World::safetensors(&all);
        // The last is one that the device has no kernel for.
        for to in [DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1, DType::IQ4_NL] {
            for measured in [false, true] {
                let recipe = Recipe { pure: true, ..gguf(to) };
                let plan = convert::plan(&world.checkpoint, &recipe, measured).expect("a plan");
                let before = graphics.gpu().made();
                let want = run(&plan, &[&world], BUDGET).expect("a run");
                let got = on(graphics, &plan, &world).expect("a run");
                assert!(got.files == want.files, "{stored} to {to}");
                assert_eq!(report(&world, &plan, &got), report(&world, &plan, &want), "{stored} to {to}");
                // 5 rows of 9984 alone are 1560 blocks.
                let made = graphics.gpu().made() - before;
                assert_eq!(made >= 1560, to != DType::IQ4_NL, "{made} blocks of {to} are the device's");
            }
        }
    }
}

#[test]
fn refusals_are_the_definitions() {
    let graphics = graphics();
    for (bad, code) in [(f32::NAN, Code::NonFinite), (1e30, Code::F16Overflow)] {
        let mut values = Rng(3).weights(64 * 2048);
        values[64 * 2048 - 40] = bad;
        let world = World::safetensors(&[Tensor::of(
            "model.layers.0.mlp.up_proj.weight",
            DType::F32,
            &[64, 2048],
            &values,
        )]);
        let plan = convert::plan(&world.checkpoint, &Recipe { pure: true, ..gguf(DType::Q5_1) }, false)
            .expect("a plan");
        let want = run(&plan, &[&world], BUDGET).expect_err("refused");
        let got = on(graphics, &plan, &world).expect_err("refused");
        assert_eq!(got, want);
        assert_eq!(got.code(), code);
    }
}
