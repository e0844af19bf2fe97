//! An opened model: what the page shows of it, and the work that can be asked of it.

use crate::view;
use quantoscope_core::format::Checkpoint;
use wasm_bindgen::prelude::*;

/// Everything the headers said.
#[wasm_bindgen]
pub struct Model(Checkpoint);

impl Model {
    /// Wraps what was opened.
    pub(crate) fn new(checkpoint: Checkpoint) -> Model {
        Model(checkpoint)
    }
}

#[wasm_bindgen]
impl Model {
    /// The model in one glance.
    pub fn summary(&self) -> Result<JsValue, JsValue> {
        view::to_js(&view::summary(&self.0))
    }

    /// The rows of the table.
    pub fn tensors(&self) -> Result<JsValue, JsValue> {
        view::to_js(&view::tensors(&self.0))
    }
}
