// Shared code of the types of 32 values per block: extremes, factors, codes. An invocation encodes two blocks, which are
// whole words in every type.

// Minimum distance from an integer at which the hardware float decides the code. The product is below 256 and is rounded a
// few times, in any direction, fused or not; the total error is below 2^-12.
const MARGIN = 0.00048828125;

// Index of the next 16-bit half of a word, and the low half that is not yet written.
var<private> next: u32;
var<private> waiting: u32;

fn emit(half: u32) {
  if ((next & 1u) == 0u) {
    waiting = half;
  } else {
    result[next >> 1u] = waiting | (half << 16u);
  }
  next += 1u;
}

// The value of largest magnitude; the first of equals, 0 for a block of zeros.
fn value_of_max_magnitude(base: u32) -> u32 {
  var most = 0u;
  for (var j = 0u; j < 32u; j++) {
    let x = load(base + j);
    if ((x & MAGNITUDE) > (most & MAGNITUDE)) {
      most = x;
    }
  }
  return most;
}

struct Extremes {
  least: u32,
  most: u32,
}

// Smallest and largest value; the first of equals.
fn extremes(base: u32) -> Extremes {
  var found = Extremes(load(base), load(base));
  for (var j = 1u; j < 32u; j++) {
    let x = load(base + j);
    if (order(x) < order(found.least)) {
      found.least = x;
    }
    if (order(x) > order(found.most)) {
      found.most = x;
    }
  }
  return found;
}

// Factor from values to codes, and whether hardware floats may decide codes.
struct Factor {
  bits: u32,
  in_float_range: bool,
}

// 1 / d, and 0 if d is 0. `in_float_range` is true far from the limits of F32, if all values are below 256 d.
fn factor(d: u32, max_value: u32) -> Factor {
  if ((d & MAGNITUDE) == 0u) {
    return Factor(0u, false);
  }
  let exponent = (d >> 23u) & 0xffu;
  let far = (max_value >> 23u) & 0xffu;
  let in_float_range = exponent > 66u && exponent < 188u && far <= exponent + 7u;
  return Factor(quotient(0x3f800000u, d), in_float_range);
}

// The integer part of t, or 0xffffffff if t is too close to an integer.
fn floor_if_certain(t: f32) -> u32 {
  let whole = u32(t);
  let rest = t - f32(whole);
  return select(0xffffffffu, whole, rest > MARGIN && rest < 1.0 - MARGIN);
}

// The integer part of x * factor + offset, at most top; 0 if the factor is infinite.
fn code(x: u32, by: Factor, offset: u32, top: u32) -> u32 {
  if (by.in_float_range) {
    let whole = floor_if_certain(bitcast<f32>(x) * bitcast<f32>(by.bits) + bitcast<f32>(offset));
    if (whole != 0xffffffffu) {
      return min(whole, top);
    }
  }
  if ((by.bits & MAGNITUDE) == INFINITE) {
    return 0u;
  }
  return truncated(sum(product(x, by.bits), offset), top);
}

// The integer part of (x - least) * factor + 1/2, at most top; 0 if the factor is infinite.
fn code_above(x: u32, least: u32, by: Factor, top: u32) -> u32 {
  if (by.in_float_range) {
    let whole = floor_if_certain((bitcast<f32>(x) - bitcast<f32>(least)) * bitcast<f32>(by.bits) + 0.5);
    if (whole != 0xffffffffu) {
      return min(whole, top);
    }
  }
  if ((by.bits & MAGNITUDE) == INFINITE) {
    return 0u;
  }
  return truncated(sum(product(difference(x, least), by.bits), 0x3f000000u), top);
}

// Two bytes of nibbles: codes j and j + 1 in the low nibbles, j + 16 and j + 17 in the high ones.
fn nibbles(codes: vec4<u32>) -> u32 {
  let c = codes & vec4<u32>(15u);
  return c.x | (c.y << 4u) | (c.z << 8u) | (c.w << 12u);
}

// The fifth bits of the same codes, at their positions in the block's 32-bit field.
fn fifths(codes: vec4<u32>, j: u32) -> u32 {
  let c = codes >> vec4<u32>(4u);
  return (c.x << j) | (c.y << (j + 16u)) | (c.z << (j + 1u)) | (c.w << (j + 17u));
}

@compute @workgroup_size(64)
fn quantize(@builtin(global_invocation_id) id: vec3<u32>) {
  let first = id.x * 2u;
  if (first >= size.blocks) {
    return;
  }
  next = first * HALVES;
  encode(first * 32u);
  if (first + 1u < size.blocks) {
    encode(first * 32u + 32u);
  } else {
    emit(0u);
  }
}

@compute @workgroup_size(64)
fn dequantize(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < size.blocks) {
    decode(id.x * HALVES, id.x * 32u);
  }
}
