// Q5_0: f16 d, 32 fifth bits, 32 nibbles; w = d (q - 16). d is the value of largest magnitude over -16.

const HALVES = 11u;

fn q(at: u32, by: Factor) -> u32 {
  return code(load(at), by, 0x41840000u, 31u);
}

fn encode(base: u32) {
  let most = value_of_max_magnitude(base);
  let d = quotient(most, 0xc1800000u);
  let by = factor(d, most);
  var low: array<u32, 8>;
  var fifth = 0u;
  for (var k = 0u; k < 8u; k++) {
    let j = base + 2u * k;
    let codes = vec4<u32>(q(j, by), q(j + 16u, by), q(j + 1u, by), q(j + 17u, by));
    low[k] = nibbles(codes);
    fifth |= fifths(codes, 2u * k);
  }
  emit(field(d));
  emit(fifth & 0xffffu);
  emit(fifth >> 16u);
  for (var k = 0u; k < 8u; k++) {
    emit(low[k]);
  }
}

fn decode(at: u32, base: u32) {
  let d = half_at(at);
  let fifth = half_at(at + 1u) | (half_at(at + 2u) << 16u);
  for (var j = 0u; j < 16u; j++) {
    let byte = half_at(at + 3u + (j >> 1u)) >> ((j & 1u) * 8u);
    let low = (byte & 15u) | (((fifth >> j) & 1u) << 4u);
    let high = ((byte >> 4u) & 15u) | (((fifth >> (j + 16u)) & 1u) << 4u);
    result[base + j] = multiple(d, i32(low) - 16);
    result[base + j + 16u] = multiple(d, i32(high) - 16);
  }
}
