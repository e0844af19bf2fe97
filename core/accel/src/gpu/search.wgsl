// The searches of the definition, one sub-block an invocation: every sum in index order, each product from the left.
//
// In the loops over values nothing is told of single results, so that bounds are checked before them: there no sum
// overflows, no difference is flushed, and what is flushed of a product is nothing beside the sum.

// Candidates: as if the top code were top + first + step * k, for k up to count.
struct Grid {
  top: f32,
  first: f32,
  step: f32,
  count: u32,
  absolute: bool,
}

// scale * code - least, codes chosen as those of inverse * (x - base); all lowest where inverse is 0.
struct Fit {
  scale: f32,
  least: f32,
  inverse: f32,
  base: f32,
}

struct Sums {
  code: f32,
  square: f32,
  cross: f32,
}

// The values of this sub-block, what each counts, and the codes of the candidate.
var<private> x: array<f32, WIDTH>;
var<private> w: array<f32, WIDTH>;
var<private> q: array<f32, WIDTH>;
// Whether a value is subnormal.
var<private> tiny: bool;

// Below 2^34; NaN is not.
fn is_modest(a: f32) -> bool {
  return magnitude(a) < 0x50800000u;
}

// 0, or from 2^-100 to 2^36: then no error overflows, and no difference from a value is flushed.
fn is_calm(a: f32) -> bool {
  return is_zero(a) || magnitude(a) - WASHED < 0x44000000u;
}

// Codes of a candidate and their sums.
fn try_grid(inverse: f32, base: f32, top: i32) -> Sums {
  var s = Sums(0.0, 0.0, 0.0);
  for (var i = 0u; i < WIDTH; i++) {
    let code = f32(clamp(nearest(kept(inverse * kept(x[i] - base))), 0, top));
    q[i] = code;
    let part = kept(w[i] * code);
    s.code = kept(s.code + part);
    s.square = kept(s.square + kept(part * code));
    s.cross = kept(s.cross + kept(part * x[i]));
  }
  return s;
}

// The weighted error of scale * code + least.
fn error(scale: f32, least: f32, absolute: bool) -> f32 {
  doubted = doubted || !is_calm(scale) || !is_calm(least);
  var total = 0.0;
  for (var i = 0u; i < WIDTH; i++) {
    let off = kept(kept(kept(scale * q[i]) + least) - x[i]);
    let part = kept(w[i] * select(kept(off * off), abs(off), absolute));
    // Flushed, and not washed away by what is there.
    if (magnitude(part) < NORMAL && bits(total) < WASHED && off != 0.0 && w[i] != 0.0) {
      doubted = true;
    }
    total = kept(total + part);
  }
  return total;
}

fn with_minimum(grid: Grid) -> Fit {
  var least = x[0];
  var most = x[0];
  var sum_w = w[0];
  var sum_x = times(w[0], x[0]);
  var fine = !tiny;
  for (var i = 0u; i < WIDTH; i++) {
    let part = times(w[i], x[i]);
    if (i > 0u) {
      least = select(least, x[i], order(bits(x[i])) < order(bits(least)));
      most = select(most, x[i], order(bits(x[i])) > order(bits(most)));
      sum_w = plus(sum_w, w[i]);
      sum_x = plus(sum_x, part);
    }
    doubted = doubted || !is_modest(x[i]);
    fine = fine && (is_zero(x[i]) || magnitude(x[i]) >= SAFE) && (is_zero(w[i]) || bits(w[i]) - SAFE < 0x44800000u);
    fine = fine && (is_zero(x[i]) || is_zero(w[i]) || magnitude(part) >= SAFE);
  }
  least = select(least, 0.0, positive(least));
  if (order(bits(least)) == order(bits(most))) {
    doubted = doubted || tiny;
    return Fit(0.0, -least, 0.0, 0.0);
  }
  doubted = doubted || !fine;
  let top = i32(grid.top);
  var fit = Fit(0.0, 0.0, over(grid.top, minus(most, least)), least);
  fit.scale = over(1.0, fit.inverse);
  _ = try_grid(fit.inverse, least, top);
  var best = error(fit.scale, least, grid.absolute);
  for (var k = 0u; k <= grid.count && !doubted; k++) {
    // The range of values is that of the current minimum, which a winner may have moved.
    let range = minus(most, least);
    if (magnitude(range) < WASHED) {
      doubted = true;
      break;
    }
    let inverse = over(kept(kept(grid.first + kept(grid.step * f32(k))) + grid.top), range);
    // 2^84: its products with values are finite.
    doubted = doubted || magnitude(inverse) >= 0x69800000u;
    let s = try_grid(inverse, least, top);
    let det = minus(times(sum_w, s.square), times(s.code, s.code));
    if (!positive(det)) {
      continue;
    }
    var scale = over(minus(times(sum_w, s.cross), times(sum_x, s.code)), det);
    var lower = over(minus(times(s.square, sum_x), times(s.code, s.cross)), det);
    if (positive(lower)) {
      lower = 0.0;
      scale = over(s.cross, s.square);
    }
    let tried = error(scale, lower, grid.absolute);
    if (tried < best) {
      best = tried;
      fit = Fit(scale, 0.0, inverse, least);
      least = lower;
    }
  }
  fit.least = -least;
  return fit;
}

// The value of greatest magnitude, the first of equals.
fn loudest() -> f32 {
  var most = 0.0;
  for (var i = 0u; i < WIDTH; i++) {
    if (magnitude(x[i]) > magnitude(most)) {
      most = x[i];
    }
  }
  return most;
}

// Seven octaves below the loudest every code is 0, and so is whatever is flushed of its products.
fn is_heard(value: f32, most: f32) -> bool {
  return (magnitude(value) >> 23u) + 7u >= magnitude(most) >> 23u;
}

// Sums of weight * value * code, which are all of one sign, and of weight * code * code.
fn try_around(inverse: f32, half: i32) -> Sums {
  var s = Sums(0.0, 0.0, 0.0);
  for (var i = 0u; i < WIDTH; i++) {
    let code = f32(clamp(nearest(kept(inverse * x[i])), -half, half - 1));
    s.cross = kept(s.cross + kept(kept(w[i] * x[i]) * code));
    s.square = kept(s.square + kept(kept(w[i] * code) * code));
  }
  return s;
}

// 1e-15: what is less is taken for zeros.
const EPSILON = 0x26901d7du;

fn around_zero(half: i32) -> Fit {
  let most = loudest();
  for (var i = 0u; i < WIDTH; i++) {
    doubted = doubted || !is_modest(x[i]) || bits(w[i]) >= INFINITE;
  }
  if (magnitude(most) < EPSILON || doubted) {
    return Fit(0.0, 0.0, 0.0, 0.0);
  }
  for (var i = 0u; i < WIDTH; i++) {
    let heard = is_heard(x[i], most) && !(WEIGHTED && is_zero(w[i]));
    // From 2^-126 to 2^53: the squares of sums are finite.
    let bounded = bits(w[i]) - NORMAL < 0x59800000u && magnitude(kept(w[i] * x[i])) - NORMAL < 0x59800000u;
    doubted = doubted || (heard && !bounded);
  }
  let full = f32(half);
  var fit = Fit(0.0, 0.0, over(-full, most), 0.0);
  var s = try_around(fit.inverse, half);
  if (!is_zero(s.square)) {
    fit.scale = over(s.cross, s.square);
  }
  var best = product(bits(fit.scale), bits(s.cross));
  for (var k = -9; k <= 9; k++) {
    if (k == 0) {
      continue;
    }
    let inverse = over(-kept(full + kept(0.1 * f32(k))), most);
    s = try_around(inverse, half);
    // By integers, for squares of sums may be subnormal; neither side is negative, so that patterns are in their order.
    let cross = bits(s.cross);
    if (positive(s.square) && product(cross, cross) > product(best, bits(s.square))) {
      fit.scale = over(s.cross, s.square);
      fit.inverse = inverse;
      best = product(bits(fit.scale), cross);
    }
  }
  return fit;
}
