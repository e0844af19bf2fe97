//! The product's launches on the machine.

use super::{Memory, PtxKernel, Size, parse};
use quantoscope_accel::cuda::launch::{Argument, BufferId, Launch};
use quantoscope_accel::cuda::ptx_modules::PtxModule;
use quantoscope_accel::cuda::task::CudaTask;

/// The product's texts, ready to be launched.
pub struct Programs(Vec<(PtxModule, &'static str, PtxKernel)>);

/// What launches read, and what they find where they write.
pub struct LaunchInputs<'a> {
    /// Stored values.
    pub src: &'a [u8],
    /// The ground that is written on.
    pub out: Vec<u8>,
    /// Weights of columns.
    pub weights: &'a [f32],
    /// What rotations look up.
    pub table: &'a [u32],
    /// Bytes between two launches.
    pub between: usize,
}

impl Programs {
    /// Every text, as `edit` changes it.
    ///
    /// # Panics
    /// Where the machine cannot read one.
    pub fn new(edit: impl Fn(PtxModule, &str) -> String) -> Programs {
        let mut all = Vec::new();
        for text in PtxModule::all() {
            let source = edit(text, text.source().unwrap_or_else(|| panic!("{text:?} has no source")));
            for entry in text.entries() {
                let kernel = parse(&source, entry).unwrap_or_else(|e| panic!("{text:?} {entry}: {e}"));
                all.push((text, *entry, kernel));
            }
        }
        Programs(all)
    }

    /// The texts as they are.
    pub fn unchanged() -> Programs {
        Programs::new(|_, source| source.to_string())
    }

    /// Runs launches one after the other: what they wrote, and whether a value was refused.
    pub fn run(&self, launches: &[Launch], given: LaunchInputs<'_>) -> Result<(Vec<u8>, bool), String> {
        let mut memory = Memory::default();
        let (src, out) = (memory.add(given.src.to_vec()), memory.add(given.out));
        let refused = memory.add(vec![0; 4]);
        let weights = memory.add(given.weights.iter().flat_map(|w| w.to_le_bytes()).collect());
        let table = memory.add(given.table.iter().flat_map(|w| w.to_le_bytes()).collect());
        let between = memory.add(vec![0; given.between]);
        for launch in launches {
            let place = |room| match room {
                BufferId::Src => src,
                BufferId::Out => out,
                BufferId::Refused => refused,
                BufferId::Weights => weights,
                BufferId::Table => table,
                BufferId::Intermediate => between,
            };
            let value = |argument: &Argument| match *argument {
                Argument::Address(room, by) => place(room) + by,
                Argument::Null => 0,
                Argument::U32(word) => u64::from(word),
                Argument::U64(long) => long,
                Argument::F32(x) => u64::from(x.to_bits()),
            };
            let arguments: Vec<u64> = launch.arguments.iter().map(value).collect();
            let (groups, threads) = (u64::from(launch.groups), u64::from(launch.threads));
            let size = Size { groups, threads, shared: u64::from(launch.shared) };
            let found = self.0.iter().find(|(t, e, _)| (*t, *e) == (launch.module, launch.entry));
            let (_, _, kernel) = found.ok_or("there is no such entry")?;
            kernel.launch(size, &arguments, &mut memory).map_err(|e| format!("{launch:?}: {e}"))?;
        }
        Ok((memory.bytes(out).to_vec(), memory.bytes(refused) != [0; 4]))
    }

    /// Does a piece of work as a device does it, in slices of about so many values; whether no value was
    /// refused.
    pub fn execute(
        &self,
        work: CudaTask<'_>,
        src: &[u8],
        out: &mut [u8],
        values: usize,
    ) -> Result<bool, String> {
        let slices = work.slices(src.len(), out.len(), values).ok_or("there are no kernels for that")?;
        let mut sound = true;
        for slice in &slices.all {
            let src = &src[slice.src.clone()];
            let ground = if slice.copies_input { src.to_vec() } else { out[slice.out.clone()].to_vec() };
            let (weights, table, between) = (slices.weights, &slices.table[..], slice.intermediate);
            let given = LaunchInputs { src, out: ground, weights, table, between };
            let (made, refused) = self.run(&slice.launches, given)?;
            out[slice.out.clone()].copy_from_slice(&made);
            sound &= !refused;
        }
        Ok(sound)
    }
}
