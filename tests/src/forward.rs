//! Runs forward passes over checkpoints in memory.

use crate::drive::{Files, open};
use quantoscope_core::Result;
use quantoscope_core::format::{Checkpoint, Root};
use quantoscope_core::model::config::Config;
use quantoscope_core::model::forward::{Forward, RowRequest};
use quantoscope_core::quant::decoder;
use std::path::Path;

/// A model with its weights in memory: `model.safetensors` and `config.json`.
pub struct TestModel {
    /// What its headers say.
    pub checkpoint: Checkpoint,
    bytes: Vec<u8>,
}

impl TestModel {
    /// From a folder.
    pub fn read(folder: &Path) -> TestModel {
        let read = |name: &str| std::fs::read(folder.join(name)).expect("a file of the model");
        TestModel::new(read("model.safetensors"), read("config.json"))
    }

    /// From the bytes of its files.
    pub fn new(bytes: Vec<u8>, config: Vec<u8>) -> TestModel {
        let files = Files::of("model.safetensors", bytes.clone()).with("config.json", config);
        TestModel { checkpoint: open(Root::Dir, &files).expect("a model"), bytes }
    }

    fn rows(&self, ask: &RowRequest) -> Vec<f32> {
        let tensor =
            self.checkpoint.tensors.iter().find(|t| t.name == ask.name).expect("checked by the pass");
        let cols = tensor.shape.cols();
        let at = |row: u64| (tensor.bytes.start + tensor.dtype.bytes_for(row * cols).unwrap()) as usize;
        let mut values = vec![0.0; ((ask.rows.end - ask.rows.start) * cols) as usize];
        decoder(tensor.dtype).unwrap()(&self.bytes[at(ask.rows.start)..at(ask.rows.end)], &mut values);
        values
    }

    /// The logits for every token.
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<f64>> {
        self.logits_as(self.checkpoint.config.as_deref().expect("a configuration"), tokens)
    }

    /// The same under another configuration.
    pub fn logits_as(&self, config: &[u8], tokens: &[u32]) -> Result<Vec<f64>> {
        let config = Config::parse(config)?;
        let mut pass = Forward::new(config, &self.checkpoint.tensors, tokens)?;
        while !pass.done() {
            let values: Vec<Vec<f32>> = pass.row_requests()?.iter().map(|a| self.rows(a)).collect();
            pass.feed(&values)?;
        }
        Ok(pass.logits().to_vec())
    }
}
