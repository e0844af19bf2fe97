// Header of Q4_K and Q5_K: two F16, then eight scales and eight minima of six bits in twelve bytes.

// Six bits as they are read back; the upper bits of an integer above 63 overlap another one, as in the reference.
fn six_bits(which: u32, base: u32, j: u32) -> u32 {
  let own = steps[which][base + j];
  if (j < 4u) {
    return own & 63u;
  }
  return (own & 15u) | ((((steps[which][base + j - 4u] >> 6u) | (own >> 4u)) & 3u) << 4u);
}

fn stored_scale_and_min(lane: u32) -> vec2<f32> {
  let j = lane % PARTS;
  let unit = units[0][lane / PARTS];
  let least = units[1][lane / PARTS];
  return vec2<f32>(
    black_box(bitcast<f32>(widened(unit)) * f32(six_bits(0u, lane - j, j))),
    black_box(bitcast<f32>(widened(least)) * f32(six_bits(1u, lane - j, j))),
  );
}

// Byte `at` of the 16-byte header.
fn header(block: u32, at: u32) -> u32 {
  if (at < 4u) {
    return (units[at >> 1u][block] >> ((at & 1u) * 8u)) & 0xffu;
  }
  let base = block * PARTS + (at & 3u);
  if (at < 12u) {
    let which = (at >> 2u) - 1u;
    return (steps[which][base] | ((steps[which][base + 4u] >> 4u) << 6u)) & 0xffu;
  }
  return ((steps[0][base + 4u] & 15u) | (steps[1][base + 4u] << 4u)) & 0xffu;
}

// Scale and minimum of sub-block `part` of the block at byte `at`.
fn six_bits_at(at: u32, part: u32) -> vec2<u32> {
  let low = byte_at(at + 4u + part);
  let high = byte_at(at + 8u + part);
  if (part < 4u) {
    return vec2<u32>(low, high) & vec2<u32>(63u);
  }
  return vec2<u32>((high & 15u) | ((byte_at(at + part) >> 6u) << 4u), (high >> 4u) | ((low >> 6u) << 4u));
}

fn decode(at: u32, part: u32, to: u32) {
  let both = six_bits_at(at, part);
  let unit = field_at(at);
  let least = multiple(field_at(at + 2u), i32(both.y));
  for (var i = 0u; i < WIDTH; i++) {
    result[to + i] = difference(multiple(unit, i32(both.x * code_at(at, part, i))), least);
  }
}
