//! What each instruction computes: PTX ISA 8.8, section 9.7, for the instructions that only read and write
//! registers.

use half::f16;
use std::cmp::Ordering;

/// Operands as registers hold them: as many low bits as the type has, floats by their pattern, predicates 0
/// or 1.
pub(super) type Operands = [u64; 4];
/// An instruction.
pub(super) type Operation = fn(Operands) -> u64;

/// The NaN that every operation makes of NaN, whatever its payload was.
const NAN: u32 = 0x7FFF_FFFF;

fn f(x: u64) -> f32 {
    f32::from_bits(x as u32)
}

fn float(x: f32) -> u64 {
    u64::from(if x.is_nan() { NAN } else { x.to_bits() })
}

fn word(x: u64) -> u64 {
    u64::from(x as u32)
}

fn signed(x: i32) -> u64 {
    u64::from(x as u32)
}

fn short(x: i16) -> u64 {
    u64::from(x as u16)
}

/// Shifts by more than the width leave nothing.
fn left(x: u64, by: u64, width: u32) -> u64 {
    let by = by as u32;
    if by >= width { 0 } else { x << by & u64::MAX >> (64 - width) }
}

fn right(x: u64, by: u64, width: u32) -> u64 {
    let by = by as u32;
    if by >= width { 0 } else { (x & u64::MAX >> (64 - width)) >> by }
}

/// `bfi`: the low `length` bits of the first put into the second from bit `at` on.
fn insert([from, into, at, length]: Operands) -> u64 {
    let ones = right(u64::MAX, 64 - (length & 0xFF).min(64), 64);
    let mask = left(ones, at & 0xFF, 32);
    into & !mask & 0xFFFF_FFFF | left(from, at & 0xFF, 32) & mask
}

/// A word of two halves, the lower one first.
pub(super) fn join([low, high, ..]: Operands) -> u64 {
    low & 0xFFFF | (high & 0xFFFF) << 16
}

/// The instruction of this name.
pub(super) fn function(name: &str) -> Option<Operation> {
    Some(match name {
        "mov.u32" | "mov.b32" | "mov.f32" => |[a, ..]| word(a),
        "mov.u16" | "mov.b16" | "cvt.u16.u32" | "cvt.u32.u16" => |[a, ..]| a & 0xFFFF,
        "mov.u64" | "mov.b64" | "cvta.to.global.u64" => |[a, ..]| a,
        "mov.pred" => |[a, ..]| a & 1,
        _ => return float_function(name).or_else(|| integer_function(name)).or_else(|| choice(name)),
    })
}

/// Rounded to nearest, ties to even, subnormal numbers kept. Rust promises the same of its own.
fn float_function(name: &str) -> Option<Operation> {
    Some(match name {
        "add.rn.f32" => |[a, b, ..]| float(f(a) + f(b)),
        "sub.rn.f32" => |[a, b, ..]| float(f(a) - f(b)),
        "mul.rn.f32" => |[a, b, ..]| float(f(a) * f(b)),
        "div.rn.f32" => |[a, b, ..]| float(f(a) / f(b)),
        "sqrt.rn.f32" => |[a, ..]| float(f(a).sqrt()),
        "neg.f32" => |[a, ..]| float(-f(a)),
        // Of a NaN and a number the number, and +0 is more than -0.
        "max.f32" => |[a, b, ..]| match (f(a), f(b)) {
            (a, b) if a == 0.0 && b == 0.0 => float(a + b),
            (a, b) => float(a.max(b)),
        },
        "cvt.rn.f32.u32" => |[a, ..]| float(a as u32 as f32),
        "cvt.rn.f32.s32" => |[a, ..]| float(a as i32 as f32),
        "cvt.rn.f32.s16" => |[a, ..]| float(f32::from(a as i16)),
        // Saturates, and NaN is 0, as in Rust.
        "cvt.rzi.s32.f32" => |[a, ..]| signed(f(a) as i32),
        "cvt.rzi.u32.f32" => |[a, ..]| u64::from(f(a) as u32),
        "cvt.f32.f16" => |[a, ..]| float(f16::from_bits(a as u16).to_f32()),
        "cvt.rn.f16.f32" => |[a, ..]| {
            let h = f16::from_f32(f(a));
            u64::from(if h.is_nan() { 0x7FFF } else { h.to_bits() })
        },
        _ => return None,
    })
}

fn integer_function(name: &str) -> Option<Operation> {
    Some(match name {
        "add.s32" => |[a, b, ..]| word(a.wrapping_add(b)),
        "sub.s32" => |[a, b, ..]| word(a.wrapping_sub(b)),
        "neg.s32" => |[a, ..]| word(a.wrapping_neg()),
        "add.s64" | "add.u64" => |[a, b, ..]| a.wrapping_add(b),
        "mul.lo.s64" => |[a, b, ..]| a.wrapping_mul(b),
        "mul.lo.s32" => |[a, b, ..]| word(a.wrapping_mul(b)),
        "mad.lo.s32" => |[a, b, c, _]| word(a.wrapping_mul(b).wrapping_add(c)),
        "mul.wide.s32" => |[a, b, ..]| (i64::from(a as i32) * i64::from(b as i32)) as u64,
        // What is divided by nothing is nothing of ours.
        "div.u32" => |[a, b, ..]| word(a).checked_div(word(b)).unwrap_or(0xFFFF_FFFF),
        "rem.u32" => |[a, b, ..]| word(a).checked_rem(word(b)).unwrap_or(0xFFFF_FFFF),
        "rem.u64" => |[a, b, ..]| a.checked_rem(b).unwrap_or(u64::MAX),
        "mul.wide.u32" => |[a, b, ..]| word(a) * word(b),
        "min.u32" => |[a, b, ..]| word(a).min(word(b)),
        "max.u32" => |[a, b, ..]| word(a).max(word(b)),
        "min.s32" => |[a, b, ..]| signed((a as i32).min(b as i32)),
        "max.s32" => |[a, b, ..]| signed((a as i32).max(b as i32)),
        "and.b16" => |[a, b, ..]| a & b & 0xFFFF,
        "and.b32" => |[a, b, ..]| word(a & b),
        "or.b32" => |[a, b, ..]| word(a | b),
        "or.b64" => |[a, b, ..]| a | b,
        "and.b64" => |[a, b, ..]| a & b,
        "xor.b32" => |[a, b, ..]| word(a ^ b),
        "not.b32" => |[a, ..]| word(!a),
        "shl.b32" => |[a, b, ..]| left(a, b, 32),
        "shl.b64" => |[a, b, ..]| left(a, b, 64),
        "shr.u32" => |[a, b, ..]| right(a, b, 32),
        "shr.u64" => |[a, b, ..]| right(a, b, 64),
        "shr.u16" => |[a, b, ..]| right(a & 0xFFFF, b, 16),
        "shr.s16" => |[a, b, ..]| short(a as i16 >> (b as u32).min(15)),
        "bfi.b32" => insert,
        "cvt.u64.u32" | "cvt.u32.u64" => |[a, ..]| word(a),
        "cvt.s64.s32" => |[a, ..]| i64::from(a as i32) as u64,
        "cvt.s32.s8" => |[a, ..]| signed(i32::from(a as i8)),
        "cvt.s16.s8" => |[a, ..]| short(i16::from(a as i8)),
        _ => return None,
    })
}

/// Predicates, and what they choose.
fn choice(name: &str) -> Option<Operation> {
    if let Some(compare) = name.strip_prefix("setp.") {
        return compared(compare);
    }
    Some(match name {
        "and.pred" => |[a, b, ..]| a & b,
        "or.pred" => |[a, b, ..]| a | b,
        "not.pred" => |[a, ..]| a ^ 1,
        "selp.b16" | "selp.u16" => |[a, b, p, _]| if p == 1 { a } else { b } & 0xFFFF,
        "selp.b32" | "selp.u32" | "selp.f32" => |[a, b, p, _]| word(if p == 1 { a } else { b }),
        "selp.b64" => |[a, b, p, _]| if p == 1 { a } else { b },
        _ => return None,
    })
}

fn compared(name: &str) -> Option<Operation> {
    Some(match name {
        "eq.f32" => |[a, b, ..]| u64::from(f(a) == f(b)),
        "lt.f32" => |[a, b, ..]| u64::from(f(a) < f(b)),
        "le.f32" => |[a, b, ..]| u64::from(f(a) <= f(b)),
        "gt.f32" => |[a, b, ..]| u64::from(f(a) > f(b)),
        // With a `u` the answer is yes where one is no number.
        "neu.f32" => |[a, b, ..]| u64::from(f(a) != f(b)),
        "leu.f32" => |[a, b, ..]| u64::from(f(a).partial_cmp(&f(b)) != Some(Ordering::Greater)),
        "geu.f32" => |[a, b, ..]| u64::from(f(a).partial_cmp(&f(b)) != Some(Ordering::Less)),
        "num.f32" => |[a, b, ..]| u64::from(!f(a).is_nan() && !f(b).is_nan()),
        "eq.s16" => |[a, b, ..]| u64::from(a as i16 == b as i16),
        "ne.s16" => |[a, b, ..]| u64::from(a as i16 != b as i16),
        "eq.s32" | "eq.b32" => |[a, b, ..]| u64::from(a as i32 == b as i32),
        "ne.s32" => |[a, b, ..]| u64::from(a as i32 != b as i32),
        "lt.s32" => |[a, b, ..]| u64::from((a as i32) < b as i32),
        "lt.u32" => |[a, b, ..]| u64::from(word(a) < word(b)),
        "gt.u32" => |[a, b, ..]| u64::from(word(a) > word(b)),
        "ge.u32" => |[a, b, ..]| u64::from(word(a) >= word(b)),
        "eq.s64" => |[a, b, ..]| u64::from(a == b),
        "lt.u64" => |[a, b, ..]| u64::from(a < b),
        "ge.u64" => |[a, b, ..]| u64::from(a >= b),
        _ => return None,
    })
}
