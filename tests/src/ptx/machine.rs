//! Threads, warps and memory.

use super::parse::{Access, Action, Address, Instruction, Kernel, Operand};

const WARP: usize = 32;
/// More than any kernel of ours runs in a thread; what runs longer never ends.
const STEPS: u64 = 1 << 20;

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
    fn slice(&mut self, address: u64, access: Access) -> Result<&mut [u8], String> {
        let (at, size) = ((address % REACH) as usize, (access.bytes * access.count) as usize);
        if !at.is_multiple_of(size) {
            return Err(format!("{size} bytes at {address:#x} are not aligned"));
        }
        let buffer = (address / REACH).checked_sub(1).and_then(|n| self.buffers.get_mut(n as usize));
        buffer
            .and_then(|b| b.get_mut(at..at + size))
            .ok_or(format!("{size} bytes at {address:#x} are nobody's"))
    }
}

/// One thread.
struct Lane {
    registers: Vec<u64>,
    next: usize,
    thread: u64,
    done: bool,
}

/// What all threads of a launch see.
struct Launch<'a> {
    kernel: &'a Kernel,
    arguments: &'a [u64],
    threads: u64,
    group: u64,
}

impl Kernel {
    /// Runs `groups` groups of `threads` threads; returns how many instructions that took.
    pub fn launch(
        &self,
        groups: u64,
        threads: u64,
        arguments: &[u64],
        memory: &mut Memory,
    ) -> Result<u64, String> {
        let fits = |(&a, &bytes): (&u64, &u64)| bytes == 8 || u32::try_from(a).is_ok();
        if arguments.len() != self.parameters.len() || !arguments.iter().zip(&self.parameters).all(fits) {
            return Err("these are not the entry's parameters".to_string());
        }
        let mut steps = 0;
        for group in 0..groups {
            let launch = Launch { kernel: self, arguments, threads, group };
            for first in (0..threads).step_by(WARP) {
                steps += launch.warp(first, memory)?;
            }
        }
        Ok(steps)
    }
}

impl Launch<'_> {
    fn warp(&self, first: u64, memory: &mut Memory) -> Result<u64, String> {
        let lane = |thread| Lane { registers: vec![0; self.kernel.registers], next: 0, thread, done: false };
        let mut lanes: Vec<Lane> = (first..self.threads.min(first + WARP as u64)).map(lane).collect();
        let mut steps = 0;
        loop {
            for lane in &mut lanes {
                steps += self.advance(lane, memory)?;
            }
            if lanes.iter().all(|l| l.done) {
                return Ok(steps);
            }
            self.exchange(&mut lanes)?;
        }
    }

    fn instruction(&self, lane: &Lane) -> Result<&Instruction, String> {
        self.kernel.code.get(lane.next).ok_or("the code ends without a return".to_string())
    }

    /// Runs a lane up to an exchange or its end.
    fn advance(&self, lane: &mut Lane, memory: &mut Memory) -> Result<u64, String> {
        let mut steps = 0;
        while !lane.done {
            let instruction = self.instruction(lane)?;
            let runs = instruction.guard.is_none_or(|(r, wanted)| (lane.registers[r] == 1) == wanted);
            if runs && matches!(instruction.action, Action::Exchange { .. }) {
                break;
            }
            lane.next += 1;
            steps += 1;
            if steps > STEPS {
                return Err("a thread does not end".to_string());
            }
            if runs {
                self.act(&instruction.action, lane, memory)
                    .map_err(|e| format!("{e}, in `{}` of thread {}", instruction.text, lane.thread))?;
            }
        }
        Ok(steps)
    }

    fn value(&self, operand: Operand, lane: &Lane) -> u64 {
        match operand {
            Operand::Register(r) => lane.registers[r],
            Operand::Number(n) => n,
            Operand::Thread => lane.thread,
            Operand::Threads => self.threads,
            Operand::Group => self.group,
        }
    }

    fn address(&self, at: &Address, lane: &Lane) -> u64 {
        self.value(at.base, lane).wrapping_add(at.offset)
    }

    fn act(&self, action: &Action, lane: &mut Lane, memory: &mut Memory) -> Result<(), String> {
        match action {
            Action::Compute { function, to, from } => {
                let mut operands = [0; 4];
                for (o, &from) in operands.iter_mut().zip(from) {
                    *o = self.value(from, lane);
                }
                lane.registers[*to] = function(operands);
            }
            Action::Parameter { to, number } => lane.registers[*to] = self.arguments[*number],
            Action::Load { access, to, at } => {
                let bytes = memory.slice(self.address(at, lane), *access)?;
                for (&to, element) in to.iter().zip(bytes.chunks_exact(access.bytes as usize)) {
                    lane.registers[to] = element.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b));
                }
            }
            Action::Store { access, from, at } => {
                let bytes = memory.slice(self.address(at, lane), *access)?;
                for (&from, element) in from.iter().zip(bytes.chunks_exact_mut(access.bytes as usize)) {
                    let value = self.value(from, lane).to_le_bytes();
                    element.copy_from_slice(&value[..element.len()]);
                }
            }
            Action::Branch { to } => lane.next = *to,
            Action::Return => lane.done = true,
            Action::Exchange { .. } => return Err("an exchange alone".to_string()),
        }
        Ok(())
    }

    /// All lanes stand at the same exchange, and all are meant by it.
    fn exchange(&self, lanes: &mut [Lane]) -> Result<(), String> {
        let waiting = lanes.iter().find(|l| !l.done).map_or(0, |l| l.next);
        let Some(Instruction { text, action: Action::Exchange { butterfly, to, from }, .. }) =
            self.kernel.code.get(waiting)
        else {
            return Err("lanes wait for nothing".to_string());
        };
        let [value, distance, limits, mask] = from;
        let present = (1_u64 << lanes.len()) - 1;
        let apart = |l: &Lane| l.done || l.next != waiting || self.value(*mask, l) & 0xFFFF_FFFF != present;
        if lanes.iter().any(apart) {
            return Err(format!("lanes are apart at `{text}`"));
        }
        let values: Vec<u64> = lanes.iter().map(|l| self.value(*value, l)).collect();
        for (n, lane) in lanes.iter_mut().enumerate() {
            let (by, limits) =
                (self.value(*distance, lane) as usize & 31, self.value(*limits, lane) as usize);
            let segment = limits >> 8 & 31;
            let last = n & segment | limits & 31 & !segment;
            let other = if *butterfly { n ^ by } else { n + by };
            lane.registers[*to] = values[if other <= last { other } else { n }];
            lane.next += 1;
        }
        Ok(())
    }
}
