//! The journal of an unfinished artefact: which windows are on disk, and what was measured in them.
//!
//! `magic | plan fingerprint | budget` and then records `length | payload | checksum`. A record is appended only
//! after the data it speaks of was synced. A torn record at the end is what a killed run leaves, and ends the journal.

use quantoscope_core::bytes::Cursor;
use quantoscope_core::job::Window;
use quantoscope_core::metric::{Node, PairSums};
use quantoscope_core::schedule::Budget;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"QSJRNL01";
const HEADER: usize = 8 + 32 + 8 + 4;
/// A record holds a few dozen nodes; anything longer is damage.
const MAX_RECORD: u32 = 16 << 20;

/// A finished window.
#[derive(Clone, Debug)]
pub struct Record {
    pub output: u32,
    pub window: Window,
    pub error: Vec<Node<PairSums>>,
}

impl Record {
    /// The note that every window is written and the files are about to get their names.
    fn commit() -> Record {
        Record { output: u32::MAX, window: Window { rows: 0..0, cols: 0..0 }, error: Vec::new() }
    }

    /// Whether this is that note.
    pub fn is_commit(&self) -> bool {
        self.output == u32::MAX
    }
}

/// Notes that the files are about to get their names.
pub fn note_commit(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(&framed(&Record::commit()))?;
    file.sync_data()
}

/// An open journal, ready to be appended to.
pub struct Journal {
    file: File,
}

/// What an earlier run left.
pub struct Earlier {
    pub fingerprint: [u8; 32],
    pub budget: Budget,
    pub records: Vec<Record>,
    /// Length up to which the journal is sound.
    pub sound: u64,
}

impl Journal {
    /// Starts a journal.
    pub fn create(path: &Path, fingerprint: &[u8; 32], budget: &Budget) -> io::Result<Journal> {
        let mut file = File::create(path)?;
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(fingerprint);
        header.extend_from_slice(&budget.memory.to_le_bytes());
        header.extend_from_slice(&budget.workers.to_le_bytes());
        file.write_all(&header)?;
        file.sync_all()?;
        Ok(Journal { file })
    }

    /// Goes on with a journal, behind its sound part.
    pub fn reopen(path: &Path, sound: u64) -> io::Result<Journal> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.set_len(sound)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Journal { file })
    }

    /// Appends records whose data is on disk already.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            bytes.extend_from_slice(&framed(record));
        }
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }
}

/// Reads a journal; `None` where it is not one.
pub fn read(path: &Path) -> io::Result<Option<Earlier>> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let mut c = Cursor::new(&bytes, 0);
    let Some((fingerprint, budget)) = header(&mut c) else { return Ok(None) };
    let mut earlier = Earlier { fingerprint, budget, records: Vec::new(), sound: HEADER as u64 };
    while let Some(record) = next(&mut c) {
        earlier.records.push(record);
        earlier.sound = c.offset();
    }
    Ok(Some(earlier))
}

fn header(c: &mut Cursor<'_>) -> Option<([u8; 32], Budget)> {
    if c.take(8).ok()? != MAGIC {
        return None;
    }
    let fingerprint = c.take(32).ok()?.try_into().ok()?;
    Some((fingerprint, Budget { memory: c.u64().ok()?, workers: c.u32().ok()? }))
}

/// A record as it stands in the file.
fn framed(record: &Record) -> Vec<u8> {
    let payload = encode(record);
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&payload);
    bytes.extend_from_slice(&checksum(&payload));
    bytes
}

fn checksum(payload: &[u8]) -> [u8; 8] {
    let digest = Sha256::digest(payload);
    let mut sum = [0; 8];
    sum.copy_from_slice(&digest[..8]);
    sum
}

fn next(c: &mut Cursor<'_>) -> Option<Record> {
    let len = c.u32().ok().filter(|&n| n <= MAX_RECORD)?;
    let payload = c.take(len.into()).ok()?;
    let sum = c.take(8).ok()?;
    if sum != checksum(payload) {
        return None;
    }
    decode(&mut Cursor::new(payload, 0))
}

fn encode(record: &Record) -> Vec<u8> {
    let mut out = record.output.to_le_bytes().to_vec();
    let w = &record.window;
    for n in [w.rows.start, w.rows.end, w.cols.start, w.cols.end] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    for node in &record.error {
        out.push(u8::from(node.row.is_some()));
        out.extend_from_slice(&node.row.unwrap_or(0).to_le_bytes());
        out.push(node.level);
        out.extend_from_slice(&node.index.to_le_bytes());
        node.value.write(&mut out);
    }
    out
}

fn decode(c: &mut Cursor<'_>) -> Option<Record> {
    let output = c.u32().ok()?;
    let (row0, row1, col0, col1) = (c.u64().ok()?, c.u64().ok()?, c.u64().ok()?, c.u64().ok()?);
    let mut error = Vec::new();
    while c.remaining() > 0 {
        let in_row = c.u8().ok()? == 1;
        let row = c.u64().ok()?;
        let (level, index) = (c.u8().ok()?, c.u64().ok()?);
        error.push(Node { row: in_row.then_some(row), level, index, value: PairSums::read(c).ok()? });
    }
    Some(Record { output, window: Window { rows: row0..row1, cols: col0..col1 }, error })
}
