//! Runs forward passes over checkpoints in memory.

use crate::drive::{Files, open};
use quantoscope_core::Result;
use quantoscope_core::format::{Checkpoint, Root};
use quantoscope_core::model::config::Config;
use quantoscope_core::model::forward::{Batch, Forward, Logits, MatMul, Product, RowRequest};
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

    fn rows(&self, ask: &RowRequest) -> (u64, Vec<f32>) {
        let tensor =
            self.checkpoint.tensors.iter().find(|t| t.name == ask.name).expect("checked by the pass");
        let cols = tensor.shape.cols();
        let at = |row: u64| (tensor.bytes.start + tensor.dtype.bytes_for(row * cols).unwrap()) as usize;
        let mut values = vec![0.0; ((ask.rows.end - ask.rows.start) * cols) as usize];
        decoder(tensor.dtype).unwrap()(&self.bytes[at(ask.rows.start)..at(ask.rows.end)], &mut values);
        (cols, values)
    }

    /// Hands over the rows of a request in parts of `height` rows and `width` columns.
    fn feed<M: MatMul>(&self, pass: &mut Forward<M>, (height, width): (u64, u64)) -> Result<()> {
        let ask = pass.request().expect("a request").clone();
        let (cols, values) = self.rows(&ask);
        let rows = ask.rows.end - ask.rows.start;
        for row in (0..rows).step_by(height as usize) {
            let rows = row..(row + height).min(rows);
            for col in (0..cols).step_by(width as usize) {
                let part = col..(col + width).min(cols);
                let of_row = |r: u64| (r * cols + part.start) as usize..(r * cols + part.end) as usize;
                let bytes: Vec<u8> =
                    rows.clone().flat_map(|r| &values[of_row(r)]).flat_map(|v| v.to_le_bytes()).collect();
                pass.feed(rows.clone(), part, &bytes)?;
            }
        }
        Ok(())
    }

    /// The logits of several sequences, as they come. Matrices are multiplied in tiles of 5 rows where that is possible.
    pub fn batch_logits<M: MatMul>(&self, matmul: M, batch: &Batch) -> Result<Vec<Logits>> {
        let config = Config::parse(self.checkpoint.config.as_deref().expect("a configuration"))?;
        let mut pass = Forward::batch(matmul, config, &self.checkpoint.tensors, batch)?;
        let mut found = Vec::new();
        while !pass.done() {
            match pass.product() {
                None => self.feed(&mut pass, (u64::MAX / 2, u64::MAX / 2))?,
                Some(product) => {
                    let ask = pass.request().expect("a request");
                    let (cols, values) = self.rows(ask);
                    let rows = values.chunks(5 * cols as usize).map(|rows| {
                        let bytes: Vec<u8> = rows.iter().flat_map(|v| v.to_le_bytes()).collect();
                        (rows.len() as u64 / cols, product.tile(&bytes))
                    });
                    let tiles: Vec<_> = rows.collect();
                    let mut row = 0;
                    for (height, tile) in tiles {
                        pass.put(row..row + height, tile)?;
                        row += height;
                    }
                }
            }
            found.extend(pass.take_logits());
        }
        Ok(found)
    }

    /// The logits for every token.
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<f64>> {
        self.logits_as(self.checkpoint.config.as_deref().expect("a configuration"), tokens)
    }

    /// The same under another configuration.
    pub fn logits_as(&self, config: &[u8], tokens: &[u32]) -> Result<Vec<f64>> {
        self.logits_in_parts(config, tokens, (u64::MAX / 2, u64::MAX / 2))
    }

    /// The same with every tensor handed over in parts of this many rows and columns.
    pub fn logits_in_parts(&self, config: &[u8], tokens: &[u32], part: (u64, u64)) -> Result<Vec<f64>> {
        let config = Config::parse(config)?;
        let mut pass = Forward::new(config, &self.checkpoint.tensors, tokens)?;
        while !pass.done() {
            self.feed(&mut pass, part)?;
        }
        Ok(pass.logits().to_vec())
    }
}
