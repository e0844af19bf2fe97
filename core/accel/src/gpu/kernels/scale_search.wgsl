// Scale searches of the CPU reference (`quant::scale_search`), one sub-block per invocation: sums in index order, products
// from left to right.
//
// Loops over values do not check single results. Bounds are checked before them, so that no sum overflows, no difference
// is flushed, and a flushed product does not change its sum.

// Candidate k assumes the top code top + first + step * k, for k from 0 to count.
struct Grid {
  top: f32,
  first: f32,
  step: f32,
  count: u32,
  absolute: bool,
}

// Values are scale * code - least; codes are those of inverse * (x - base), all lowest if inverse is 0.
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

// Values of this sub-block, their weights, and the codes of the candidate.
var<private> x: array<f32, WIDTH>;
var<private> w: array<f32, WIDTH>;
var<private> q: array<f32, WIDTH>;
// Whether any value is subnormal.
var<private> has_subnormal: bool;

// Magnitude below 2^34; false for NaN.
fn is_below_2p34(a: f32) -> bool {
  return magnitude(a) < 0x50800000u;
}

// 0, or magnitude from 2^-100 to 2^36: no error overflows and no difference from a value is flushed.
fn is_in_error_range(a: f32) -> bool {
  return is_zero(a) || magnitude(a) - TWO_POW_M100 < 0x44000000u;
}

// Codes of a candidate and their sums.
fn try_grid(inverse: f32, base: f32, top: i32) -> Sums {
  var s = Sums(0.0, 0.0, 0.0);
  for (var i = 0u; i < WIDTH; i++) {
    let code = f32(clamp(nearest(black_box(inverse * black_box(x[i] - base))), 0, top));
    q[i] = code;
    let part = black_box(w[i] * code);
    s.code = black_box(s.code + part);
    s.square = black_box(s.square + black_box(part * code));
    s.cross = black_box(s.cross + black_box(part * x[i]));
  }
  return s;
}

// The weighted error of scale * code + least.
fn error(scale: f32, least: f32, absolute: bool) -> f32 {
  uncertain = uncertain || !is_in_error_range(scale) || !is_in_error_range(least);
  var total = 0.0;
  for (var i = 0u; i < WIDTH; i++) {
    let off = black_box(black_box(black_box(scale * q[i]) + least) - x[i]);
    let part = black_box(w[i] * select(black_box(off * off), abs(off), absolute));
    // Flushed, and large enough to have changed the total.
    if (magnitude(part) < MIN_NORMAL && bits(total) < TWO_POW_M100 && off != 0.0 && w[i] != 0.0) {
      uncertain = true;
    }
    total = black_box(total + part);
  }
  return total;
}

fn asymmetric(grid: Grid) -> Fit {
  var least = x[0];
  var most = x[0];
  var sum_w = w[0];
  var sum_x = times(w[0], x[0]);
  var fine = !has_subnormal;
  for (var i = 0u; i < WIDTH; i++) {
    let part = times(w[i], x[i]);
    if (i > 0u) {
      least = select(least, x[i], order(bits(x[i])) < order(bits(least)));
      most = select(most, x[i], order(bits(x[i])) > order(bits(most)));
      sum_w = plus(sum_w, w[i]);
      sum_x = plus(sum_x, part);
    }
    uncertain = uncertain || !is_below_2p34(x[i]);
    fine = fine && (is_zero(x[i]) || magnitude(x[i]) >= TWO_POW_M102) && (is_zero(w[i]) || bits(w[i]) - TWO_POW_M102 < 0x44800000u);
    fine = fine && (is_zero(x[i]) || is_zero(w[i]) || magnitude(part) >= TWO_POW_M102);
  }
  least = select(least, 0.0, positive(least));
  if (order(bits(least)) == order(bits(most))) {
    uncertain = uncertain || has_subnormal;
    return Fit(0.0, -least, 0.0, 0.0);
  }
  uncertain = uncertain || !fine;
  let top = i32(grid.top);
  var fit = Fit(0.0, 0.0, over(grid.top, minus(most, least)), least);
  fit.scale = over(1.0, fit.inverse);
  _ = try_grid(fit.inverse, least, top);
  var best = error(fit.scale, least, grid.absolute);
  for (var k = 0u; k <= grid.count && !uncertain; k++) {
    // The range depends on the current minimum, which an earlier candidate may have changed.
    let range = minus(most, least);
    if (magnitude(range) < TWO_POW_M100) {
      uncertain = true;
      break;
    }
    let inverse = over(black_box(black_box(grid.first + black_box(grid.step * f32(k))) + grid.top), range);
    // Below 2^84 products with values are finite.
    uncertain = uncertain || magnitude(inverse) >= 0x69800000u;
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

// The value of largest magnitude; the first of equals.
fn value_of_max_magnitude() -> f32 {
  var most = 0.0;
  for (var i = 0u; i < WIDTH; i++) {
    if (magnitude(x[i]) > magnitude(most)) {
      most = x[i];
    }
  }
  return most;
}

// False below 2^-7 of the largest magnitude, where every code is 0 and flushed products do not matter.
fn is_significant(value: f32, most: f32) -> bool {
  return (magnitude(value) >> 23u) + 7u >= magnitude(most) >> 23u;
}

// Sums of weight * value * code, all of one sign, and of weight * code * code.
fn try_symmetric(inverse: f32, half: i32) -> Sums {
  var s = Sums(0.0, 0.0, 0.0);
  for (var i = 0u; i < WIDTH; i++) {
    let code = f32(clamp(nearest(black_box(inverse * x[i])), -half, half - 1));
    s.cross = black_box(s.cross + black_box(black_box(w[i] * x[i]) * code));
    s.square = black_box(s.square + black_box(black_box(w[i] * code) * code));
  }
  return s;
}

// 1e-15 (GROUP_MAX_EPS of ggml): sub-blocks below are taken for zeros.
const EPSILON = 0x26901d7du;

fn symmetric(half: i32) -> Fit {
  let most = value_of_max_magnitude();
  for (var i = 0u; i < WIDTH; i++) {
    uncertain = uncertain || !is_below_2p34(x[i]) || bits(w[i]) >= INFINITE;
  }
  if (magnitude(most) < EPSILON || uncertain) {
    return Fit(0.0, 0.0, 0.0, 0.0);
  }
  for (var i = 0u; i < WIDTH; i++) {
    let significant = is_significant(x[i], most) && !(WEIGHTED && is_zero(w[i]));
    // From 2^-126 to 2^53, so that squares of sums are finite.
    let bounded = bits(w[i]) - MIN_NORMAL < 0x59800000u && magnitude(black_box(w[i] * x[i])) - MIN_NORMAL < 0x59800000u;
    uncertain = uncertain || (significant && !bounded);
  }
  let full = f32(half);
  var fit = Fit(0.0, 0.0, over(-full, most), 0.0);
  var s = try_symmetric(fit.inverse, half);
  if (!is_zero(s.square)) {
    fit.scale = over(s.cross, s.square);
  }
  var best = product(bits(fit.scale), bits(s.cross));
  for (var k = -9; k <= 9; k++) {
    if (k == 0) {
      continue;
    }
    let inverse = over(-black_box(full + black_box(0.1 * f32(k))), most);
    s = try_symmetric(inverse, half);
    // In integers, since squares of sums may be subnormal. No side is negative, so bit patterns compare like numbers.
    let cross = bits(s.cross);
    if (positive(s.square) && product(cross, cross) > product(best, bits(s.square))) {
      fit.scale = over(s.cross, s.square);
      fit.inverse = inverse;
      best = product(bits(fit.scale), cross);
    }
  }
  return fit;
}
