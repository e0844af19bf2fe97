// Q8_0: f16 d, 32 signed bytes; w = d q. d = absmax / 127; ties round away from zero.

const HALVES = 17u;

fn signed_byte(x: u32, by: Factor) -> u32 {
  // The largest F32 below one half: with 0.5 itself, 0.49999997 would round to 1.
  let q = code(x & MAGNITUDE, by, 0x3effffffu, 127u);
  return select(q, (256u - q) & 0xffu, x >= SIGN);
}

fn encode(base: u32) {
  let most = value_of_max_magnitude(base) & MAGNITUDE;
  let d = quotient(most, 0x42fe0000u);
  let by = factor(d, most);
  emit(field(d));
  for (var j = 0u; j < 32u; j += 2u) {
    emit(signed_byte(load(base + j), by) | (signed_byte(load(base + j + 1u), by) << 8u));
  }
}

fn decode(at: u32, base: u32) {
  let d = half_at(at);
  for (var j = 0u; j < 16u; j++) {
    let pair = half_at(at + 1u + j);
    result[base + 2u * j] = multiple(d, i32(pair << 24u) >> 24u);
    result[base + 2u * j + 1u] = multiple(d, i32(pair << 16u) >> 24u);
  }
}
