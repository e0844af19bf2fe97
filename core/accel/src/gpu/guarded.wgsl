// Floats that come out as the definition's on a device that rounds to nearest, whatever it fuses, reorders or flushes.
//
// `kept` makes a rounded result exist: no compiler can see through it, so nothing is fused or reordered. No number is
// subnormal, so that none is flushed: `times` and `plus` tell where one would be, and loops rely on bounds that were
// checked before them. Whether a device rounds to nearest the probe finds out. Where nothing is known, `doubted` is set.

var<private> zero: u32;
var<private> doubted: bool;

// 2^-126, the least number that is not flushed.
const NORMAL = 0x00800000u;
// 2^-102: sums and differences of such numbers are 0 or not below 2^-125.
const SAFE = 0x0c800000u;
// 2^-100: what is less than NORMAL changes nothing here.
const WASHED = 0x0d800000u;

fn kept(x: f32) -> f32 {
  return bitcast<f32>(bitcast<u32>(x) ^ zero);
}

fn bits(x: f32) -> u32 {
  return bitcast<u32>(x);
}

fn magnitude(x: f32) -> u32 {
  return bitcast<u32>(x) & MAGNITUDE;
}

fn is_zero(x: f32) -> bool {
  return magnitude(x) == 0u;
}

// Greater than 0, be it ever so little.
fn positive(x: f32) -> bool {
  return bits(x) - 1u < MAGNITUDE;
}

// A result by integers. Infinity is nobody's argument, and no subnormal number may exist: copying one may flush it.
fn settled(x: u32) -> f32 {
  let a = x & MAGNITUDE;
  doubted = doubted || a >= INFINITE || (a != 0u && a < NORMAL);
  return bitcast<f32>(x);
}

// Whether a result was flushed, or is infinite.
fn lost(x: f32) -> bool {
  return magnitude(x) - NORMAL >= 0x7e000000u;
}

fn times(a: f32, b: f32) -> f32 {
  let p = kept(a * b);
  doubted = doubted || (lost(p) && !is_zero(a) && !is_zero(b));
  return p;
}

// Below 2^-75 a square is nothing.
fn squared(a: f32) -> f32 {
  if (magnitude(a) < 0x1a000000u) {
    return 0.0;
  }
  return times(a, a);
}

fn plus(a: f32, b: f32) -> f32 {
  let s = kept(a + b);
  // Of equal magnitudes the sum is 0 or one of them twice.
  doubted = doubted || (lost(s) && magnitude(a) != magnitude(b));
  return s;
}

fn minus(a: f32, b: f32) -> f32 {
  return plus(a, bitcast<f32>(bits(b) ^ SIGN));
}

// b is not zero.
fn over(a: f32, b: f32) -> f32 {
  return settled(quotient(bits(a), bits(b)));
}

// The nearest integer, halves to even, and beyond 2^22 what the low bits of the sum hold, as the definition has it.
fn nearest(x: f32) -> i32 {
  return i32(bits(kept(x + 12582912.0)) & 0x7fffffu) - 0x400000;
}
