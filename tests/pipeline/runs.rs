//! The run loop: order, resumption from any records, restart without a device, and the byte form of records.

use proptest::prelude::*;
use quantoscope_core::DType;
use quantoscope_core::format::Container;
use quantoscope_core::job::{self, Job, SpotCheckStats, Workspace};
use quantoscope_core::kernels::Scalar;
use quantoscope_core::metric::Measurements;
use quantoscope_core::plan::{Plan, convert, measure};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::report::stats;
use quantoscope_core::run::Run;
use quantoscope_core::schedule::{Budget, USUAL_WINDOW, WindowCursor};
use quantoscope_core::wire::{self, JobKey, Record};
use quantoscope_tests::memory::{MemoryModel, read};
use quantoscope_tests::models::{Rng, Tensor};
use quantoscope_tests::property::property;

const SMALL: Budget = Budget { memory: 60_000, workers: 1 };
/// Windows as small as the blocks allow.
const WINDOW: u64 = 0;

fn model() -> MemoryModel {
    let mut rng = Rng(7);
    let mut tensor = |name, shape: [u64; 2]| Tensor::random(name, DType::F32, &shape, &mut rng);
    MemoryModel::safetensors(&[
        tensor("a.weight", [96, 512]),
        tensor("b.weight", [3, 64]),
        tensor("empty", [0, 64]),
        tensor("c.weight", [200, 256]),
    ])
}

fn compute(plan: &Plan, model: &MemoryModel, job: &Job) -> Measurements {
    let inputs: Vec<Vec<u8>> = job.reads.iter().map(|r| read(plan, job, &[model], r)).collect();
    let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    job::run(&Scalar, job, &slices, &mut Workspace::default()).expect("a sound job").measured
}

fn plans(model: &MemoryModel) -> [Plan; 2] {
    let recipe = Recipe::new(Container::Gguf, Some(DType::Q8_0));
    [
        convert::plan(&model.checkpoint, &recipe, None, true).expect("a conversion"),
        measure::stats(&model.checkpoint, &|_| true).expect("statistics"),
    ]
}

fn record(job: &Job, measurements: Measurements, device: bool) -> Record {
    let bytes = wire::encode(&Record { key: JobKey::of(job), device, measurements }).expect("bytes");
    wire::decode(&bytes).expect("the record that was encoded")
}

fn bits(run: &Run<&Plan>) -> Vec<u8> {
    let count = run.plan().outputs.len();
    let all = (0..count).map(|i| run.measurements().output(i).expect("an output"));
    all.flat_map(|m| wire::encode(m).expect("bytes")).collect()
}

fn finish_all(run: &mut Run<&Plan>, plan: &Plan, model: &MemoryModel) -> usize {
    let mut computed = 0;
    while let Some(job) = run.next_job() {
        let measurements = compute(plan, model, &job);
        assert!(run.finish(&job, measurements, &SpotCheckStats::default()));
        computed += 1;
    }
    computed
}

proptest! {
    #![proptest_config(property(file!(), 24))]

    /// Whichever windows an earlier run finished, the rest gives the same bits, through the byte form too.
    #[test]
    fn any_records_resume_to_the_same_bits(kept in prop::collection::vec(any::<bool>(), 1..40), which in 0_usize..2) {
        let model = model();
        let plan = &plans(&model)[which];
        let mut first = Run::new(plan, SMALL, WINDOW).expect("a run");
        let mut records = Vec::new();
        let mut keep = kept.iter().cycle();
        let mut windows = 0;
        while let Some(job) = first.next_job() {
            let measurements = compute(plan, &model, &job);
            if *keep.next().expect("a choice") {
                records.push(record(&job, measurements.clone(), false));
            }
            first.finish(&job, measurements, &SpotCheckStats::default());
            windows += 1;
        }
        prop_assert!(windows > 8, "{windows} windows");
        let resumed = records.len();
        let mut second = Run::new(plan, SMALL, WINDOW).expect("a run");
        second.resume(records);
        prop_assert_eq!(finish_all(&mut second, plan, &model), windows - resumed);
        prop_assert_eq!(second.resumed(), resumed as u64);
        prop_assert_eq!(second.finished_elements(), first.finished_elements());
        prop_assert_eq!(second.take_finished_outputs(), 0..plan.outputs.len());
        prop_assert_eq!(second.take_finished_outputs().len(), 0);
        prop_assert!(bits(&second) == bits(&first));
        if which == 1 {
            let report = |run: &Run<&Plan>| serde_json::to_string(&stats(plan, run.measurements(), 16)).expect("JSON");
            prop_assert_eq!(report(&second), report(&first));
        }
    }
}

#[test]
fn an_output_is_finished_after_those_before_it() {
    let model = model();
    let [plan, _] = plans(&model);
    let mut run = Run::new(&plan, Budget::default(), USUAL_WINDOW).expect("a run");
    let mut jobs: Vec<Job> = std::iter::from_fn(|| run.next_job()).collect();
    let first = jobs.remove(0);
    for job in jobs {
        let measurements = compute(&plan, &model, &job);
        run.finish(&job, measurements, &SpotCheckStats::default());
        assert_eq!(run.take_finished_outputs(), 0..0, "the first output is not finished");
    }
    let measurements = compute(&plan, &model, &first);
    run.finish(&first, measurements, &SpotCheckStats::default());
    assert_eq!(run.take_finished_outputs(), 0..plan.outputs.len());
}

#[test]
fn a_wrong_block_of_a_device_restarts_without_what_devices_computed() {
    let model = model();
    let [plan, _] = plans(&model);
    let mut expected = Run::new(&plan, SMALL, WINDOW).expect("a run");
    let windows = finish_all(&mut expected, &plan, &model);

    let mut run = Run::new(&plan, SMALL, WINDOW).expect("a run");
    let checked = |differing| SpotCheckStats { blocks: 100, checked: 10, differing };
    let (mut records, mut fine) = (Vec::new(), true);
    for (at, device) in [false, true, false].into_iter().enumerate() {
        let job = run.next_job().expect("a window");
        let measurements = compute(&plan, &model, &job);
        records.push(record(&job, measurements.clone(), device));
        fine = run.finish(&job, measurements, &checked(u64::from(at == 2)));
    }
    assert!(!fine && run.device_differed());
    run.restart(SMALL, WINDOW, records).expect("the same plan");
    assert!(!run.device_differed());
    assert_eq!(run.finished_elements(), 0);
    assert_eq!(finish_all(&mut run, &plan, &model), windows - 2, "two windows were the processor's");
    assert_eq!(run.spot_check(), SpotCheckStats { blocks: 300, checked: 30, differing: 1 });
    assert!(bits(&run) == bits(&expected));
}

/// The first window of 8 TiB is there at once, and the last one is where the tensor ends.
#[test]
fn a_plan_of_terabytes_is_counted_not_enumerated() {
    let model = model();
    let [mut plan, _] = plans(&model);
    let rows = (8_u64 << 40) / 4 / 512;
    let output = &mut plan.outputs[0];
    output.grid.rows = rows;
    output.segments[0].rows = 0..rows;
    let (mut cursor, counts) = WindowCursor::new(&plan, Budget::default(), 0).expect("a schedule");
    assert!(counts[0] > 1 << 20, "{counts:?}");
    assert_eq!(cursor.next_job(&plan).expect("a window").window.rows.start, 0);
}

#[test]
fn records_that_are_damaged_are_refused() {
    let model = model();
    let [plan, _] = plans(&model);
    let mut run = Run::new(&plan, SMALL, WINDOW).expect("a run");
    let job = run.next_job().expect("a window");
    let measurements = compute(&plan, &model, &job);
    let bytes = wire::encode(&Record { key: JobKey::of(&job), device: false, measurements }).expect("bytes");
    assert!(wire::decode::<Record>(&[&bytes[..], &[0]].concat()).is_err(), "a byte is left over");
    for cut in 0..bytes.len() {
        assert!(wire::decode::<Record>(&bytes[..cut]).is_err(), "{cut} of {} bytes", bytes.len());
    }
}
