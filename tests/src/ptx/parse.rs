//! From text to instructions whose registers are places in a table.

use super::operations::{Operation, function, join};
use std::collections::HashMap;

/// An entry of a text, ready to be launched.
pub struct PtxKernel {
    pub(super) code: Vec<Instruction>,
    pub(super) registers: usize,
    /// Bytes of each parameter.
    pub(super) parameters: Vec<u64>,
    /// Bytes of shared memory that the entry declares; what a launch adds comes after these.
    pub(super) shared: u64,
}

/// Where shared memory begins, so that nothing of it is at 0.
pub(super) const SHARED: u64 = 1 << 10;
/// What a launch adds is aligned to this.
const ALIGNED: u64 = 16;

pub(super) struct Instruction {
    /// As it is written.
    pub text: String,
    /// Runs only where this register is as said.
    pub guard: Option<(usize, bool)>,
    pub action: PtxAction,
}

/// Bytes of an element, and how many there are.
#[derive(Clone, Copy)]
pub(super) struct Access {
    pub bytes: u64,
    pub count: u64,
    /// A byte with a sign fills a register with it.
    pub signed: bool,
    pub shared: bool,
}

pub(super) struct Address {
    pub base: PtxOperand,
    pub offset: u64,
}

pub(super) enum PtxAction {
    Compute {
        function: Operation,
        to: usize,
        from: Vec<PtxOperand>,
    },
    Load {
        access: Access,
        to: Vec<usize>,
        at: Address,
    },
    Store {
        access: Access,
        from: Vec<PtxOperand>,
        at: Address,
    },
    Parameter {
        to: usize,
        number: usize,
    },
    Exchange {
        kind: Exchange,
        to: usize,
        from: [PtxOperand; 4],
    },
    /// A warp's threads wait for each other.
    Meet {
        mask: PtxOperand,
    },
    /// All threads of a group do.
    Barrier,
    Branch {
        to: usize,
    },
    Return,
}

/// From which lane a lane gets a value.
#[derive(Clone, Copy)]
pub(super) enum Exchange {
    Butterfly,
    Down,
    Index,
}

#[derive(Clone, Copy)]
pub(super) enum PtxOperand {
    Register(usize),
    Number(u64),
    Thread,
    Threads,
    Group,
}

/// What names stand for while an entry is read.
#[derive(Default)]
struct RegisterNames {
    registers: HashMap<String, usize>,
    labels: HashMap<String, usize>,
    parameters: HashMap<String, usize>,
    /// Names of shared memory.
    places: HashMap<String, u64>,
    shared: u64,
}

/// The entry `name` of a text.
pub fn parse(text: &str, name: &str) -> Result<PtxKernel, String> {
    let (before, rest) =
        text.split_once(&format!(".entry {name}(")).ok_or(format!("there is no entry {name}"))?;
    let (head, rest) = rest.split_once(')').ok_or("the parameters have no end")?;
    let body = rest.trim_start().strip_prefix("{\n").ok_or("the entry has no body")?;
    let (body, _) = body.split_once("\n}").ok_or("the body has no end")?;
    let mut names = RegisterNames::default();
    let parameters = parameters(head, &mut names)?;
    let mut statements = Vec::new();
    let silent = |l: &&str| l.is_empty() || l.starts_with(".reg ") || l.starts_with(".pragma ");
    for line in body.lines().map(str::trim).filter(|l| !silent(l)) {
        if let Some(declared) = line.strip_prefix(".shared ") {
            names.declare(declared)?;
        } else if let Some(label) = line.strip_suffix(':') {
            names.labels.insert(label.to_string(), statements.len());
        } else {
            statements.push(line.strip_suffix(';').ok_or(format!("not one statement: {line}"))?);
        }
    }
    for line in before.lines().filter_map(|l| l.strip_prefix(".extern .shared ")) {
        let name =
            line.split_whitespace().last().and_then(|n| n.strip_suffix("[];")).ok_or("no such room")?;
        names.shared = names.shared.next_multiple_of(ALIGNED);
        names.places.insert(name.to_string(), SHARED + names.shared);
    }
    let code = statements.iter().map(|s| names.instruction(s)).collect::<Result<_, _>>()?;
    Ok(PtxKernel { code, registers: names.registers.len(), parameters, shared: names.shared })
}

fn parameters(head: &str, names: &mut RegisterNames) -> Result<Vec<u64>, String> {
    let mut all = Vec::new();
    for line in head.split(',').map(str::trim) {
        let bytes = match line.split_whitespace().nth(1) {
            Some(".u64") => 8,
            Some(".u32" | ".f32") => 4,
            _ => return Err(format!("a parameter of another kind: {line}")),
        };
        names.parameters.insert(line.split_whitespace().last().unwrap_or("").to_string(), all.len());
        all.push(bytes);
    }
    Ok(all)
}

/// Splits at the commas that are not in braces.
fn operands(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = text.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|p| !p.is_empty()).collect()
}

/// What stands in braces, or the one thing that stands without.
fn elements(text: &str) -> Vec<&str> {
    text.trim_matches(['{', '}']).split(',').map(str::trim).collect()
}

/// `ld.global.v4.f32`, without the first word.
fn access(words: &str) -> Option<Access> {
    let (space, words) = words.split_once('.')?;
    let shared = match space {
        "global" => false,
        "shared" => true,
        _ => return None,
    };
    let (count, kind) = match words.split_once('.') {
        Some(("v2", kind)) => (2, kind),
        Some(("v4", kind)) => (4, kind),
        None => (1, words),
        _ => return None,
    };
    let bytes = match kind {
        "u8" | "s8" => 1,
        "u16" => 2,
        "u32" | "f32" => 4,
        "u64" => 8,
        _ => return None,
    };
    Some(Access { bytes, count, signed: kind == "s8", shared })
}

impl RegisterNames {
    /// Shared memory of the entry's own: `.align 4 .b8 name[64];`.
    fn declare(&mut self, text: &str) -> Result<(), String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [".align", align, ".b8", name] = words[..] else { return Err(format!("no such room: {text}")) };
        let (name, size) =
            name.strip_suffix("];").and_then(|n| n.split_once('[')).ok_or("a room has no size")?;
        let number = |text: &str| text.parse::<u64>().map_err(|e| e.to_string());
        self.shared = self.shared.next_multiple_of(number(align)?.max(1));
        self.places.insert(name.to_string(), SHARED + self.shared);
        self.shared += number(size)?;
        Ok(())
    }

    fn instruction(&mut self, text: &str) -> Result<Instruction, String> {
        let (guard, plain) = match text.strip_prefix('@') {
            Some(guarded) => {
                let (register, rest) = guarded.split_once(char::is_whitespace).ok_or("a guard of nothing")?;
                let wanted = !register.starts_with('!');
                (Some((self.register(register.trim_start_matches('!'))?, wanted)), rest.trim())
            }
            None => (None, text),
        };
        let (name, rest) = plain.split_once(char::is_whitespace).unwrap_or((plain, ""));
        let action = self.action(name, &operands(rest)).map_err(|e| format!("{e}, in `{text}`"))?;
        Ok(Instruction { text: text.to_string(), guard, action })
    }

    fn action(&mut self, name: &str, operands: &[&str]) -> Result<PtxAction, String> {
        match (name, operands) {
            ("ret", []) => Ok(PtxAction::Return),
            ("bra" | "bra.uni", [label]) => {
                let to = *self.labels.get(*label).ok_or("there is no such label")?;
                Ok(PtxAction::Branch { to })
            }
            ("bar.sync", ["0"]) => Ok(PtxAction::Barrier),
            ("bar.warp.sync", [mask]) => Ok(PtxAction::Meet { mask: self.operand(mask)? }),
            ("ld.param.u64" | "ld.param.u32" | "ld.param.f32", [to, from]) => {
                let from = from.trim_matches(['[', ']']);
                let number = *self.parameters.get(from).ok_or("there is no such parameter")?;
                Ok(PtxAction::Parameter { to: self.register(to)?, number })
            }
            (_, [to, a, b, c, mask]) if name.starts_with("shfl.sync.") => {
                let kind = match name {
                    "shfl.sync.bfly.b32" => Exchange::Butterfly,
                    "shfl.sync.down.b32" => Exchange::Down,
                    "shfl.sync.idx.b32" => Exchange::Index,
                    _ => return Err("no such exchange".to_string()),
                };
                // The name of a predicate may follow, which tells whether the lane was there.
                let to = self.register(to.split('|').next().unwrap_or(to))?;
                let from = [self.operand(a)?, self.operand(b)?, self.operand(c)?, self.operand(mask)?];
                Ok(PtxAction::Exchange { kind, to, from })
            }
            (_, [to, from]) if name.starts_with("ld.") => {
                let access = access(&name[3..]).ok_or("no such load")?;
                let to = elements(to).into_iter().map(|r| self.register(r)).collect::<Result<_, _>>()?;
                Ok(PtxAction::Load { access, to, at: self.address(from)? })
            }
            (_, [to, from]) if name.starts_with("st.") => {
                let access = access(&name[3..]).ok_or("no such store")?;
                let from = elements(from).into_iter().map(|r| self.operand(r)).collect::<Result<_, _>>()?;
                Ok(PtxAction::Store { access, from, at: self.address(to)? })
            }
            ("mov.b32", [to, halves]) if halves.starts_with('{') => {
                let from = elements(halves).into_iter().map(|r| self.operand(r)).collect::<Result<_, _>>()?;
                Ok(PtxAction::Compute { function: join, to: self.register(to)?, from })
            }
            (_, [to, from @ ..]) if from.len() <= 4 => {
                let function = function(name).ok_or("no such instruction")?;
                let from = from.iter().map(|o| self.operand(o)).collect::<Result<_, _>>()?;
                Ok(PtxAction::Compute { function, to: self.register(to)?, from })
            }
            _ => Err("no such instruction".to_string()),
        }
    }

    fn register(&mut self, name: &str) -> Result<usize, String> {
        if !name.starts_with('%') || name.contains('.') {
            return Err(format!("{name} is no register"));
        }
        let next = self.registers.len();
        Ok(*self.registers.entry(name.to_string()).or_insert(next))
    }

    fn operand(&mut self, text: &str) -> Result<PtxOperand, String> {
        let number = match text {
            "%tid.x" => return Ok(PtxOperand::Thread),
            "%ntid.x" => return Ok(PtxOperand::Threads),
            "%ctaid.x" => return Ok(PtxOperand::Group),
            _ if text.starts_with('%') => return self.register(text).map(PtxOperand::Register),
            _ if self.places.contains_key(text) => self.places.get(text).copied(),
            _ => match text.strip_prefix("0f") {
                Some(hex) => u64::from_str_radix(hex, 16).ok(),
                None => text.parse::<i64>().ok().map(|n| n as u64),
            },
        };
        number.map(PtxOperand::Number).ok_or(format!("{text} is no operand"))
    }

    fn address(&mut self, text: &str) -> Result<Address, String> {
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).ok_or("no address")?;
        let (base, offset) = inner.split_once('+').unwrap_or((inner, "0"));
        let offset = offset.parse::<i64>().map_err(|e| e.to_string())? as u64;
        Ok(Address { base: self.operand(base)?, offset })
    }
}
