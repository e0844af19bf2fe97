//! Threads, warps and groups.

use super::memory::{Memory, SharedMemory, Time};
use super::parse::{Access, Address, Exchange, Instruction, PtxAction, PtxKernel, PtxOperand};

const WARP: usize = 32;
/// More than any kernel of ours runs in a thread; what runs longer never ends.
const STEPS: u64 = 1 << 22;

/// One thread.
struct PtxThread {
    registers: Vec<u64>,
    next: usize,
    thread: u64,
    done: bool,
}

/// Threads that exchange values.
struct Warp {
    lanes: Vec<PtxThread>,
    number: u64,
    time: Time,
}

/// What all threads of a group see.
struct ThreadBlock<'a> {
    kernel: &'a PtxKernel,
    arguments: &'a [u64],
    threads: u64,
    group: u64,
}

/// What threads read and write.
struct Rooms<'a> {
    memory: &'a mut Memory,
    shared: SharedMemory,
}

/// How a launch is made.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Groups of threads.
    pub groups: u64,
    /// Threads of each.
    pub threads: u64,
    /// Bytes that each shares, besides those that the entry declares.
    pub shared: u64,
}

/// Shared memory that every device has without being asked.
const SHARED_MOST: u64 = 48 << 10;

impl PtxKernel {
    /// Runs it; returns how many instructions that took.
    pub fn launch(&self, size: Size, arguments: &[u64], memory: &mut Memory) -> Result<u64, String> {
        let fits = |(&a, &bytes): (&u64, &u64)| bytes == 8 || u32::try_from(a).is_ok();
        if arguments.len() != self.parameters.len() || !arguments.iter().zip(&self.parameters).all(fits) {
            return Err("these are not the entry's parameters".to_string());
        }
        let shared = self.shared.next_multiple_of(16) + size.shared;
        if shared > SHARED_MOST || size.threads > 1024 {
            return Err("no device has so much for a group".to_string());
        }
        let mut steps = 0;
        for group in 0..size.groups {
            let group = ThreadBlock { kernel: self, arguments, threads: size.threads, group };
            let mut rooms = Rooms { memory: &mut *memory, shared: SharedMemory::new(shared) };
            steps += group.run(&mut rooms)?;
        }
        Ok(steps)
    }
}

impl ThreadBlock<'_> {
    /// Every warp runs up to a barrier or its end; all of them wait at the same one, or none.
    fn run(&self, rooms: &mut Rooms) -> Result<u64, String> {
        let lane =
            |thread| PtxThread { registers: vec![0; self.kernel.registers], next: 0, thread, done: false };
        let mut warps: Vec<Warp> = (0..self.threads.div_ceil(WARP as u64))
            .map(|number| {
                let first = number * WARP as u64;
                let lanes = (first..self.threads.min(first + WARP as u64)).map(lane).collect();
                Warp { lanes, number, time: Time::default() }
            })
            .collect();
        let mut steps = 0;
        loop {
            for warp in &mut warps {
                steps += self.warp(warp, rooms)?;
            }
            let mut lanes = warps.iter().flat_map(|w| &w.lanes);
            if lanes.clone().all(|l| l.done) {
                return Ok(steps);
            }
            let at = warps[0].lanes[0].next;
            if lanes.any(|l| l.done || l.next != at) {
                return Err("threads are apart at a barrier".to_string());
            }
            for warp in &mut warps {
                warp.time.barriers += 1;
                warp.lanes.iter_mut().for_each(|l| l.next += 1);
            }
        }
    }

    /// Runs a warp up to a barrier or its end.
    fn warp(&self, warp: &mut Warp, rooms: &mut Rooms) -> Result<u64, String> {
        let mut steps = 0;
        loop {
            for lane in &mut warp.lanes {
                steps += self.advance(lane, (warp.number, warp.time), rooms)?;
            }
            let Some(waiting) = warp.lanes.iter().find(|l| !l.done).map(|l| l.next) else {
                return Ok(steps);
            };
            let instruction = &self.kernel.code[waiting];
            let apart = |l: &PtxThread| l.done || l.next != waiting;
            if warp.lanes.iter().any(apart) {
                return Err(format!("lanes are apart at `{}`", instruction.text));
            }
            match &instruction.action {
                PtxAction::Barrier => return Ok(steps),
                PtxAction::Meet { mask } => {
                    self.all_meant(&warp.lanes, *mask, instruction)?;
                    warp.time.meetings += 1;
                    warp.lanes.iter_mut().for_each(|l| l.next += 1);
                }
                _ => self.exchange(&mut warp.lanes, instruction)?,
            }
        }
    }

    fn instruction(&self, lane: &PtxThread) -> Result<&Instruction, String> {
        self.kernel.code.get(lane.next).ok_or("the code ends without a return".to_string())
    }

    /// Runs a lane up to where it waits for others, or its end.
    fn advance(&self, lane: &mut PtxThread, when: (u64, Time), rooms: &mut Rooms) -> Result<u64, String> {
        let mut steps = 0;
        while !lane.done {
            let instruction = self.instruction(lane)?;
            let runs = instruction.guard.is_none_or(|(r, wanted)| (lane.registers[r] == 1) == wanted);
            let waits = matches!(
                instruction.action,
                PtxAction::Exchange { .. } | PtxAction::Meet { .. } | PtxAction::Barrier
            );
            if runs && waits {
                break;
            }
            lane.next += 1;
            steps += 1;
            if steps > STEPS {
                return Err("a thread does not end".to_string());
            }
            if runs {
                self.act(&instruction.action, lane, when, rooms)
                    .map_err(|e| format!("{e}, in `{}` of thread {}", instruction.text, lane.thread))?;
            }
        }
        Ok(steps)
    }

    fn value(&self, operand: PtxOperand, lane: &PtxThread) -> u64 {
        match operand {
            PtxOperand::Register(r) => lane.registers[r],
            PtxOperand::Number(n) => n,
            PtxOperand::Thread => lane.thread,
            PtxOperand::Threads => self.threads,
            PtxOperand::Group => self.group,
        }
    }

    /// The bytes that a lane accesses.
    fn bytes<'r>(
        &self,
        at: &Address,
        access: Access,
        lane: &PtxThread,
        (warp, time): (u64, Time),
        rooms: &'r mut Rooms,
        writes: bool,
    ) -> Result<&'r mut [u8], String> {
        let address = self.value(at.base, lane).wrapping_add(at.offset);
        if access.shared {
            return rooms.shared.slice(address, access, (lane.thread, warp, time), writes);
        }
        rooms.memory.slice(address, access)
    }

    fn act(
        &self,
        action: &PtxAction,
        lane: &mut PtxThread,
        when: (u64, Time),
        rooms: &mut Rooms,
    ) -> Result<(), String> {
        match action {
            PtxAction::Compute { function, to, from } => {
                let mut operands = [0; 4];
                for (o, &from) in operands.iter_mut().zip(from) {
                    *o = self.value(from, lane);
                }
                lane.registers[*to] = function(operands);
            }
            PtxAction::Parameter { to, number } => lane.registers[*to] = self.arguments[*number],
            PtxAction::Load { access, to, at } => {
                let bytes = self.bytes(at, *access, lane, when, rooms, false)?;
                for (&to, element) in to.iter().zip(bytes.chunks_exact(access.bytes as usize)) {
                    let value = element.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b));
                    lane.registers[to] = if access.signed { u64::from(value as i8 as u32) } else { value };
                }
            }
            PtxAction::Store { access, from, at } => {
                let bytes = self.bytes(at, *access, lane, when, rooms, true)?;
                for (&from, element) in from.iter().zip(bytes.chunks_exact_mut(access.bytes as usize)) {
                    let value = self.value(from, lane).to_le_bytes();
                    element.copy_from_slice(&value[..element.len()]);
                }
            }
            PtxAction::Branch { to } => lane.next = *to,
            PtxAction::Return => lane.done = true,
            PtxAction::Exchange { .. } | PtxAction::Meet { .. } | PtxAction::Barrier => {
                return Err("a thread waits alone".to_string());
            }
        }
        Ok(())
    }

    /// A mask must mean all lanes that there are.
    fn all_meant(&self, lanes: &[PtxThread], mask: PtxOperand, at: &Instruction) -> Result<(), String> {
        let present = (1_u64 << lanes.len()) - 1;
        match lanes.iter().all(|l| self.value(mask, l) & 0xFFFF_FFFF == present) {
            true => Ok(()),
            false => Err(format!("lanes are apart at `{}`", at.text)),
        }
    }

    /// All lanes stand at the same exchange, and all are meant by it.
    fn exchange(&self, lanes: &mut [PtxThread], at: &Instruction) -> Result<(), String> {
        let PtxAction::Exchange { kind, to, from: [value, distance, limits, mask] } = &at.action else {
            return Err("lanes wait for nothing".to_string());
        };
        self.all_meant(lanes, *mask, at)?;
        let values: Vec<u64> = lanes.iter().map(|l| self.value(*value, l)).collect();
        for (n, lane) in lanes.iter_mut().enumerate() {
            let (by, limits) =
                (self.value(*distance, lane) as usize & 31, self.value(*limits, lane) as usize);
            let segment = limits >> 8 & 31;
            let last = n & segment | limits & 31 & !segment;
            let other = match kind {
                Exchange::Butterfly => n ^ by,
                Exchange::Down => n + by,
                Exchange::Index => n & segment | by & !segment,
            };
            lane.registers[*to] = values[if other <= last { other } else { n }];
            lane.next += 1;
        }
        Ok(())
    }
}
