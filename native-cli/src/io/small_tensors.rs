//! Reads the small tensors of a GGUF that the plan of a Hugging Face folder depends on: norms, biases, rotary factors.

use crate::io::source::Source;
use quantoscope_core::error::Result;
use quantoscope_core::job::Region;
use quantoscope_core::plan::hf_values;
use quantoscope_core::recipe::Recipe;

/// Values are read in pieces of at most so many bytes.
const PIECE: u64 = 1 << 20;

impl Source {
    /// Reads the values of a GGUF that the plan of a Hugging Face folder depends on.
    pub(super) fn read_values(&mut self, recipe: &Recipe) -> Result<()> {
        let mut buffer = Vec::new();
        for tensor in hf_values::computed_tensors(&self.checkpoint, recipe) {
            self.read(tensor.file, &run(tensor.bytes.start, tensor.bytes.len()), &mut buffer)?;
            self.checkpoint.computed_tensors.insert(tensor.name, hf_values::f32_values(&buffer));
        }
        for mut scan in hf_values::exact_scans(&self.checkpoint, recipe)? {
            let (file, bytes) = (scan.read.file, scan.read.bytes);
            let mut at = bytes.start;
            while at < bytes.end {
                let length = PIECE.min(bytes.end - at);
                self.read(file, &run(at, length), &mut buffer)?;
                if !scan.feed(&buffer) {
                    break;
                }
                at += length;
            }
            scan.finish(&mut self.checkpoint);
        }
        Ok(())
    }
}

/// One run of bytes.
fn run(offset: u64, len: u64) -> Region {
    Region { offset, run: len, stride: len, count: 1 }
}
