// Q2_K: 16 bytes of scale and minimum, 256 codes of two bits, f16 d, f16 dmin; w = d scale q - dmin min.

const WIDTH = 16u;
const BYTES = 84u;
const LOW = 0;
const TOP = 3;
const GRID = Grid(3.0, -0.5, 0.1, 15u, true);
const SPREAD = 0.00390625;
const MOST = 15;
const LIMITED = false;

// Packed scale and minimum of a sub-block; the upper bits of a scale above 15 overlap the minimum, as in the reference.
fn scale_and_min(at: u32) -> u32 {
  return (steps[0][at] | (steps[1][at] << 4u)) & 0xffu;
}

fn stored_scale_and_min(lane: u32) -> vec2<f32> {
  let pair = scale_and_min(lane);
  let unit = bitcast<f32>(widened(units[0][lane / PARTS]));
  let least = bitcast<f32>(widened(units[1][lane / PARTS]));
  return vec2<f32>(black_box(unit * f32(pair & 15u)), black_box(least * f32(pair >> 4u)));
}

fn byte(block: u32, at: u32) -> u32 {
  if (at < 16u) {
    return scale_and_min(block * PARTS + at);
  }
  if (at < 80u) {
    let l = at - 16u;
    return packed(block, (l >> 5u) * 128u + (l & 31u), 32u, 0u, 2u);
  }
  return (units[(at >> 1u) & 1u][block] >> ((at & 1u) * 8u)) & 0xffu;
}

fn decode(at: u32, part: u32, to: u32) {
  let pair = byte_at(at + part);
  let unit = field_at(at + 80u);
  let least = multiple(field_at(at + 82u), i32(pair >> 4u));
  for (var i = 0u; i < WIDTH; i++) {
    let q = quarter_at(at + 16u, part * 16u + i);
    result[to + i] = difference(multiple(unit, i32((pair & 15u) * q)), least);
  }
}
