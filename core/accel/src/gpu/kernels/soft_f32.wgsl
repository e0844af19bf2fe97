// F32 and F16 in integer operations: bit patterns in, bit patterns out, rounded to nearest, ties to even.
//
// WGSL lets a device round in either direction, fuse, reassociate, flush subnormals and lose the sign of zero, but its
// integers are exact. Operations that decide a byte are therefore computed here. Arguments must be finite.

const SIGN = 0x80000000u;
const MAGNITUDE = 0x7fffffffu;
const INFINITE = 0x7f800000u;

// significand * 2^(exponent - 150), with the significand in [2^23, 2^24) or 0.
struct Parts {
  exponent: i32,
  significand: u32,
}

fn parts(x: u32) -> Parts {
  let field = (x >> 23u) & 0xffu;
  let fraction = x & 0x7fffffu;
  if (field != 0u) {
    return Parts(i32(field), fraction | 0x800000u);
  }
  if (fraction == 0u) {
    return Parts(0, 0u);
  }
  let up = 23u - firstLeadingBit(fraction);
  return Parts(1 - i32(up), fraction << up);
}

// Shifts right; the last bit of the result is set if any lost bit was (sticky bit).
fn shift_sticky(x: u32, by: u32) -> u32 {
  if (by == 0u) {
    return x;
  }
  if (by > 31u) {
    return select(0u, 1u, x != 0u);
  }
  return (x >> by) | select(0u, 1u, (x << (32u - by)) != 0u);
}

// Rounds significand * 2^(exponent - 157), with the significand in [2^30, 2^31).
fn rounded(sign: u32, exponent: i32, significand: u32) -> u32 {
  var x = significand;
  var above = 0u;
  if (exponent <= 0) {
    x = shift_sticky(x, u32(1 - exponent));
  } else {
    above = min(u32(exponent), 255u) - 1u;
  }
  let rest = x & 0x7fu;
  var whole = (x + 0x40u) >> 7u;
  if (rest == 0x40u) {
    whole &= ~1u;
  }
  // The leading bit of a normal number, and a carry, add one to the exponent field.
  return sign | min((above << 23u) + whole, INFINITE);
}

fn product(a: u32, b: u32) -> u32 {
  let sign = (a ^ b) & SIGN;
  let p = parts(a);
  let q = parts(b);
  if (p.significand == 0u || q.significand == 0u) {
    return sign;
  }
  // 24 bits times 24 bits, by limbs of 12.
  let upper = p.significand >> 12u;
  let lower = p.significand & 0xfffu;
  let over = q.significand >> 12u;
  let under = q.significand & 0xfffu;
  let middle = upper * under + lower * over;
  let tail = lower * under + ((middle & 0xfffu) << 12u);
  let high = upper * over + (middle >> 12u) + (tail >> 24u);
  let low = tail & 0xffffffu;
  let exponent = p.exponent + q.exponent - 127;
  if (high >= 0x800000u) {
    return rounded(sign, exponent + 1, (high << 7u) | shift_sticky(low, 17u));
  }
  return rounded(sign, exponent, (high << 8u) | shift_sticky(low, 16u));
}

fn sum(a: u32, b: u32) -> u32 {
  var x = a;
  var y = b;
  if ((b & MAGNITUDE) > (a & MAGNITUDE)) {
    x = b;
    y = a;
  }
  let p = parts(x);
  let q = parts(y);
  if (q.significand == 0u) {
    // A sum of zeros is -0 only if both are.
    return select(x, a & b, p.significand == 0u);
  }
  let large = p.significand << 6u;
  let small = shift_sticky(q.significand << 6u, u32(p.exponent - q.exponent));
  let total = select(large - small, large + small, ((x ^ y) & SIGN) == 0u);
  if (total == 0u) {
    return 0u;
  }
  let up = 30u - firstLeadingBit(total);
  return rounded(x & SIGN, p.exponent + 1 - i32(up), total << up);
}

fn difference(a: u32, b: u32) -> u32 {
  return sum(a, b ^ SIGN);
}

// a / b; b must not be 0. A hardware float gives 25 bits of the quotient with an error of a few units, in any rounding
// direction. The remainder is so small that its low bits give it, and it corrects the quotient.
fn quotient(a: u32, b: u32) -> u32 {
  let sign = (a ^ b) & SIGN;
  let p = parts(a);
  let q = parts(b);
  if (p.significand == 0u || q.significand == 0u) {
    return sign;
  }
  var exponent = p.exponent - q.exponent + 127;
  var dividend = p.significand;
  if (dividend < q.significand) {
    dividend <<= 1u;
    exponent -= 1;
  }
  let divisor = f32(q.significand);
  var result = u32(f32(dividend) / divisor * 16777216.0);
  var rest = i32((dividend << 24u) - result * q.significand);
  let more = i32(floor(f32(rest) / divisor));
  result += u32(more);
  rest -= more * i32(q.significand);
  if (rest < 0) {
    result -= 1u;
    rest += i32(q.significand);
  } else if (rest >= i32(q.significand)) {
    result += 1u;
    rest -= i32(q.significand);
  }
  return rounded(sign, exponent, (result << 6u) | select(0u, 1u, rest != 0));
}

// The square root of a number that is not negative, computed as a quotient is. Ties do not occur.
fn root(x: u32) -> u32 {
  let p = parts(x);
  if (p.significand == 0u) {
    return x;
  }
  // radicand * 2^23 has a root of 24 bits; the remaining exponent must be even.
  var radicand = p.significand;
  var exponent = p.exponent - 150;
  if ((exponent & 1) == 0) {
    radicand <<= 1u;
    exponent -= 1;
  }
  var result = i32(sqrt(f32(radicand) * 8388608.0));
  var rest = i32((radicand << 23u) - u32(result) * u32(result));
  let more = i32(floor(f32(rest) / f32(2 * result)));
  rest -= more * (2 * result + more);
  result += more;
  if (rest < 0) {
    result -= 1;
    rest += 2 * result + 1;
  } else if (rest > 2 * result) {
    rest -= 2 * result + 1;
    result += 1;
  }
  if (rest > result) {
    result += 1;
  }
  return (u32((exponent - 23) / 2 + 149) << 23u) + u32(result);
}

// The integer part, at most top; 0 for negative numbers.
fn truncated(x: u32, top: u32) -> u32 {
  let exponent = x >> 23u;
  if (x >= SIGN || exponent < 127u) {
    return 0u;
  }
  if (exponent > 140u) {
    return top;
  }
  return min(top, ((x & 0x7fffffu) | 0x800000u) >> (150u - exponent));
}

fn widened(half: u32) -> u32 {
  let sign = (half & 0x8000u) << 16u;
  let field = (half >> 10u) & 0x1fu;
  let fraction = half & 0x3ffu;
  if (field == 31u) {
    return sign | INFINITE | (fraction << 13u) | select(0u, 0x400000u, fraction != 0u);
  }
  if (field != 0u) {
    return sign | ((field + 112u) << 23u) | (fraction << 13u);
  }
  if (fraction == 0u) {
    return sign;
  }
  let leading = firstLeadingBit(fraction);
  return sign | ((leading + 103u) << 23u) | ((fraction << (23u - leading)) & 0x7fffffu);
}

fn narrowed(x: u32) -> u32 {
  let sign = (x >> 16u) & 0x8000u;
  let a = x & MAGNITUDE;
  if (a >= 0x477ff000u) {
    return sign | 0x7c00u;
  }
  if (a >= 0x38800000u) {
    return sign | ((a - 0x38000000u + 0xfffu + ((a >> 13u) & 1u)) >> 13u);
  }
  let exponent = a >> 23u;
  if (exponent < 102u) {
    return sign;
  }
  let significand = (a & 0x7fffffu) | 0x800000u;
  let down = 126u - exponent;
  let whole = significand >> down;
  let rest = significand & ((1u << down) - 1u);
  let tie = 1u << (down - 1u);
  return sign | (whole + select(0u, 1u, rest > tie || (rest == tie && (whole & 1u) == 1u)));
}
