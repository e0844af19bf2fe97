//! Conversions with the core alone, on the scalar kernels that define every byte.

use quantoscope_core::format::imatrix::{Imatrix, ImatrixOpening};
use quantoscope_core::format::{Checkpoint, Opening, Root, Want};
use quantoscope_core::job::{self, Payload, Workspace};
use quantoscope_core::kernels::Scalar;
use quantoscope_core::plan::{Side, convert};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::schedule::{Budget, schedule};

/// Opens a model of these files, the first of which was picked.
pub fn open(files: &[(&str, &[u8])]) -> Checkpoint {
    let mut opening = Opening::new(Root::File(files[0].0));
    let bytes = |name: &str| files.iter().find(|(n, _)| *n == name).map(|(_, bytes)| *bytes);
    loop {
        match opening.want() {
            Want::Open(name) => {
                let len = bytes(&name).map(|b| b.len() as u64);
                opening.opened(len).unwrap();
            }
            Want::Read { file, range } => {
                let all = bytes(opening.file_name(file).unwrap()).unwrap();
                opening.data(&all[range.start as usize..range.end as usize]).unwrap();
            }
            Want::List => panic!("asked for a listing"),
            Want::Ready => return opening.finish().unwrap(),
        }
    }
}

/// Opens an importance matrix.
pub fn open_imatrix(name: &str, bytes: &[u8]) -> Imatrix {
    let mut opening = ImatrixOpening::new(name, bytes.len() as u64);
    while let Some(range) = opening.want() {
        opening.data(&bytes[range.start as usize..range.end as usize]).unwrap();
    }
    opening.finish().unwrap()
}

/// The first file that `recipe` makes of a model.
pub fn convert(files: &[(&str, &[u8])], recipe: &Recipe, weights: Option<(&str, &[u8])>) -> Vec<u8> {
    let checkpoint = open(files);
    let imatrix = weights.map(|(name, bytes)| open_imatrix(name, bytes));
    let plan = convert::plan(&checkpoint, recipe, imatrix.as_ref(), false).unwrap();
    let mut out = plan.files[0].header.clone();
    out.resize(plan.files[0].len as usize, 0);
    let mut scratch = Workspace::default();
    for job in schedule(&plan, &Budget { memory: 256 << 20, workers: 1 }).unwrap() {
        let read = |read: &job::Read| {
            let file = match read.side {
                Side::Importance => weights.unwrap().1,
                _ => files[read.file as usize].1,
            };
            let runs = read.region.runs();
            runs.flat_map(|(at, len)| file[at as usize..(at + len) as usize].to_vec()).collect()
        };
        let inputs: Vec<Vec<u8>> = job.reads.iter().map(read).collect();
        let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let done = job::run(&Scalar, &job, &slices, &mut scratch).unwrap();
        let mut made = match done.payload {
            Payload::None => &[],
            Payload::Input => slices[0],
            Payload::Scratch => scratch.out.as_slice(),
        };
        for (at, len) in job.writes.iter().flat_map(|w| w.region.runs()) {
            let (part, rest) = made.split_at(len as usize);
            out[at as usize..][..part.len()].copy_from_slice(part);
            made = rest;
        }
    }
    out
}
