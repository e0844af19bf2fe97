//! The memory of a device, and what the threads of a group share. Who reads there what another thread wrote,
//! or writes what another read, must have waited for it: the machine runs threads in an order that no device
//! promises.

use super::parse::{Access, SHARED};

/// The memory of the device: buffers far apart, so that nobody gets from one to the other.
#[derive(Default)]
pub struct Memory {
    buffers: Vec<Vec<u8>>,
}

/// The distance of buffers.
const REACH: u64 = 1 << 32;

impl Memory {
    /// A new buffer with these bytes; its address.
    pub fn add(&mut self, bytes: Vec<u8>) -> u64 {
        self.buffers.push(bytes);
        REACH * self.buffers.len() as u64
    }

    /// The bytes of the buffer at this address.
    pub fn bytes(&self, address: u64) -> &[u8] {
        &self.buffers[(address / REACH) as usize - 1]
    }

    /// What is accessed at an address: all of it inside one buffer, aligned to its whole size.
    pub(super) fn slice(&mut self, address: u64, access: Access) -> Result<&mut [u8], String> {
        let buffer = (address / REACH).checked_sub(1).and_then(|n| self.buffers.get_mut(n as usize));
        within(buffer.map_or(&mut [], |b| &mut b[..]), address, address % REACH, access)
    }
}

fn within(bytes: &mut [u8], address: u64, at: u64, access: Access) -> Result<&mut [u8], String> {
    let (at, size) = (at as usize, (access.bytes * access.count) as usize);
    if !at.is_multiple_of(size) {
        return Err(format!("{size} bytes at {address:#x} are not aligned"));
    }
    bytes.get_mut(at..at + size).ok_or(format!("{size} bytes at {address:#x} are nobody's"))
}

/// When a thread did something: how often its group has met, and its warp.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) struct Time {
    pub barriers: u32,
    pub meetings: u32,
}

/// Who was at a word, and when.
#[derive(Clone, Copy)]
struct Visit {
    /// `None` for several.
    thread: Option<u64>,
    warp: u64,
    time: Time,
}

/// The last visits to a word.
#[derive(Clone, Copy, Default)]
struct Word {
    written: Option<Visit>,
    read: Option<Visit>,
}

const WORD: usize = 4;

/// What the threads of one group share.
pub(super) struct SharedMemory {
    bytes: Vec<u8>,
    words: Vec<Word>,
}

impl Visit {
    /// Whether who comes now has waited for this visit, or made it.
    fn waited(&self, now: &Visit) -> bool {
        let met = self.warp == now.warp && self.time.meetings < now.time.meetings;
        self.thread == now.thread || self.time.barriers < now.time.barriers || met
    }
}

impl SharedMemory {
    pub(super) fn new(bytes: u64) -> SharedMemory {
        let words = (bytes as usize).div_ceil(WORD);
        SharedMemory { bytes: vec![0; bytes as usize], words: vec![Word::default(); words] }
    }

    /// What a thread accesses, for reading or writing.
    pub(super) fn slice(
        &mut self,
        address: u64,
        access: Access,
        (thread, warp, time): (u64, u64, Time),
        writes: bool,
    ) -> Result<&mut [u8], String> {
        let at = address.checked_sub(SHARED).ok_or(format!("{address:#x} is not shared"))?;
        let now = Visit { thread: Some(thread), warp, time };
        let bytes = within(&mut self.bytes, address, at, access)?;
        let (first, end) = (at as usize / WORD, (at as usize + bytes.len()).div_ceil(WORD));
        for word in &mut self.words[first..end] {
            if !writes && word.written.is_none() {
                return Err(format!("nobody wrote what is read at {address:#x}"));
            }
            let read = word.read.filter(|_| writes);
            if [word.written, read].iter().flatten().any(|before| !before.waited(&now)) {
                return Err(format!("nobody waited for another thread at {address:#x}"));
            }
            if writes {
                *word = Word { written: Some(now), read: None };
            } else {
                // Whoever writes next has to wait for all who read since the last meeting.
                let alone = word.read.is_none_or(|r| r.waited(&now));
                word.read = Some(Visit { thread: now.thread.filter(|_| alone), ..now });
            }
        }
        Ok(bytes)
    }
}
