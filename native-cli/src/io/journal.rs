//! The journal of an unfinished run: which windows are finished (of an output: on disk), and what was measured in them.
//!
//! `magic | plan fingerprint | budget` and then entries `length | payload | checksum`. The entry of a window is appended
//! only after the data it speaks of was synced. A torn entry at the end is what a killed run leaves, and ends the journal.
//!
//! The journal is also the lock: it is created before anything else, and held until the output has its name, so that two
//! runs never write the same output. An empty one was left before the headers were written. A file under its name that
//! does not begin with the magic is not ours and is never opened for writing.

use super::file_set::SetMember;
use super::scratch;
use crate::exit::io_error;
use quantoscope_core::bytes::Cursor;
use quantoscope_core::error::Result;
use quantoscope_core::schedule::Budget;
use quantoscope_core::wire::{self, Record};
use sha2::{Digest, Sha256};
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// What the journals of all versions begin with.
const FAMILY: &[u8; 6] = b"QSJRNL";
const MAGIC: &[u8; 8] = b"QSJRNL04";
/// The kind of entries that hold a finished window.
const WINDOW: u8 = 0;
const HEADER: usize = 8 + 32 + 8 + 4;
/// An entry holds a few dozen nodes; anything longer is damage.
const MAX_ENTRY: u32 = 16 << 20;

/// The moment at which the partial output gets its name. Numbers are those of [`scratch::number`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Naming {
    /// The partial output.
    pub made: u64,
    /// The directory that it replaces; 0 where it replaces none.
    pub replaced: u64,
}

/// What a journal holds, one after the other.
enum JournalEntry {
    /// A finished window.
    Window(Box<Record>),
    Note(Note),
}

/// What is noted besides windows.
enum Note {
    /// Whatever a device made until here is in doubt.
    Doubt,
    /// The partial output, by its number, was created by this run.
    Created(u64),
    /// Every window is written, and the names are about to change.
    Naming(Naming),
    /// Everything in the replaced directory that must be kept has been moved out of it.
    Cleared,
    /// The files of a set by name and number, before any of them is renamed.
    Members(Vec<SetMember>),
}

/// An open journal, ready to be appended to.
pub(crate) struct Journal {
    file: File,
}

/// Holds the right to write the output, as long as it or the journal lives.
pub(crate) struct Lock {
    file: File,
    /// Whether there was a journal already.
    pub found: bool,
}

/// What an earlier run left.
#[derive(Default)]
pub(crate) struct PreviousRun {
    pub fingerprint: [u8; 32],
    pub budget: Budget,
    pub records: Vec<Record>,
    /// The number of the partial output, once it was created.
    pub created: Option<u64>,
    /// How it got, or was about to get, its name.
    pub naming: Option<Naming>,
    /// The files of a set that were about to get their names.
    pub members: Vec<SetMember>,
    /// Whether nothing is left in the replaced directory that must be kept.
    pub cleared: bool,
    /// Length up to which the journal is sound.
    pub sound: u64,
}

impl Lock {
    /// Takes the journal at `path`, an empty one where there is none. `None` while another run holds it.
    ///
    /// # Errors
    ///
    /// `partial_exists` where something under that name is not a journal of ours; it is not touched.
    pub(crate) fn take(path: &Path) -> Result<Option<Lock>> {
        let about = |e: io::Error| io_error(&e, format!("cannot write {}", path.display()));
        loop {
            let (file, found) = match scratch::create(path, 0o666) {
                Ok(file) => (file, false),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => match existing(path)? {
                    Some(file) => (file, true),
                    None => continue,
                },
                Err(e) => return Err(about(e)),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                // A file system without locks: then the user has to see to it.
                Err(TryLockError::Error(e)) if has_no_locks(&e) => return Ok(Some(Lock { file, found })),
                Err(TryLockError::Error(e)) => return Err(about(e)),
            }
            // Between opening and locking, the run that held it may have ended and removed it.
            if same_file(&file, path) {
                return Ok(Some(Lock { file, found }));
            }
        }
    }

    /// What an earlier run left; `None` where the journal is empty or of another version.
    pub(crate) fn read(&self) -> io::Result<Option<PreviousRun>> {
        let mut bytes = Vec::new();
        (&self.file).rewind()?;
        (&self.file).read_to_end(&mut bytes)?;
        Ok(parse(&bytes))
    }

    /// Length in bytes.
    pub(crate) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Notes how the output is about to get its name.
    pub(crate) fn note_naming(&self, naming: Naming) -> io::Result<()> {
        self.note(&Note::Naming(naming))
    }

    /// Notes the files of a set that are about to be renamed.
    pub(crate) fn note_members(&self, members: &[SetMember]) -> io::Result<()> {
        self.note(&Note::Members(members.to_vec()))
    }

    /// Notes that nothing which must be kept is left in the replaced directory.
    pub(crate) fn note_cleared(&self) -> io::Result<()> {
        self.note(&Note::Cleared)
    }

    fn note(&self, entry: &Note) -> io::Result<()> {
        (&self.file).seek(SeekFrom::End(0))?;
        (&self.file).write_all(&framed(entry))?;
        self.file.sync_data()
    }

    /// Empties the journal: what it spoke of is about to go.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// Starts the journal.
    pub(crate) fn begin(&self, fingerprint: &[u8; 32], budget: &Budget) -> io::Result<Journal> {
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
    pub(crate) fn go_on(&self, sound: u64) -> io::Result<Journal> {
        let mut file = self.file.try_clone()?;
        file.set_len(sound)?;
        file.seek(SeekFrom::Start(sound))?;
        Ok(Journal { file })
    }
}

/// Opens what stands under the journal's name if it can only be a journal of ours; `None` where it is gone meanwhile.
fn existing(path: &Path) -> Result<Option<File>> {
    let about = |e: io::Error| io_error(&e, format!("cannot open {}", path.display()));
    let Some(meta) = scratch::found(path)? else { return Ok(None) };
    if let Some(why) = scratch::suspicious(&meta) {
        return Err(scratch::taken(path, why));
    }
    let gone = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    let file = match scratch::open(path, false) {
        Err(e) if gone(&e) => return Ok(None),
        opened => opened.map_err(about)?,
    };
    if !is_journal(&file).map_err(about)? {
        return Err(scratch::taken(path, "is not a journal of this program"));
    }
    let proven = scratch::number(&file.metadata().map_err(about)?);
    match scratch::open(path, true) {
        Err(e) if gone(&e) => Ok(None),
        opened => {
            let file = opened.map_err(about)?;
            let meta = file.metadata().map_err(about)?;
            Ok((scratch::number(&meta) == proven && scratch::suspicious(&meta).is_none()).then_some(file))
        }
    }
}

/// Whether a file is empty or begins as the journals of all versions do.
fn is_journal(file: &File) -> io::Result<bool> {
    let mut start = Vec::new();
    file.take(FAMILY.len() as u64).read_to_end(&mut start)?;
    Ok(FAMILY.starts_with(&start))
}

fn has_no_locks(e: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let codes = [Errno::NOLCK, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL];
        codes.map(|c| Some(c.raw_os_error())).contains(&e.raw_os_error())
    }
    #[cfg(not(unix))]
    matches!(e.kind(), io::ErrorKind::Unsupported)
}

#[cfg(unix)]
fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |m: std::fs::Metadata| (m.dev(), m.ino());
    file.metadata().ok().map(id) == std::fs::symlink_metadata(path).ok().map(id)
}

/// A file that is open cannot be replaced here.
#[cfg(not(unix))]
fn same_file(_: &File, path: &Path) -> bool {
    path.exists()
}

impl Journal {
    /// Appends records whose data is on disk already.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            bytes.extend_from_slice(&frame(WINDOW, &wire::encode(record)?));
        }
        self.note(&bytes).map_err(|e| io_error(&e, "cannot write the journal"))
    }

    /// Notes that whatever a device made until here is in doubt.
    pub(crate) fn doubt(&mut self) -> io::Result<()> {
        self.note(&framed(&Note::Doubt))
    }

    /// Notes the number of the partial output, as soon as it exists and before anything is written to it.
    pub(crate) fn created(&mut self, number: u64) -> io::Result<()> {
        self.note(&framed(&Note::Created(number)))
    }

    fn note(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_data()
    }
}

/// What the journal at `path` says, if it is one of ours; nothing is opened for writing.
pub(crate) fn peek(path: &Path) -> Option<PreviousRun> {
    let meta = scratch::found(path).ok().flatten()?;
    let plain = scratch::suspicious(&meta).is_none();
    let mut bytes = Vec::new();
    plain.then(|| scratch::open(path, false).ok())??.read_to_end(&mut bytes).ok()?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Option<PreviousRun> {
    let mut c = Cursor::new(bytes, 0);
    let (fingerprint, budget) = header(&mut c)?;
    let mut earlier = PreviousRun { fingerprint, budget, sound: HEADER as u64, ..PreviousRun::default() };
    while let Some(entry) = next(&mut c) {
        match entry {
            JournalEntry::Window(record) => earlier.records.push(*record),
            JournalEntry::Note(Note::Doubt) => earlier.records.retain(|r| !r.device),
            JournalEntry::Note(Note::Created(number)) => earlier.created = Some(number),
            JournalEntry::Note(Note::Naming(naming)) => earlier.naming = Some(naming),
            JournalEntry::Note(Note::Cleared) => earlier.cleared = true,
            JournalEntry::Note(Note::Members(members)) => earlier.members = members,
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

/// An entry as it stands in the file.
fn framed(entry: &Note) -> Vec<u8> {
    match entry {
        Note::Doubt => frame(1, &[]),
        Note::Created(number) => frame(2, &number.to_le_bytes()),
        Note::Naming(n) => frame(3, &[n.made.to_le_bytes(), n.replaced.to_le_bytes()].concat()),
        Note::Cleared => frame(4, &[]),
        Note::Members(all) => {
            let mut body = (all.len() as u32).to_le_bytes().to_vec();
            for (name, number) in all {
                body.extend_from_slice(&number.to_le_bytes());
                body.extend_from_slice(&(name.len() as u32).to_le_bytes());
                body.extend_from_slice(name.as_bytes());
            }
            frame(5, &body)
        }
    }
}

/// The files of a set in an entry. Names with separators are none that this program writes.
fn members(c: &mut Cursor<'_>) -> Option<Vec<SetMember>> {
    let count = c.u32().ok()?;
    let one = |_| {
        let number = c.u64().ok()?;
        let len = c.u32().ok()?;
        let name = std::str::from_utf8(c.take(len.into()).ok()?).ok()?;
        let plain = !name.is_empty() && !name.contains(['/', '\\', '\0']) && name != "..";
        plain.then(|| (name.to_string(), number))
    };
    (0..count).map(one).collect()
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let payload = [&[kind], body].concat();
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

fn next(c: &mut Cursor<'_>) -> Option<JournalEntry> {
    let len = c.u32().ok().filter(|&n| n <= MAX_ENTRY)?;
    let payload = c.take(len.into()).ok()?;
    let sum = c.take(8).ok()?;
    if sum != checksum(payload) {
        return None;
    }
    let mut c = Cursor::new(payload, 0);
    Some(match c.u8().ok()? {
        WINDOW => JournalEntry::Window(Box::new(wire::decode(c.take(c.remaining()).ok()?).ok()?)),
        1 => JournalEntry::Note(Note::Doubt),
        2 => JournalEntry::Note(Note::Created(c.u64().ok()?)),
        3 => JournalEntry::Note(Note::Naming(Naming { made: c.u64().ok()?, replaced: c.u64().ok()? })),
        4 => JournalEntry::Note(Note::Cleared),
        5 => JournalEntry::Note(Note::Members(members(&mut c)?)),
        _ => return None,
    })
}
