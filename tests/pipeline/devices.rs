//! Jobs with a device: files, reports and refusals equal the CPU reference, even if the device fails or
//! returns wrong bytes.

#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
use crate::rotated_windows::made;
use crate::support::{gguf, report};
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
use quantoscope_accel::Engine;
use quantoscope_accel::device::Offload;
use quantoscope_core::format::Container;
use quantoscope_core::job::{SAMPLE_RATE, SpotCheckStats};
use quantoscope_core::kernels::Scalar;
use quantoscope_core::plan::{Plan, convert, measure};
use quantoscope_core::quant::Encoding;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::rotation::RotationOptions;
use quantoscope_core::report::stats;
use quantoscope_core::schedule::Budget;
use quantoscope_core::{Code, DType};
use quantoscope_tests::fake_device::{FakeDevice, FakeFaults};
use quantoscope_tests::memory::{Made, MemoryModel, run, run_with};
use quantoscope_tests::models::{Rng, Tensor, llama};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const BUDGET: Budget = Budget { memory: 200_000, workers: 1 };
const TYPES: [DType; 3] = [DType::Q8_0, DType::Q4_1, DType::Q4_K];

/// The graphics device of this machine; its absence is a failure.
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
fn graphics() -> &'static Offload {
    static ONE: std::sync::OnceLock<&Offload> = std::sync::OnceLock::new();
    ONE.get_or_init(open_graphics)
}

#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
fn open_graphics() -> &'static Offload {
    let engine = pollster::block_on(Engine::open("gpu")).expect("a device");
    assert_eq!(engine.name(), "gpu");
    let device = engine.device().expect("a device");
    pollster::block_on(device.probe(|k| k.block().block_len() <= 32)).expect("a device that works");
    device
}

fn fake_device(types: &[DType], seed: u64) -> (Offload, Arc<FakeFaults>) {
    let faults = Arc::new(FakeFaults::default());
    let device = Box::new(FakeDevice::new(types, &faults));
    let offload = Offload::new("stand-in", device, &Scalar);
    pollster::block_on(offload.probe(|_| true)).expect("a device that works");
    faults.made.store(0, Relaxed);
    (offload.with_seed(seed), faults)
}

/// Runs a plan, and once more where the device came into doubt; and what it made.
fn on(
    offload: &Offload,
    plan: &Plan,
    model: &MemoryModel,
) -> quantoscope_core::Result<(Made, SpotCheckStats)> {
    on_within(offload, plan, model, BUDGET)
}

fn on_within(
    offload: &Offload,
    plan: &Plan,
    model: &MemoryModel,
    budget: Budget,
) -> quantoscope_core::Result<(Made, SpotCheckStats)> {
    let made = Cell::new(SpotCheckStats::default());
    let attempt = || {
        run_with(plan, &[model], budget, None, |job, inputs, scratch| {
            let done = pollster::block_on(offload.run(job, inputs, scratch))?;
            let mut all = made.get();
            all.merge(&done.made);
            made.set(all);
            Ok(done)
        })
    };
    let first = attempt()?;
    let again = if made.get().differing > 0 { attempt()? } else { first };
    Ok((again, made.get()))
}

fn mixed_model(stored: DType) -> MemoryModel {
    let mut all = llama(stored, false, 3);
    all.push(Tensor::random("long.weight", stored, &[5, 9984], &mut Rng(7)));
    all.push(Tensor::random("odd.weight", stored, &[37, 33], &mut Rng(8)));
    MemoryModel::safetensors(&all)
}

/// Converts to each type by a device, measured and not; how many blocks are the device's.
fn converts(offload: &Offload, types: &[DType]) -> u64 {
    let mut blocks = 0;
    for stored in [DType::BF16, DType::F16, DType::F32] {
        let model = mixed_model(stored);
        for &to in types {
            for measured in [false, true] {
                let recipe = Recipe { pure: true, ..gguf(to) };
                let plan = convert::plan(&model.checkpoint, &recipe, None, measured).expect("a plan");
                let want = run(&plan, &[&model], BUDGET).expect("a run");
                let (got, made) = on(offload, &plan, &model).expect("a run");
                assert!(got.files == want.files, "{stored} to {to}");
                assert_eq!(report(&model, &plan, &got), report(&model, &plan, &want), "{stored} to {to}");
                assert_eq!(made.differing, 0);
                blocks += made.blocks;
            }
        }
    }
    blocks
}

#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
#[test]
#[ignore = "make proof"]
fn conversion_by_gpu_equals_the_reference() {
    let blocks = converts(graphics(), &[DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1]);
    // 5 rows of 9984 alone are 1560 blocks.
    assert!(blocks >= 1560 * 3 * 5 * 2, "{blocks}");
    assert_eq!(converts(graphics(), &[DType::IQ4_NL]), 0);
}

/// From blocks to blocks, and back to values: nothing in between leaves the device.
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
#[test]
#[ignore = "make proof"]
fn requantization_by_gpu_equals_the_reference() {
    let source = mixed_model(DType::BF16);
    let packed = convert::plan(&source.checkpoint, &Recipe { pure: true, ..gguf(DType::Q8_0) }, None, false);
    let packed = run(&packed.expect("a plan"), &[&source], BUDGET).expect("a run").files.remove(0);
    let model = MemoryModel::file("model.gguf", packed).expect("a sound file");
    for to in [DType::Q4_0, DType::Q5_1, DType::F32] {
        let recipe = Recipe { pure: true, allow_requantize: true, ..gguf(to) };
        let plan = convert::plan(&model.checkpoint, &recipe, None, true).expect("a plan");
        let want = run(&plan, &[&model], BUDGET).expect("a run");
        let (got, made) = on(graphics(), &plan, &model).expect("a run");
        assert!(got.files == want.files && made.blocks > 1000 && made.differing == 0, "{to}: {made:?}");
        assert_eq!(report(&model, &plan, &got), report(&model, &plan, &want), "{to}");
    }
}

/// Gains, rotations of rows, columns and heads, and encoding in one submission. F32 of rules 2 is carried in
/// binary64, which no device has: the processor makes it.
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
#[test]
#[ignore = "make proof"]
fn rotation_by_gpu_equals_the_reference() {
    let model = made(256);
    let options = |spec: &str, rules| RotationOptions {
        rules,
        ..RotationOptions::parse(spec, 5).expect("options of a rotation")
    };
    let latest = RotationOptions::parse("quarot", 5).expect("options of a rotation").rules;
    let cases = [
        ("quarot,r2", DType::F32, 1, true),
        ("quarot,r2", DType::F32, latest, false),
        ("quarot", DType::Q8_0, latest, true),
        ("quarot,r2", DType::Q4_0, latest, true),
    ];
    for (spec, to, rules, offloaded) in cases {
        let rotate = Some(options(spec, rules));
        let recipe = match to {
            DType::F32 => Recipe { rotate, ..Recipe::new(Container::Safetensors, Some(to)) },
            _ => Recipe { rotate, pure: true, ..gguf(to) },
        };
        let plan = convert::plan(&model.checkpoint, &recipe, None, true).expect("a plan");
        let budget = Budget { memory: 64 << 20, workers: 1 };
        let want = run(&plan, &[&model], budget).expect("a run");
        let (got, made) = on_within(graphics(), &plan, &model, budget).expect("a run");
        assert!(got.files == want.files && made.differing == 0, "{to} of rules {rules}: {made:?}");
        assert_eq!(made.blocks > 1000, offloaded, "{to} of rules {rules}: {made:?}");
        assert_eq!(report(&model, &plan, &got), report(&model, &plan, &want), "{to} of rules {rules}");
    }
}

#[test]
fn conversion_by_fake_device_equals_the_reference() {
    let (offload, faults) = fake_device(&TYPES, 1);
    let blocks = converts(&offload, &TYPES);
    assert_eq!(blocks, faults.made.load(Relaxed));
    assert!(blocks > 10_000 && offload.ended().is_none());
}

#[test]
fn sweep_by_fake_device_equals_the_reference() {
    let (offload, _) = fake_device(&TYPES, 1);
    let model = mixed_model(DType::BF16);
    let encodings = [DType::Q4_K, DType::Q6_K, DType::Q8_0].map(Encoding::Type);
    let plan = measure::sweep(&model.checkpoint, &encodings, None, &|_| true).expect("a plan");
    let want = run(&plan, &[&model], BUDGET).expect("a run");
    let (got, made) = on(&offload, &plan, &model).expect("a run");
    let text = |made: &Made| serde_json::to_string(&stats(&plan, &made.collected, 10)).unwrap();
    assert_eq!(text(&got), text(&want));
    assert!(made.blocks > 1000, "{made:?}");
}

#[test]
#[ignore = "make proof"]
fn refusals_by_fake_device_equal_the_reference() {
    let (sound, _) = fake_device(&TYPES, 1);
    for (bad, code) in [(f32::NAN, Code::NonFinite), (1e30, Code::F16Overflow)] {
        let mut values = Rng(3).weights(64 * 2048);
        values[64 * 2048 - 40] = bad;
        let name = "model.layers.0.mlp.up_proj.weight";
        let model = MemoryModel::safetensors(&[Tensor::of(name, DType::F32, &[64, 2048], &values)]);
        let recipe = Recipe { pure: true, ..gguf(DType::Q4_1) };
        let plan = convert::plan(&model.checkpoint, &recipe, None, false).expect("a plan");
        let want = run(&plan, &[&model], BUDGET).expect_err("refused");
        let check = |offload: &Offload| {
            let got = on(offload, &plan, &model).expect_err("refused");
            assert_eq!((&got, got.code()), (&want, code));
            // It is not the device's fault.
            assert_eq!(offload.ended(), None);
        };
        check(&sound);
        #[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
        check(graphics());
    }
}

#[test]
fn conversion_by_failing_device_equals_the_reference() {
    let (offload, faults) = fake_device(&TYPES, 1);
    faults.fails.store(true, Relaxed);
    assert_eq!(converts(&offload, &TYPES), 0);
    assert_eq!(offload.ended().as_deref(), Some("the stand-in is gone"));
}

/// A device that spoils a share of its blocks is missed as often as the report says, and whenever it is not,
/// the files are right.
#[test]
fn spot_check_of_rare_errors_misses_as_predicted() {
    let model =
        MemoryModel::safetensors(&[Tensor::random("long.weight", DType::BF16, &[8, 8192], &mut Rng(7))]);
    let recipe = Recipe { pure: true, ..gguf(DType::Q8_0) };
    let plan = convert::plan(&model.checkpoint, &recipe, None, false).expect("a plan");
    let want = run(&plan, &[&model], BUDGET).expect("a run");
    // The same blocks are spoiled in every run; other ones are made again.
    let spoiled = (0..2048).filter(|at| Rng(*at).bits().is_multiple_of(11)).count();
    let (mut missed, runs) = (0_u32, 300);
    for seed in 0..runs {
        let (offload, faults) = fake_device(&[DType::Q8_0], seed);
        faults.spoils_one_in.store(11, Relaxed);
        let (got, made) = on(&offload, &plan, &model).expect("a run");
        if made.differing == 0 {
            missed += 1;
            assert_eq!((made.blocks, faults.spoiled.load(Relaxed)), (2048, spoiled as u64));
            assert!(got.files != want.files);
        } else {
            assert!(got.files == want.files, "caught, and mended");
            assert!(offload.ended().is_some_and(|why| why.contains("wrong bytes")));
        }
    }
    let one = (1.0 - 1.0 / SAMPLE_RATE as f64).powi(spoiled as i32);
    let (expected, sigma) = (one * runs as f64, (one * (1.0 - one) * runs as f64).sqrt());
    assert!((f64::from(missed) - expected).abs() < 4.0 * sigma, "{missed} missed, {expected} expected");
    assert!(missed > 50, "{missed}");
}

#[test]
fn spot_check_detectable_share_equals_the_probability() {
    let made = SpotCheckStats { blocks: 1_000_000, checked: 3900, differing: 0 };
    let share = made.detectable_share(0.001).expect("enough blocks");
    assert!((made.missed(share) - 0.001).abs() < 1e-5, "{share}");
    assert_eq!(SpotCheckStats { blocks: 1000, ..made }.detectable_share(0.001), None);
}
