// The types with a minimum: what is found of a sub-block, and how scales and minima become integers under one unit.
//
// A type says which grids there are without weights (GRID), the spread of a sum of squares (SPREAD), and the greatest
// integer of a scale (MOST).

const WEIGHTED_GRID = Grid(f32(TOP), -0.9, 0.05, 36u, false);

// What values count without importance: their magnitude, and mostly the root mean square too.
fn measure() {
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
    fit = with_minimum(WEIGHTED_GRID);
    var total = 0.0;
    for (var i = 0u; i < WIDTH; i++) {
      total = plus(total, w[i]);
    }
    counts[lane] = total;
  } else {
    measure();
    fit = with_minimum(GRID);
  }
  scales[lane] = fit.scale;
  minima[lane] = fit.least;
}

fn left(i: u32) -> u32 {
  return left_of(fit, x[i]);
}

// The numbers of a super-block that are shared out, what each counts, and the integers.
var<private> numbers: array<f32, PARTS>;
var<private> count: array<f32, PARTS>;
var<private> integers: array<i32, PARTS>;

// A sub-block's invocation shares out scales, the next one minima; the others have nothing to do.
fn share(lane: u32) {
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
    take(over(f32(MOST), most));
  }
  units[which][lane / PARTS] = field(bits(unit));
  for (var j = 0u; j < PARTS; j++) {
    let integer = u32(integers[j]) & 0xffu;
    steps[which][base + j] = select(integer, min(integer, u32(MOST)), LIMITED);
  }
}

// The integers of a grid; they are cast to bytes, so that -1 is 255.
fn take(inverse: f32) {
  for (var j = 0u; j < PARTS; j++) {
    integers[j] = nearest(times(inverse, numbers[j]));
  }
}

// As `take`, at most the greatest.
fn take_limited(inverse: f32) {
  take(inverse);
  for (var j = 0u; j < PARTS; j++) {
    integers[j] = min(integers[j], MOST);
  }
}

// The weighted error of the integers of a grid.
fn integer_error(inverse: f32) -> f32 {
  let scale = over(1.0, inverse);
  var total = 0.0;
  for (var j = 0u; j < PARTS; j++) {
    let off = minus(numbers[j], times(scale, f32(integers[j])));
    total = plus(total, times(times(count[j], off), off));
  }
  return total;
}

// The unit of least error: the best of nine grids, then single integers moved while that helps.
fn fit_integers(most: f32) -> f32 {
  var won = over(f32(MOST), most);
  take(won);
  for (var j = 0u; j < PARTS; j++) {
    integers[j] &= 0xff;
  }
  var best = integer_error(won);
  for (var k = -4; k <= 4; k++) {
    if (k == 0) {
      continue;
    }
    let inverse = over(kept(kept(0.1 * f32(k)) + f32(MOST)), most);
    take_limited(inverse);
    let tried = integer_error(inverse);
    if (bits(tried) < bits(best)) {
      best = tried;
      won = inverse;
    }
  }
  take_limited(won);
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
      // A negative side is less than any other.
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
