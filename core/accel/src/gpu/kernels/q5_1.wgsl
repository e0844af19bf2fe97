// Q5_1: f16 d, f16 m, 32 fifth bits, 32 nibbles; w = d q + m. m is the smallest value, d the range over 31.

const HALVES = 12u;

fn q(at: u32, least: u32, by: Factor) -> u32 {
  return code_above(load(at), least, by, 31u);
}

fn encode(base: u32) {
  let ends = extremes(base);
  let least = ends.least;
  let d = quotient(difference(ends.most, least), 0x41f80000u);
  let by = factor(d, max(least & MAGNITUDE, ends.most & MAGNITUDE));
  var low: array<u32, 8>;
  var fifth = 0u;
  for (var k = 0u; k < 8u; k++) {
    let j = base + 2u * k;
    let codes = vec4<u32>(q(j, least, by), q(j + 16u, least, by), q(j + 1u, least, by), q(j + 17u, least, by));
    low[k] = nibbles(codes);
    fifth |= fifths(codes, 2u * k);
  }
  emit(field(d));
  emit(field(least));
  emit(fifth & 0xffffu);
  emit(fifth >> 16u);
  for (var k = 0u; k < 8u; k++) {
    emit(low[k]);
  }
}

fn decode(at: u32, base: u32) {
  let d = half_at(at);
  // Declines a minimum that is not finite.
  let least = multiple(half_at(at + 1u), 1);
  let fifth = half_at(at + 2u) | (half_at(at + 3u) << 16u);
  for (var j = 0u; j < 16u; j++) {
    let byte = half_at(at + 4u + (j >> 1u)) >> ((j & 1u) * 8u);
    let low = (byte & 15u) | (((fifth >> j) & 1u) << 4u);
    let high = ((byte >> 4u) & 15u) | (((fifth >> (j + 16u)) & 1u) << 4u);
    result[base + j] = sum(multiple(d, i32(low)), least);
    result[base + j + 16u] = sum(multiple(d, i32(high)), least);
  }
}
