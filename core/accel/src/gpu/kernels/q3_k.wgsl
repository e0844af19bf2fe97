// Q3_K: 256 upper bits, 256 codes of two bits, 12 bytes of 16 scales, f16 d; w = d (scale - 32) (q - 4).

const WIDTH = 16u;
const BYTES = 110u;
const LOW = -4;
const TOP = 3;

var<private> moved: array<i32, WIDTH>;

// make_q3_quants of ggml: codes of one grid, then single codes are changed while the fit improves.
fn refine() -> f32 {
  let most = value_of_max_magnitude();
  for (var i = 0u; i < WIDTH; i++) {
    uncertain = uncertain || !is_below_2p34(x[i]);
    moved[i] = LOW;
  }
  if (magnitude(most) < EPSILON || uncertain) {
    return 0.0;
  }
  let inverse = over(f32(LOW), most);
  var cross = 0.0;
  var square = 0.0;
  for (var i = 0u; i < WIDTH; i++) {
    w[i] = black_box(x[i] * x[i]);
    // Values far below the largest contribute to no sum. Below 2^40 no product of sums overflows.
    let part = black_box(w[i] * x[i]);
    uncertain = uncertain || (is_significant(x[i], most) && magnitude(part) - MIN_NORMAL >= 0x53000000u);
    moved[i] = clamp(nearest(black_box(inverse * x[i])), LOW, TOP);
    let n = f32(moved[i]);
    cross = plus(cross, black_box(part * n));
    square = plus(square, black_box(black_box(w[i] * n) * n));
  }
  for (var turn = 0u; turn < 5u; turn++) {
    var any = false;
    for (var i = 0u; i < WIDTH; i++) {
      let n = f32(moved[i]);
      let part = black_box(w[i] * x[i]);
      var without = minus(cross, black_box(part * n));
      if (!positive(without)) {
        continue;
      }
      var rest = minus(square, black_box(black_box(w[i] * n) * n));
      let other = clamp(nearest(over(times(x[i], rest), without)), LOW, TOP);
      if (other == moved[i]) {
        continue;
      }
      uncertain = uncertain || !is_significant(x[i], most);
      let m = f32(other);
      without = plus(without, black_box(part * m));
      rest = plus(rest, black_box(black_box(w[i] * m) * m));
      let better = product(product(bits(without), bits(without)), bits(square));
      let good = product(product(bits(cross), bits(cross)), bits(rest));
      if (positive(rest) && order(better) > order(good)) {
        moved[i] = other;
        cross = without;
        square = rest;
        any = true;
      }
    }
    if (!any) {
      break;
    }
  }
  if (!positive(square)) {
    return 0.0;
  }
  return over(cross, square);
}

fn search(block: u32, lane: u32) {
  if (WEIGHTED) {
    weigh(block, lane % PARTS, times(squares(block), 0.0078125), true);
    var total = 0.0;
    for (var i = 0u; i < WIDTH; i++) {
      total = plus(total, w[i]);
    }
    counts[lane] = total;
    fit = symmetric(4);
    for (var i = 0u; i < WIDTH; i++) {
      moved[i] = i32(code_of_fit(fit, x[i])) + LOW;
    }
    scales[lane] = fit.scale;
  } else {
    scales[lane] = refine();
  }
}

fn search_code(i: u32) -> u32 {
  return u32(moved[i] - LOW);
}

fn encode_header(lane: u32) {
  if (lane % PARTS != 0u) {
    return;
  }
  if (WEIGHTED) {
    encode_header_weighted(lane);
    return;
  }
  var most = 0.0;
  for (var j = 0u; j < PARTS; j++) {
    if (magnitude(scales[lane + j]) > magnitude(most)) {
      most = scales[lane + j];
    }
  }
  if (is_zero(most)) {
    return;
  }
  let inverse = over(-32.0, most);
  for (var j = 0u; j < PARTS; j++) {
    steps[0][lane + j] = u32(clamp(nearest(times(inverse, scales[lane + j])), -32, 31) + 32);
  }
  units[0][lane / PARTS] = field(bits(over(1.0, inverse)));
}

// Fits the scales as values are fitted; the weight of a scale is the sum of its values' weights.
fn encode_header_weighted(lane: u32) {
  var values: array<f32, WIDTH>;
  for (var j = 0u; j < PARTS; j++) {
    values[j] = x[j];
    x[j] = scales[lane + j];
    w[j] = counts[lane + j];
  }
  let found = symmetric(32);
  for (var j = 0u; j < PARTS; j++) {
    var step = 0;
    if (!is_zero(found.inverse)) {
      step = clamp(nearest(black_box(found.inverse * x[j])), -32, 31) + 32;
    }
    steps[0][lane + j] = u32(step);
    x[j] = values[j];
  }
  units[0][lane / PARTS] = field(bits(found.scale));
}

fn stored_scale_and_min(lane: u32) -> vec2<f32> {
  let unit = bitcast<f32>(widened(units[0][lane / PARTS]));
  return vec2<f32>(black_box(unit * f32(i32(steps[0][lane]) - 32)), 0.0);
}

fn byte(block: u32, at: u32) -> u32 {
  if (at < 32u) {
    return packed(block, at, 32u, 2u, 1u);
  }
  if (at < 96u) {
    return packed(block, ((at - 32u) >> 5u) * 128u + (at & 31u), 32u, 0u, 2u);
  }
  let base = block * PARTS;
  if (at < 104u) {
    let j = base + at - 96u;
    return (steps[0][j] & 15u) | ((steps[0][j + 8u] & 15u) << 4u);
  }
  if (at < 108u) {
    var upper = 0u;
    for (var k = 0u; k < 4u; k++) {
      upper |= ((steps[0][base + at - 104u + 4u * k] >> 4u) & 3u) << (2u * k);
    }
    return upper;
  }
  return (units[0][block] >> ((at & 1u) * 8u)) & 0xffu;
}

fn decode(at: u32, part: u32, to: u32) {
  let low = byte_at(at + 96u + (part & 7u)) >> ((part >> 3u) * 4u);
  let high = byte_at(at + 104u + (part & 3u)) >> ((part >> 2u) * 2u);
  let scale = i32((low & 15u) | ((high & 3u) << 4u)) - 32;
  let d = field_at(at + 108u);
  for (var i = 0u; i < WIDTH; i++) {
    let v = part * 16u + i;
    let upper = (byte_at(at + (v & 31u)) >> (v >> 5u)) & 1u;
    let q = i32(quarter_at(at + 32u, v) | (upper << 2u)) - 4;
    result[to + i] = signed_multiple(d, scale, q);
  }
}
