// Q4_1: f16 d, f16 m, 32 nibbles; w = d q + m. m is the smallest value, d the range over 15.

const HALVES = 10u;

fn q(at: u32, least: u32, by: Factor) -> u32 {
  return code_above(load(at), least, by, 15u);
}

fn encode(base: u32) {
  let ends = extremes(base);
  let d = quotient(difference(ends.most, ends.least), 0x41700000u);
  let by = factor(d, max(ends.least & MAGNITUDE, ends.most & MAGNITUDE));
  emit(field(d));
  emit(field(ends.least));
  for (var j = base; j < base + 16u; j += 2u) {
    let low = vec2<u32>(q(j, ends.least, by), q(j + 1u, ends.least, by));
    emit(nibbles(vec4<u32>(low.x, q(j + 16u, ends.least, by), low.y, q(j + 17u, ends.least, by))));
  }
}

fn decode(at: u32, base: u32) {
  let d = half_at(at);
  // Declines a minimum that is not finite.
  let least = multiple(half_at(at + 1u), 1);
  for (var j = 0u; j < 16u; j++) {
    let byte = half_at(at + 2u + (j >> 1u)) >> ((j & 1u) * 8u);
    result[base + j] = sum(multiple(d, i32(byte & 15u)), least);
    result[base + j + 16u] = sum(multiple(d, i32((byte >> 4u) & 15u)), least);
  }
}
