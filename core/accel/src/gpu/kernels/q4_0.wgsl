// Q4_0: f16 d, 32 nibbles; w = d (q - 8). d is the value of largest magnitude over -8.

const HALVES = 9u;

fn q(at: u32, by: Factor) -> u32 {
  return code(load(at), by, 0x41080000u, 15u);
}

fn encode(base: u32) {
  let most = value_of_max_magnitude(base);
  let d = quotient(most, 0xc1000000u);
  let by = factor(d, most);
  emit(field(d));
  for (var j = base; j < base + 16u; j += 2u) {
    emit(nibbles(vec4<u32>(q(j, by), q(j + 16u, by), q(j + 1u, by), q(j + 17u, by))));
  }
}

fn decode(at: u32, base: u32) {
  let d = half_at(at);
  for (var j = 0u; j < 16u; j++) {
    let byte = half_at(at + 1u + (j >> 1u)) >> ((j & 1u) * 8u);
    result[base + j] = multiple(d, i32(byte & 15u) - 8);
    result[base + j + 16u] = multiple(d, i32((byte >> 4u) & 15u) - 8);
  }
}
