//! The journal of an unfinished artefact: which windows are on disk, and what was measured in them.
//!
//! `magic | plan fingerprint | budget` and then records `length | payload | checksum`. A record is appended only
//! after the data it speaks of was synced. A torn record at the end is what a killed run leaves, and ends the journal.
//!
//! The journal is also the lock: it is made before anything else, and held until the artefact has its name, so that two
//! runs never write the same output. An empty one says that the headers are not written yet.

use quantoscope_core::bytes::Cursor;
use quantoscope_core::job::{Tally, Window};
use quantoscope_core::metric::{Node, PairSums};
use quantoscope_core::schedule::Budget;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"QSJRNL03";
const HEADER: usize = 8 + 32 + 8 + 4;
/// A record holds a few dozen nodes; anything longer is damage.
const MAX_RECORD: u32 = 16 << 20;

/// A finished window.
#[derive(Clone, Debug)]
pub struct Record {
    pub output: u32,
    pub window: Window,
    /// Whether a device made its bytes.
    pub device: bool,
    pub error: Vec<Node<PairSums>>,
    /// NaN and infinities that it holds.
    pub nonfinite: Tally,
}

impl Record {
    /// The note that every window is written and the files are about to get their names.
    fn commit() -> Record {
        Record::note(u32::MAX)
    }

    /// The note that whatever a device made until here is in doubt.
    pub fn doubt() -> Record {
        Record::note(u32::MAX - 1)
    }

    /// What is no window: outputs have smaller numbers.
    fn note(output: u32) -> Record {
        Record {
            output,
            window: Window { rows: 0..0, cols: 0..0 },
            device: false,
            error: Vec::new(),
            nonfinite: Tally::default(),
        }
    }

    fn is_doubt(&self) -> bool {
        self.output == u32::MAX - 1
    }

    /// Whether this is that note.
    pub fn is_commit(&self) -> bool {
        self.output == u32::MAX
    }
}

/// An open journal, ready to be appended to.
pub struct Journal {
    file: File,
}

/// Holds the right to write the artefact, as long as it or the journal lives.
pub struct Claim {
    file: File,
    /// Whether there was a journal already.
    pub found: bool,
}

/// What an earlier run left.
pub struct Earlier {
    pub fingerprint: [u8; 32],
    pub budget: Budget,
    pub records: Vec<Record>,
    /// Length up to which the journal is sound.
    pub sound: u64,
}

impl Claim {
    /// Takes the journal at `path`, an empty one where there is none. `None` while another run holds it.
    pub fn take(path: &Path) -> io::Result<Option<Claim>> {
        loop {
            let found = path.exists();
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                // A file system without locks: then the user has to see to it.
                Err(TryLockError::Error(_)) => return Ok(Some(Claim { file, found })),
            }
            // Between opening and locking, the run that held it may have ended and removed it.
            if same_file(&file, path) {
                return Ok(Some(Claim { file, found }));
            }
        }
    }

    /// What an earlier run left; `None` where it is no journal, or an empty one.
    pub fn read(&self) -> io::Result<Option<Earlier>> {
        let mut bytes = Vec::new();
        (&self.file).rewind()?;
        (&self.file).read_to_end(&mut bytes)?;
        Ok(parse(&bytes))
    }

    /// Notes that the files are about to get their names.
    pub fn note_commit(&self) -> io::Result<()> {
        (&self.file).seek(SeekFrom::End(0))?;
        (&self.file).write_all(&framed(&Record::commit()))?;
        self.file.sync_data()
    }

    /// Empties the journal: what it spoke of is about to go.
    pub fn clear(&self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// Starts the journal.
    pub fn begin(&self, fingerprint: &[u8; 32], budget: &Budget) -> io::Result<Journal> {
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(fingerprint);
        header.extend_from_slice(&budget.memory.to_le_bytes());
        header.extend_from_slice(&budget.workers.to_le_bytes());
        let mut journal = self.go_on(0)?;
        journal.file.write_all(&header)?;
        journal.file.sync_all()?;
        Ok(journal)
    }

    /// Goes on with the journal, behind its sound part.
    pub fn go_on(&self, sound: u64) -> io::Result<Journal> {
        let mut file = self.file.try_clone()?;
        file.set_len(sound)?;
        file.seek(SeekFrom::Start(sound))?;
        Ok(Journal { file })
    }
}

#[cfg(unix)]
fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |m: std::fs::Metadata| (m.dev(), m.ino());
    file.metadata().ok().map(id) == std::fs::metadata(path).ok().map(id)
}

/// A file that is open cannot be replaced here.
#[cfg(not(unix))]
fn same_file(_: &File, path: &Path) -> bool {
    path.exists()
}

impl Journal {
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

/// Whether a run was stopped while it gave the files their names.
pub fn was_committing(path: &Path) -> bool {
    let earlier = std::fs::read(path).ok().and_then(|bytes| parse(&bytes));
    earlier.is_some_and(|e| e.records.iter().any(Record::is_commit))
}

fn parse(bytes: &[u8]) -> Option<Earlier> {
    let mut c = Cursor::new(bytes, 0);
    let (fingerprint, budget) = header(&mut c)?;
    let mut earlier = Earlier { fingerprint, budget, records: Vec::new(), sound: HEADER as u64 };
    while let Some(record) = next(&mut c) {
        match record.is_doubt() {
            true => earlier.records.retain(|r| !r.device),
            false => earlier.records.push(record),
        }
        earlier.sound = c.offset();
    }
    Some(earlier)
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
    out.push(u8::from(record.device));
    out.extend_from_slice(&record.nonfinite.count.to_le_bytes());
    out.extend_from_slice(&record.nonfinite.first.unwrap_or(0).to_le_bytes());
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
    let device = c.u8().ok()? == 1;
    let (count, first) = (c.u64().ok()?, c.u64().ok()?);
    let nonfinite = Tally { count, first: (count > 0).then_some(first) };
    let mut error = Vec::new();
    while c.remaining() > 0 {
        let in_row = c.u8().ok()? == 1;
        let row = c.u64().ok()?;
        let (level, index) = (c.u8().ok()?, c.u64().ok()?);
        error.push(Node { row: in_row.then_some(row), level, index, value: PairSums::read(c).ok()? });
    }
    Some(Record { output, window: Window { rows: row0..row1, cols: col0..col1 }, device, error, nonfinite })
}
