// The searches for scales, one thread to a sub-block: `quantoscope_core::quant::search` is the definition, whose operations these
// are, in its order. Values lie in shared memory, so that loops stay loops and registers few.

#pragma once

#include "float.cuh"

// A sub-block whose greatest magnitude is below this is taken for zeros.
#define EPSILON 1e-15f
// 1.5 * 2^23: what is added to it is rounded to an integer. Then the bits that hold 0, and those that make it a float.
#define MAGIC 12582912.0f
enum : u32 { ZERO_CODE = 0x400000u, FRACTION = 0x7FFFFFu, EXPONENT = 0x4B000000u };

// Threads of a warp, and the distance in shared memory of what one thread has of two neighbouring values: one more, so that
// neither a warp's values nor its threads meet in a bank.
enum : u32 { LANES = 32, STEP = LANES + 1 };

// Numbers in shared memory, so far apart.
template <u32 APART>
struct Numbers {
  float *at;
  INLINE_MEMBER float operator[](u32 i) const { return at[APART * i]; }
};

// The values of this thread's sub-block.
typedef Numbers<STEP> Own;

// What approximates a sub-block, `scale * code - min`, and how its codes were chosen: as those of `inverse * (x - base)`.
// Where `inverse` is 0, every code is the lowest.
struct Fit {
  float scale, min, inverse, base;
};

INLINE float difference(float a, float b) { return __fsub_rn(a, b); }
INLINE float product(float a, float b) { return __fmul_rn(a, b); }
INLINE float product(float a, float b, float c) { return __fmul_rn(__fmul_rn(a, b), c); }
INLINE float loud(float x) { return number(magnitude(x)); }

// The nearest integer, halves to even; of what is no number, 0; beyond 2^22 what the bits of the sum happen to hold.
INLINE int nearest(float x) {
  float sum = __fadd_rn(x, MAGIC);
  return sum == sum ? (int)(bits(sum) & FRACTION) - (int)ZERO_CODE : 0;
}

INLINE int within(int low, int x, int high) { return min(max(x, low), high); }

// The nearest integer of a number, held within limits, as a float: all of it on the bits of the sum.
INLINE float nearest_within(int low, float x, int high) {
  u32 sum = bits(__fadd_rn(x, MAGIC)) & FRACTION | EXPONENT;
  u32 least = (EXPONENT | ZERO_CODE) + (u32)low, most = (EXPONENT | ZERO_CODE) + (u32)high;
  return __fsub_rn(number(min(max(sum, least), most)), MAGIC);
}

// What each value of a sub-block counts

struct Magnitude {
  INLINE_MEMBER float operator()(u32, float x) const { return loud(x); }
};

struct Square {
  INLINE_MEMBER float operator()(u32, float x) const { return product(x, x); }
};

struct Loudness {
  float average;
  INLINE_MEMBER float operator()(u32, float x) const { return __fadd_rn(average, loud(x)); }
};

template <u32 N>
INLINE Loudness loudness(Own x) {
  float sum = 0.0f;
#pragma unroll 4
  for (u32 i = 0; i < N; i++) sum = __fadd_rn(sum, product(x[i], x[i]));
  return {__fsqrt_rn(__fdiv_rn(sum, (float)N))};
}

template <u32 APART>
struct Given {
  Numbers<APART> all;
  INLINE_MEMBER float operator()(u32 i, float) const { return all[i]; }
};

// With a minimum

// Which grids are tried: as if the top code were `top + first + step * k`, for `k` up to `count`.
struct Grid {
  int top;
  float first, step;
  int count;
};

// The weighted error of `scale * code + least`, codes those of a grid.
template <u32 N, bool ABSOLUTE, class Weigh>
INLINE float error(Own x, Weigh weigh, int top, float inverse, float base, float scale, float least) {
  float sum = 0.0f;
#pragma unroll 4
  for (u32 i = 0; i < N; i++) {
    float q = nearest_within(0, product(inverse, difference(x[i], base)), top);
    float d = difference(__fadd_rn(product(scale, q), least), x[i]);
    sum = __fadd_rn(sum, product(weigh(i, x[i]), ABSOLUTE ? loud(d) : product(d, d)));
  }
  return sum;
}

// The scale and minimum of the least error over the grids.
//
// A step that is 0 or infinite gives code 0 to every value, for products that are no number count as 0; no scale follows
// from such codes. So these grids are passed over, and no others have such products.
template <u32 N, bool ABSOLUTE, class Weigh>
INLINE Fit with_minimum(Grid grid, Own x, Weigh weigh) {
  float least = x[0], most = x[0], sum_w = weigh(0, x[0]), sum_x = product(sum_w, x[0]);
#pragma unroll 4
  for (u32 i = 1; i < N; i++) {
    float w = weigh(i, x[i]);
    if (x[i] < least) least = x[i];
    if (x[i] > most) most = x[i];
    sum_w = __fadd_rn(sum_w, w);
    sum_x = __fadd_rn(sum_x, product(w, x[i]));
  }
  if (least > 0.0f) least = 0.0f;
  if (most == least) return {0.0f, -least, 0.0f, 0.0f};
  float top = (float)grid.top, inverse = __fdiv_rn(top, difference(most, least));
  // A range that overflows has no scale: such values are refused.
  Fit fit = {__fdiv_rn(1.0f, inverse), least, finite(inverse) ? inverse : 0.0f, least};
  if (inverse == 0.0f) return fit;
  float best = error<N, ABSOLUTE>(x, weigh, grid.top, fit.inverse, least, fit.scale, least);
#pragma unroll 1
  for (int k = 0; k <= grid.count; k++) {
    // The range of values is that of the current minimum, which a winner may have moved.
    float aim = __fadd_rn(__fadd_rn(grid.first, product(grid.step, (float)k)), top);
    inverse = __fdiv_rn(aim, difference(most, fit.min));
    if (!finite(inverse) || inverse == 0.0f) continue;
    float code = 0.0f, square = 0.0f, cross = 0.0f;
#pragma unroll 4
    for (u32 i = 0; i < N; i++) {
      float q = nearest_within(0, product(inverse, difference(x[i], fit.min)), grid.top);
      float w = product(weigh(i, x[i]), q);
      code = __fadd_rn(code, w);
      square = __fadd_rn(square, product(w, q));
      cross = __fadd_rn(cross, product(w, x[i]));
    }
    float det = difference(product(sum_w, square), product(code, code));
    if (!(det > 0.0f)) continue;
    float s = __fdiv_rn(difference(product(sum_w, cross), product(sum_x, code)), det);
    float m = __fdiv_rn(difference(product(square, sum_x), product(code, cross)), det);
    if (m > 0.0f) s = __fdiv_rn(cross, square), m = 0.0f;
    float off = error<N, ABSOLUTE>(x, weigh, grid.top, inverse, fit.min, s, m);
    if (off < best) best = off, fit = {s, m, inverse, fit.min};
  }
  fit.min = -fit.min;
  return fit;
}

// Around zero

// The sums from which the scale of a grid follows.
struct Sums {
  float cross, square;
};

// The value of greatest magnitude, the first of equals.
template <u32 N, class Values>
INLINE float loudest(Values x) {
  float top = 0.0f;
#pragma unroll 4
  for (u32 i = 0; i < N; i++) {
    if (loud(x[i]) > loud(top)) top = x[i];
  }
  return top;
}

template <u32 N, class Values, class Weigh>
INLINE Sums symmetric_sums(Values x, Weigh weigh, int half, float inverse) {
  Sums sums = {0.0f, 0.0f};
#pragma unroll 4
  for (u32 i = 0; i < N; i++) {
    float q = nearest_within(-half, product(inverse, x[i]), half - 1), w = weigh(i, x[i]);
    sums.cross = __fadd_rn(sums.cross, product(w, x[i], q));
    sums.square = __fadd_rn(sums.square, product(w, q, q));
  }
  return sums;
}

// The scale around zero that fits best, codes in `-half..half`.
template <u32 N, class Values, class Weigh>
INLINE Fit around_zero(int half, Values x, Weigh weigh) {
  float top = loudest<N>(x), best = 0.0f;
  Fit fit = {0.0f, 0.0f, 0.0f, 0.0f};
  if (loud(top) < EPSILON) return fit;
  // The grid on which the loudest value is the lowest code comes first, though it lies in the middle.
#pragma unroll 1
  for (int k = -10; k <= 9; k++) {
    if (k == 0) continue;
    float aim = k == -10 ? (float)half : __fadd_rn((float)half, product(0.1f, (float)k));
    float inverse = __fdiv_rn(-aim, top);
    Sums sums = symmetric_sums<N>(x, weigh, half, inverse);
    bool first = k == -10, some = first ? sums.square != 0.0f : sums.square > 0.0f;
    bool wins = some && product(sums.cross, sums.cross) > product(best, sums.square);
    if (!first && !wins) continue;
    fit.scale = some ? __fdiv_rn(sums.cross, sums.square) : 0.0f;
    fit.inverse = inverse;
    best = product(fit.scale, sums.cross);
  }
  return fit;
}

// The same with squares as weights, from one grid whose codes are then moved one by one while that helps. They are left in
// `codes`, counted from zero.
template <u32 N>
INLINE float refined(int half, Own x, Own codes) {
  float top = loudest<N>(x), inverse = __fdiv_rn((float)-half, top);
  bool zeros = loud(top) < EPSILON;
  Sums sums = {0.0f, 0.0f};
#pragma unroll 4
  for (u32 i = 0; i < N; i++) {
    float q = zeros ? (float)-half : nearest_within(-half, product(inverse, x[i]), half - 1), w = product(x[i], x[i]);
    codes.at[STEP * i] = q;
    sums.cross = __fadd_rn(sums.cross, product(w, x[i], q));
    sums.square = __fadd_rn(sums.square, product(w, q, q));
  }
  if (zeros) return 0.0f;
#pragma unroll 1
  for (u32 round = 0; round < 5; round++) {
    bool moved = false;
#pragma unroll 1
    for (u32 i = 0; i < N; i++) {
      float q = codes[i], w = product(x[i], x[i]);
      float cross = difference(sums.cross, product(w, x[i], q));
      if (!(cross > 0.0f)) continue;
      float square = difference(sums.square, product(w, q, q));
      float next = (float)within(-half, nearest(__fdiv_rn(product(x[i], square), cross)), half - 1);
      if (next == q) continue;
      cross = __fadd_rn(cross, product(w, x[i], next));
      square = __fadd_rn(square, product(w, next, next));
      bool wins = product(cross, cross, sums.square) > product(sums.cross, sums.cross, square);
      if (square > 0.0f && wins) codes.at[STEP * i] = next, sums = {cross, square}, moved = true;
    }
    if (!moved) break;
  }
  return sums.square > 0.0f ? __fdiv_rn(sums.cross, sums.square) : 0.0f;
}

// Scales under one scale

// The weighted error of the integers of a grid; those of the first are judged as bytes, and not limited.
template <u32 P>
INLINE float rising_error(Numbers<1> x, Numbers<1> weights, int top, float inverse, bool first) {
  float scale = __fdiv_rn(1.0f, inverse), sum = 0.0f;
#pragma unroll 1
  for (u32 i = 0; i < P; i++) {
    int q = nearest(product(inverse, x[i]));
    float d = difference(x[i], product(scale, (float)(first ? q & 0xFF : min(q, top))));
    sum = __fadd_rn(sum, product(weights[i], d, d));
  }
  return sum;
}

// Integers up to `top` for numbers, under one scale, of the least error that nine grids and five rounds of moving single
// integers find; they are left in `codes`.
template <u32 P>
INLINE float shared(int top, Numbers<1> x, Numbers<1> weights, Numbers<1> codes) {
  float most = 0.0f, best = 0.0f, won = 0.0f;
  for (u32 i = 0; i < P; i++) codes.at[i] = 0.0f, most = x[i] > most ? x[i] : most;
  if (most < EPSILON) return 0.0f;
#pragma unroll 1
  for (int k = -5; k <= 4; k++) {
    if (k == 0) continue;
    bool first = k == -5;
    float aim = first ? (float)top : __fadd_rn(product(0.1f, (float)k), (float)top);
    float inverse = __fdiv_rn(aim, most), off = rising_error<P>(x, weights, top, inverse, first);
    if (first || off < best) best = off, won = inverse;
  }
  Sums sums = {0.0f, 0.0f};
#pragma unroll 1
  for (u32 i = 0; i < P; i++) {
    int code = min(nearest(product(won, x[i])), top);
    float q = (float)code;
    codes.at[i] = (float)(code & 0xFF);
    sums.cross = __fadd_rn(sums.cross, product(weights[i], x[i], q));
    sums.square = __fadd_rn(sums.square, product(weights[i], q, q));
  }
#pragma unroll 1
  for (u32 round = 0; round < 5; round++) {
    bool moved = false;
#pragma unroll 1
    for (u32 i = 0; i < P; i++) {
      float q = codes[i], w = weights[i];
      float cross = difference(sums.cross, product(w, x[i], q)), square = difference(sums.square, product(w, q, q));
      if (!(cross > 0.0f && square > 0.0f)) continue;
      int code = min(nearest(__fdiv_rn(product(x[i], square), cross)), top);
      float next = (float)code;
      if (next == q) continue;
      cross = __fadd_rn(cross, product(w, x[i], next));
      square = __fadd_rn(square, product(w, next, next));
      if (!(product(cross, cross, sums.square) > product(sums.cross, sums.cross, square))) continue;
      codes.at[i] = (float)(code & 0xFF), sums = {cross, square}, moved = true;
    }
    if (!moved) break;
  }
  return sums.square > 0.0f ? __fdiv_rn(sums.cross, sums.square) : 0.0f;
}
