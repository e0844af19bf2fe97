//! Bytes that windows write, gathered into blocks: each write costs the browser the same messages, however small it is.

use js_sys::Uint8Array;

/// What is written at once.
const BLOCK: u32 = 4 << 20;
/// Room between tensors up to this is written as the zeros that it holds, so that a block goes on behind it.
const PADDING: u64 = 4 << 10;

/// Bytes to write at once, in memory of the browser.
pub struct Block {
    /// The number of the file.
    pub file: usize,
    /// Where they begin.
    pub at: u64,
    /// The bytes. Their memory is given back to the writer after the write.
    pub bytes: Uint8Array,
}

/// Gathers blocks.
#[derive(Default)]
pub struct BlockWriter {
    block: Option<Uint8Array>,
    filled: u32,
    file: usize,
    /// Where the block begins in its file.
    at: u64,
    /// The end of all that was written to the file, where it was written in order from the start.
    end: u64,
    free: Vec<Uint8Array>,
}

impl BlockWriter {
    /// Goes on at `at` of `file`, with the same block where that is possible. Returns the block before it otherwise.
    pub fn turn_to(&mut self, file: usize, at: u64) -> Option<Block> {
        let here = self.at + u64::from(self.filled);
        if file == self.file && at == here {
            return None;
        }
        // Zeros may only go where nothing was written before.
        let gap = at.checked_sub(here).filter(|gap| *gap <= PADDING && here == self.end && file == self.file);
        let end = gap.map(|gap| self.filled + gap as u32).filter(|end| *end < BLOCK);
        if let (Some(end), Some(block)) = (end, &self.block) {
            block.fill(0, self.filled, end);
            self.filled = end;
            return None;
        }
        let cut = self.cut();
        if file != self.file {
            self.end = if at == 0 { 0 } else { u64::MAX };
        }
        (self.file, self.at) = (file, at);
        cut
    }

    /// Takes in as many bytes as fit the block. Returns their number, and the block once it is full.
    pub fn fill(&mut self, bytes: &[u8]) -> (usize, Option<Block>) {
        let fits = bytes.len().min((BLOCK - self.filled) as usize);
        let Some(piece) = bytes.get(..fits) else { return (0, None) };
        let block = self
            .block
            .take()
            .or_else(|| self.free.pop())
            .unwrap_or_else(|| Uint8Array::new_with_length(BLOCK));
        let end = self.filled + fits as u32;
        block.subarray(self.filled, end).copy_from(piece);
        self.block = Some(block);
        self.filled = end;
        self.end = self.end.max(self.at + u64::from(end));
        (fits, if end == BLOCK { self.cut() } else { None })
    }

    /// What was gathered.
    pub fn cut(&mut self) -> Option<Block> {
        let block = self.block.take_if(|_| self.filled > 0)?;
        let cut = Block { file: self.file, at: self.at, bytes: block.subarray(0, self.filled) };
        self.at += u64::from(self.filled);
        self.filled = 0;
        Some(cut)
    }

    /// Takes the memory of a block that was written.
    pub fn reuse(&mut self, bytes: &Uint8Array) {
        self.free.push(Uint8Array::new(&bytes.buffer()));
    }
}
