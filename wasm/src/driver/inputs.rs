//! The picked files that a run reads.

use crate::driver::source::FileSource;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::plan::Side;
use std::rc::Rc;
use web_sys::File;

/// Files of both sides and of an importance matrix, in the order of the core.
#[derive(Clone, Default)]
pub struct Inputs {
    /// The source, or the reference.
    pub source: Rc<[File]>,
    /// The other side of a comparison.
    pub candidate: Rc<[File]>,
    /// The importance matrix.
    pub importance: Option<File>,
}

impl Inputs {
    fn file(&self, side: Side, file: u32) -> Option<&File> {
        match side {
            Side::Source => self.source.get(file as usize),
            Side::Candidate => self.candidate.get(file as usize),
            Side::Importance => self.importance.as_ref(),
        }
    }

    /// Files that must not be written.
    pub fn all(&self) -> impl Iterator<Item = &File> {
        self.source.iter().chain(self.candidate.iter()).chain(&self.importance)
    }
}

/// One open stream for each side: windows come file by file.
pub struct Readers<'a> {
    inputs: &'a Inputs,
    open: Vec<(Side, u32, FileSource)>,
}

impl<'a> Readers<'a> {
    /// Nothing is open yet.
    pub fn new(inputs: &'a Inputs) -> Readers<'a> {
        Readers { inputs, open: Vec::new() }
    }

    /// The reader of a file.
    ///
    /// # Errors
    /// `usage` where there is no such file.
    pub fn of(&mut self, side: Side, file: u32) -> Result<&mut FileSource> {
        let known = self.open.iter().position(|(s, f, _)| (*s, *f) == (side, file));
        let at = match known {
            Some(at) => at,
            None => {
                let missing = || Error::new(Code::Usage, "the file of a window is not there");
                let picked = self.inputs.file(side, file).ok_or_else(missing)?;
                self.open.retain(|(s, _, _)| *s != side);
                self.open.push((side, file, FileSource::new(picked.clone())));
                self.open.len() - 1
            }
        };
        Ok(&mut self.open[at].2)
    }
}
