//! A driver over files in memory. On the way it holds every job to what plans promise: reads stay inside the tensor
//! they name, and writes lay every byte of every output exactly once.

use crate::models::Rng;
use quantoscope_core::error::Result;
use quantoscope_core::format::imatrix::{self, Imatrix};
use quantoscope_core::format::{Checkpoint, Opening, Root, Want};
use quantoscope_core::job::{self, Done, Job, Payload, Region, Workspace};
use quantoscope_core::kernels::Scalar;
use quantoscope_core::plan::{Plan, Side};
use quantoscope_core::run::{PlanMeasurements, Run};
use quantoscope_core::schedule::{Budget, USUAL_WINDOW};
use quantoscope_core::tensor::TensorInfo;
use std::collections::BTreeMap;
use std::ops::Range;

/// A checkpoint and the files it is read from.
#[derive(Clone, Debug)]
pub struct MemoryModel {
    /// What the headers say.
    pub checkpoint: Checkpoint,
    files: BTreeMap<String, Vec<u8>>,
    /// What was read to open it: file and bytes.
    pub wanted: Vec<(String, Range<u64>)>,
    /// The importance matrix to quantize it with, and its file.
    weights: Option<(Imatrix, Vec<u8>)>,
}

/// Opens the file of an importance matrix, with at most `max_read` bytes a read.
pub fn imatrix(name: &str, bytes: &[u8], max_read: u64) -> Result<Imatrix> {
    let mut opening = imatrix::ImatrixOpening::new(name, bytes.len() as u64);
    while let Some(range) = opening.want() {
        assert!(range.start < range.end && range.end <= bytes.len() as u64, "{range:?}");
        let end = range.end.min(range.start.saturating_add(max_read));
        if let Err(error) = opening.data(&bytes[range.start as usize..end as usize]) {
            assert_eq!(opening.want(), None, "after an error nothing is wanted");
            assert_eq!(opening.finish().expect_err("the error stays"), error);
            return Err(error);
        }
    }
    let found = opening.finish()?;
    for (name, entry) in &found.entries {
        let end = entry.values.checked_mul(4).and_then(|n| entry.at.checked_add(n));
        assert!(end.is_some_and(|end| end <= bytes.len() as u64), "{name} lies inside the file");
        assert!(entry.values > 0 && entry.values.is_multiple_of(entry.counts.len() as u64), "{name}");
        assert!(entry.counts.iter().all(|c| *c >= 0.0 && c.is_finite()), "{name}");
    }
    Ok(found)
}

impl MemoryModel {
    /// Opens one file.
    pub fn file(name: &str, bytes: Vec<u8>) -> Result<MemoryModel> {
        MemoryModel::open(Root::File(name), [(name.to_string(), bytes)].into())
    }

    /// Opens a directory.
    pub fn directory(files: BTreeMap<String, Vec<u8>>) -> Result<MemoryModel> {
        MemoryModel::open(Root::Dir, files)
    }

    /// Opens a safetensors file that must be sound.
    pub fn safetensors(tensors: &[crate::models::Tensor]) -> MemoryModel {
        MemoryModel::file("model.safetensors", crate::models::safetensors(tensors)).expect("a sound file")
    }

    /// Opens a directory with the files beside the weights that a conversion reads.
    pub fn folder(files: BTreeMap<String, Vec<u8>>) -> Result<MemoryModel> {
        MemoryModel::answer(Opening::new(Root::Dir).with_companions(), files)
    }

    fn open(root: Root<'_>, files: BTreeMap<String, Vec<u8>>) -> Result<MemoryModel> {
        MemoryModel::answer(Opening::new(root), files)
    }

    fn answer(mut opening: Opening, files: BTreeMap<String, Vec<u8>>) -> Result<MemoryModel> {
        let mut wanted = Vec::new();
        let checkpoint = loop {
            match opening.want() {
                Want::List => {
                    opening.listed(files.iter().map(|(n, b)| (n.clone(), b.len() as u64)).collect())?
                }
                Want::Open(name) => opening.opened(files.get(&name).map(|b| b.len() as u64))?,
                Want::Read { file, range } => {
                    let name = opening.file_name(file).expect("an opened file").to_string();
                    opening.data(&files[&name][range.start as usize..range.end as usize])?;
                    wanted.push((name, range.start..range.end));
                }
                Want::Ready => break opening.finish()?,
            }
        };
        Ok(MemoryModel { checkpoint, files, wanted, weights: None })
    }

    /// The same with an importance matrix, which must be sound.
    #[must_use]
    pub fn weighted(self, bytes: Vec<u8>) -> MemoryModel {
        let found = imatrix("imatrix.gguf", &bytes, u64::MAX).expect("a sound importance matrix");
        MemoryModel { weights: Some((found, bytes)), ..self }
    }

    /// The importance matrix.
    pub fn imatrix(&self) -> Option<&Imatrix> {
        self.weights.as_ref().map(|(imatrix, _)| imatrix)
    }

    /// Where the first tensor of a file begins; the end of the file where it has none.
    pub fn header_end(&self, name: &str) -> u64 {
        let inside = |t: &&TensorInfo| self.checkpoint.files[t.file as usize].name == name;
        let starts = self.checkpoint.tensors.iter().filter(inside).map(|t| t.bytes.start);
        starts.min().unwrap_or(self.files[name].len() as u64)
    }

    /// The bytes of a tensor.
    pub fn tensor(&self, name: &str) -> &[u8] {
        let t = self.checkpoint.tensors.iter().find(|t| t.name == name).expect("a tensor of that name");
        let file = &self.files[&self.checkpoint.files[t.file as usize].name];
        &file[t.bytes.start as usize..t.bytes.end as usize]
    }

    /// The bytes of a region.
    pub fn gather(&self, file: u32, region: &Region) -> Vec<u8> {
        let bytes = &self.files[&self.checkpoint.files[file as usize].name];
        region.runs().flat_map(|(at, n)| bytes[at as usize..(at + n) as usize].iter().copied()).collect()
    }
}

/// What a run made.
#[derive(Debug)]
pub struct Made {
    /// The files, in the order of the plan.
    pub files: Vec<Vec<u8>>,
    /// What was measured.
    pub collected: PlanMeasurements,
    /// How many windows there were.
    pub jobs: usize,
}

/// Runs a plan, its jobs in order.
pub fn run(plan: &Plan, worlds: &[&MemoryModel], budget: Budget) -> Result<Made> {
    run_shuffled(plan, worlds, budget, None)
}

/// Runs a plan with the jobs in an arbitrary order, and absorbs what they measured in another.
pub fn run_shuffled(plan: &Plan, worlds: &[&MemoryModel], budget: Budget, seed: Option<u64>) -> Result<Made> {
    run_with(plan, worlds, budget, seed, |job, inputs, scratch| job::run(&Scalar, job, inputs, scratch))
}

/// The same by any engine.
pub fn run_with(
    plan: &Plan,
    worlds: &[&MemoryModel],
    budget: Budget,
    seed: Option<u64>,
    engine: impl Fn(&Job, &[&[u8]], &mut Workspace) -> Result<Done>,
) -> Result<Made> {
    let mut run = Run::new(plan, budget, USUAL_WINDOW)?;
    let mut jobs: Vec<Job> = std::iter::from_fn(|| run.next_job()).collect();
    if let Some(seed) = seed {
        Rng(seed).shuffle(&mut jobs);
    }
    let mut target = MemoryFiles::new(plan);
    let mut scratch = Workspace::default();
    let mut measured: Vec<(Job, Done)> = Vec::new();
    for job in jobs {
        let inputs: Vec<Vec<u8>> = job.reads.iter().map(|r| read(plan, &job, worlds, r)).collect();
        let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let done = engine(&job, &slices, &mut scratch)?;
        match (job.writes.as_slice(), done.payload) {
            ([_, ..], Payload::Input) => target.write(plan, &job, &inputs[0]),
            ([_, ..], Payload::Scratch) => target.write(plan, &job, &scratch.out),
            ([], Payload::None) => {}
            (write, payload) => panic!("{payload:?} for {write:?}"),
        }
        measured.push((job, done));
    }
    target.check_tiled(plan);
    if let Some(seed) = seed {
        Rng(!seed).shuffle(&mut measured);
    }
    let jobs = measured.len();
    for (job, done) in measured {
        run.finish(&job, done.measured, &done.made);
    }
    assert_eq!(run.take_finished_outputs(), 0..plan.outputs.len(), "every window is finished");
    Ok(Made { files: target.files, collected: run.into_measurements(), jobs })
}

/// Reads a region, which must lie inside the tensor that the plan names.
pub fn read(plan: &Plan, job: &Job, worlds: &[&MemoryModel], read: &job::Read) -> Vec<u8> {
    if read.side == Side::Importance {
        let (imatrix, bytes) = worlds[0].weights.as_ref().expect("an importance matrix");
        let Region { offset, run, count, .. } = read.region;
        assert_eq!(count, 1, "a row of weights is one run");
        let inside = |e: &imatrix::ImatrixEntry| e.at <= offset && offset + run <= e.at + e.values * 4;
        assert!(imatrix.entries.values().any(inside), "{:?} lies outside of every entry", read.region);
        return bytes[offset as usize..(offset + run) as usize].to_vec();
    }
    let world = worlds[usize::from(read.side == Side::Candidate)];
    let output = &plan.outputs[job.output as usize];
    let operand = output
        .segments
        .iter()
        .flat_map(|p| std::iter::once(&p.from).chain(p.against.as_deref()).chain(p.gain.as_deref()));
    let tensors =
        operand.filter(|o| o.side == read.side).map(|o| &world.checkpoint.tensors[o.tensor as usize]);
    let mut spans = tensors.flat_map(|t| t.packed.as_ref().map_or(std::slice::from_ref(t), |p| &p.parts));
    let (lo, hi) = match (read.region.runs().next(), read.region.runs().last()) {
        (Some(first), Some(last)) => (first.0, last.0 + last.1),
        _ => (0, 0),
    };
    let inside = |t: &TensorInfo| t.file == read.file && t.bytes.start <= lo && hi <= t.bytes.end;
    assert!(lo == hi || spans.any(inside), "{:?} lies outside {:?}", read.region, output.name);
    world.gather(read.file, &read.region)
}

/// The files of a plan, and how often each byte was written.
struct MemoryFiles {
    files: Vec<Vec<u8>>,
    laid: Vec<Vec<u8>>,
}

impl MemoryFiles {
    fn new(plan: &Plan) -> MemoryFiles {
        let file = |f: &quantoscope_core::plan::OutFile| {
            let mut bytes = f.header.clone();
            assert!(bytes.len() as u64 <= f.len, "a header longer than its file");
            bytes.resize(f.len as usize, 0);
            bytes
        };
        let laid = plan.files.iter().map(|f| vec![0; f.len as usize]).collect();
        MemoryFiles { files: plan.files.iter().map(file).collect(), laid }
    }

    fn write(&mut self, plan: &Plan, job: &Job, mut bytes: &[u8]) {
        let total: u64 = job.writes.iter().map(|w| w.region.len()).sum();
        assert_eq!(total, bytes.len() as u64, "as many bytes as the regions have");
        let output = &plan.outputs[job.output as usize];
        assert_eq!(output.stored().count(), job.writes.len(), "a write for each stored tensor");
        for (write, stored) in job.writes.iter().zip(output.stored()) {
            let place = stored.place.expect("a stored tensor with a place");
            assert_eq!(write.file, place.file);
            for (at, n) in write.region.runs() {
                assert!(place.at <= at && at + n <= place.at + place.bytes, "a write outside its output");
                let (run, rest) = bytes.split_at(n as usize);
                let span = at as usize..(at + n) as usize;
                self.files[write.file as usize][span.clone()].copy_from_slice(run);
                self.laid[write.file as usize][span].iter_mut().for_each(|n| *n += 1);
                bytes = rest;
            }
        }
    }

    /// Every byte of every output once, everything else never.
    fn check_tiled(&self, plan: &Plan) {
        let mut expected: Vec<Vec<u8>> = plan.files.iter().map(|f| vec![0; f.len as usize]).collect();
        for (output, place) in
            plan.outputs.iter().flat_map(|o| o.stored()).filter_map(|s| Some((s, s.place?)))
        {
            let span =
                &mut expected[place.file as usize][place.at as usize..(place.at + place.bytes) as usize];
            assert!(span.iter().all(|&n| n == 0), "{:?} shares bytes with another output", output.name);
            span.fill(1);
        }
        assert!(expected == self.laid, "some byte was not written exactly once");
        for (place, file) in plan
            .outputs
            .iter()
            .flat_map(|o| o.stored())
            .filter_map(|s| s.place)
            .map(|p| (p, &plan.files[p.file as usize]))
        {
            assert!(place.bytes == 0 || place.at >= file.header.len() as u64, "an output over the header");
        }
    }
}
