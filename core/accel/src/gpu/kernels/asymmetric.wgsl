// Shared code of the types with a minimum (Q2_K, Q4_K, Q5_K): the fit of a sub-block (make_qkx2 of ggml) and the integer
// scales and minima of a super-block (make_qp).
//
// Each type defines the grid without importance (GRID), the factor from the sum of squares to the spread (SPREAD), and the
// largest integer scale (MOST).

const WEIGHTED_GRID = Grid(f32(TOP), -0.9, 0.05, 36u, false);

// Weights without importance: the magnitude, plus the root mean square unless the grid's error is absolute.
fn default_weights() {
  var total = 0.0;
  for (var i = 0u; i < WIDTH && !GRID.absolute; i++) {
    total = plus(total, squared(x[i]));
  }
  let average = bitcast<f32>(root(bits(times(total, 1.0 / f32(WIDTH)))));
  for (var i = 0u; i < WIDTH; i++) {
    w[i] = plus(average, bitcast<f32>(magnitude(x[i])));
  }
}

fn search(block: u32, lane: u32) {
  if (WEIGHTED) {
    weigh(block, lane % PARTS, times(squares(block), SPREAD), true);
    fit = asymmetric(WEIGHTED_GRID);
    var total = 0.0;
    for (var i = 0u; i < WIDTH; i++) {
      total = plus(total, w[i]);
    }
    counts[lane] = total;
  } else {
    default_weights();
    fit = asymmetric(GRID);
  }
  scales[lane] = fit.scale;
  minima[lane] = fit.least;
}

fn search_code(i: u32) -> u32 {
  return code_of_fit(fit, x[i]);
}

// Scales or minima of a super-block, their weights, and their integers.
var<private> numbers: array<f32, PARTS>;
var<private> count: array<f32, PARTS>;
var<private> integers: array<i32, PARTS>;

// The first invocation of a super-block encodes the scales, the second the minima.
fn encode_header(lane: u32) {
  let which = lane % PARTS;
  if (which > 1u) {
    return;
  }
  let base = lane - which;
  var most = 0.0;
  for (var j = 0u; j < PARTS; j++) {
    numbers[j] = select(minima[base + j], scales[base + j], which == 0u);
    count[j] = counts[base + j];
    integers[j] = 0;
    if (positive(numbers[j]) && bits(numbers[j]) > bits(most)) {
      most = numbers[j];
    }
  }
  var unit = 0.0;
  if (WEIGHTED) {
    if (bits(most) >= EPSILON) {
      unit = fit_integers(most);
    }
  } else if (!is_zero(most)) {
    unit = over(most, f32(MOST));
    round_integers(over(f32(MOST), most));
  }
  units[which][lane / PARTS] = field(bits(unit));
  for (var j = 0u; j < PARTS; j++) {
    let integer = u32(integers[j]) & 0xffu;
    steps[which][base + j] = select(integer, min(integer, u32(MOST)), LIMITED);
  }
}

// Rounds the numbers to integers. The reference casts them to bytes: -1 becomes 255.
fn round_integers(inverse: f32) {
  for (var j = 0u; j < PARTS; j++) {
    integers[j] = nearest(times(inverse, numbers[j]));
  }
}

// Rounds the numbers to integers of at most MOST.
fn round_integers_limited(inverse: f32) {
  round_integers(inverse);
  for (var j = 0u; j < PARTS; j++) {
    integers[j] = min(integers[j], MOST);
  }
}

// Weighted squared error of the integers.
fn integer_error(inverse: f32) -> f32 {
  let scale = over(1.0, inverse);
  var total = 0.0;
  for (var j = 0u; j < PARTS; j++) {
    let off = minus(numbers[j], times(scale, f32(integers[j])));
    total = plus(total, times(times(count[j], off), off));
  }
  return total;
}

// The scale of least error (make_qp): the best of nine candidates, then single integers are changed while the fit improves.
fn fit_integers(most: f32) -> f32 {
  var won = over(f32(MOST), most);
  round_integers(won);
  for (var j = 0u; j < PARTS; j++) {
    integers[j] &= 0xff;
  }
  var best = integer_error(won);
  for (var k = -4; k <= 4; k++) {
    if (k == 0) {
      continue;
    }
    let inverse = over(black_box(black_box(0.1 * f32(k)) + f32(MOST)), most);
    round_integers_limited(inverse);
    let tried = integer_error(inverse);
    if (bits(tried) < bits(best)) {
      best = tried;
      won = inverse;
    }
  }
  round_integers_limited(won);
  var cross = 0.0;
  var square = 0.0;
  for (var j = 0u; j < PARTS; j++) {
    let n = f32(integers[j]);
    cross = plus(cross, times(times(count[j], numbers[j]), n));
    square = plus(square, times(times(count[j], n), n));
    integers[j] &= 0xff;
  }
  for (var turn = 0u; turn < 5u; turn++) {
    var moved = false;
    for (var j = 0u; j < PARTS; j++) {
      let n = f32(integers[j]);
      let part = times(count[j], numbers[j]);
      var without = minus(cross, times(part, n));
      var rest = minus(square, times(times(count[j], n), n));
      if (!positive(without) || !positive(rest)) {
        continue;
      }
      let other = min(nearest(over(times(numbers[j], rest), without)), MOST);
      if (other == integers[j]) {
        continue;
      }
      without = plus(without, times(part, f32(other)));
      rest = plus(rest, times(times(count[j], f32(other)), f32(other)));
      let better = times(times(without, without), square);
      // `order` puts negative numbers below all others.
      if (order(bits(better)) > order(bits(times(times(cross, cross), rest)))) {
        integers[j] = other & 0xff;
        cross = without;
        square = rest;
        moved = true;
      }
    }
    if (!moved) {
      break;
    }
  }
  if (!positive(square)) {
    return 0.0;
  }
  return over(cross, square);
}
