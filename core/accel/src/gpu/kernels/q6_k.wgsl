// Q6_K: 256 low nibbles, 256 upper pairs of bits, 16 signed scales, f16 d; w = d scale (q - 32).

const WIDTH = 16u;
const BYTES = 210u;
const LOW = -32;
const TOP = 31;

// The value of largest magnitude has code -32, the scale of largest magnitude -128.
fn search(block: u32, lane: u32) {
  if (WEIGHTED) {
    weigh(block, lane % PARTS, 0.0, false);
  } else {
    for (var i = 0u; i < WIDTH; i++) {
      uncertain = uncertain || !is_below_2p34(x[i]);
      w[i] = black_box(x[i] * x[i]);
    }
  }
  fit = symmetric(32);
  scales[lane] = fit.scale;
}

fn search_code(i: u32) -> u32 {
  return code_of_fit(fit, x[i]);
}

fn encode_header(lane: u32) {
  if (lane % PARTS != 0u) {
    return;
  }
  var most = 0.0;
  for (var j = 0u; j < PARTS; j++) {
    if (magnitude(scales[lane + j]) > magnitude(most)) {
      most = scales[lane + j];
    }
  }
  let nothing = magnitude(most) < EPSILON;
  all_zero[lane / PARTS] = nothing;
  if (nothing) {
    return;
  }
  let inverse = over(-128.0, most);
  for (var j = 0u; j < PARTS; j++) {
    steps[0][lane + j] = u32(min(nearest(times(inverse, scales[lane + j])), 127)) & 0xffu;
  }
  units[0][lane / PARTS] = field(bits(over(1.0, inverse)));
}

fn stored_scale_and_min(lane: u32) -> vec2<f32> {
  let scale = i32(steps[0][lane] << 24u) >> 24u;
  return vec2<f32>(black_box(bitcast<f32>(widened(units[0][lane / PARTS])) * f32(scale)), 0.0);
}

fn byte(block: u32, at: u32) -> u32 {
  if (at < 128u) {
    return packed(block, (at >> 6u) * 128u + (at & 63u), 64u, 0u, 4u);
  }
  if (at < 192u) {
    return packed(block, ((at - 128u) >> 5u) * 128u + (at & 31u), 32u, 4u, 2u);
  }
  if (at < 208u) {
    return steps[0][block * PARTS + at - 192u];
  }
  return (units[0][block] >> ((at & 1u) * 8u)) & 0xffu;
}

fn decode(at: u32, part: u32, to: u32) {
  let scale = i32(byte_at(at + 192u + part) << 24u) >> 24u;
  let d = field_at(at + 208u);
  for (var i = 0u; i < WIDTH; i++) {
    let v = part * 16u + i;
    let low = byte_at(at + (v >> 7u) * 64u + (v & 63u)) >> (((v >> 6u) & 1u) * 4u);
    let q = i32((low & 15u) | (quarter_at(at + 128u, v) << 4u)) - 32;
    result[to + i] = signed_multiple(d, scale, q);
  }
}
