// Hardware float operations that equal the CPU reference on every device that rounds to nearest, even if its compiler
// fuses or reorders operations or the device flushes subnormals.
//
// `black_box` forces a rounded result to exist, so that nothing is fused or reordered across it. No operand or result is
// subnormal: `times` and `plus` set `uncertain` if one could be, and loops rely on bounds that are checked before them.
// The probe checks that the device rounds to nearest.

var<private> zero: u32;
var<private> uncertain: bool;

// 2^-126, the smallest normal number.
const MIN_NORMAL = 0x00800000u;
// 2^-102: sums and differences of numbers from here on are 0 or at least 2^-125.
const TWO_POW_M102 = 0x0c800000u;
// 2^-100: adding a number below 2^-126 does not change numbers from here on.
const TWO_POW_M100 = 0x0d800000u;

fn black_box(x: f32) -> f32 {
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

// Greater than 0, subnormals included.
fn positive(x: f32) -> bool {
  return bits(x) - 1u < MAGNITUDE;
}

// Checks a result of integer operations: uncertain if infinite or subnormal, since a copy may flush a subnormal.
fn checked(x: u32) -> f32 {
  let a = x & MAGNITUDE;
  uncertain = uncertain || a >= INFINITE || (a != 0u && a < MIN_NORMAL);
  return bitcast<f32>(x);
}

// True if a result is 0, subnormal, infinite or NaN.
fn flushed_or_infinite(x: f32) -> bool {
  return magnitude(x) - MIN_NORMAL >= 0x7e000000u;
}

fn times(a: f32, b: f32) -> f32 {
  let p = black_box(a * b);
  uncertain = uncertain || (flushed_or_infinite(p) && !is_zero(a) && !is_zero(b));
  return p;
}

// The square, and 0 for magnitudes below 2^-75.
fn squared(a: f32) -> f32 {
  if (magnitude(a) < 0x1a000000u) {
    return 0.0;
  }
  return times(a, a);
}

fn plus(a: f32, b: f32) -> f32 {
  let s = black_box(a + b);
  // The sum of equal magnitudes is 0 or twice one of them.
  uncertain = uncertain || (flushed_or_infinite(s) && magnitude(a) != magnitude(b));
  return s;
}

fn minus(a: f32, b: f32) -> f32 {
  return plus(a, bitcast<f32>(bits(b) ^ SIGN));
}

// The quotient; b must not be 0.
fn over(a: f32, b: f32) -> f32 {
  return checked(quotient(bits(a), bits(b)));
}

// The nearest integer, ties to even; beyond 2^22 the low bits of the sum, as the reference (ggml nearest_int) does.
fn nearest(x: f32) -> i32 {
  return i32(bits(black_box(x + 12582912.0)) & 0x7fffffu) - 0x400000;
}
