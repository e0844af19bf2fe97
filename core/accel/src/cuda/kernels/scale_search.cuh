// Scale searches, one thread per sub-block, with the operations of `quantoscope_core::quant::scale_search` in the same order.
// Values are in shared memory, so that loops are not unrolled and registers are few.

#pragma once

#include "float.cuh"

// A sub-block whose largest magnitude is below this is taken for zeros.
#define EPSILON 1e-15f
// 1.5 * 2^23: a sum with it is rounded to an integer. Then the bits of integer 0, the mask of the fraction, and the exponent.
#define MAGIC 12582912.0f
enum : u32 { ZERO_CODE = 0x400000u, FRACTION = 0x7FFFFFu, EXPONENT = 0x4B000000u };

// Threads of a warp, and the distance in shared memory between neighbouring values of a thread: one more, to avoid bank
// conflicts between values and between threads.
enum : u32 { LANES = 32, STEP = LANES + 1 };

// Numbers in shared memory, APART elements apart.
template <u32 APART>
struct Numbers {
  float *at;
  INLINE_MEMBER float operator[](u32 i) const { return at[APART * i]; }
};

// Values of this thread's sub-block.
typedef Numbers<STEP> SubBlock;

// A fit: values are `scale * code - min`, codes those of `inverse * (x - base)`. If `inverse` is 0, every code is the lowest.
struct Fit {
  float scale, min, inverse, base;
};

INLINE float difference(float a, float b) { return __fsub_rn(a, b); }
INLINE float product(float a, float b) { return __fmul_rn(a, b); }
INLINE float product(float a, float b, float c) { return __fmul_rn(__fmul_rn(a, b), c); }
INLINE float absolute(float x) { return number(magnitude(x)); }

// The nearest integer, ties to even; 0 for NaN; beyond 2^22 the low bits of the sum, as in ggml.
INLINE int nearest(float x) {
  float sum = __fadd_rn(x, MAGIC);
  return sum == sum ? (int)(bits(sum) & FRACTION) - (int)ZERO_CODE : 0;
}

INLINE int within(int low, int x, int high) { return min(max(x, low), high); }

// The nearest integer, limited, as a float; computed on the bits of the sum.
INLINE float nearest_within(int low, float x, int high) {
  u32 sum = bits(__fadd_rn(x, MAGIC)) & FRACTION | EXPONENT;
  u32 least = (EXPONENT | ZERO_CODE) + (u32)low, most = (EXPONENT | ZERO_CODE) + (u32)high;
  return __fsub_rn(number(min(max(sum, least), most)), MAGIC);
}

// Weights of the values of a sub-block

struct Magnitude {
  INLINE_MEMBER float operator()(u32, float x) const { return absolute(x); }
};

struct Square {
  INLINE_MEMBER float operator()(u32, float x) const { return product(x, x); }
};

struct MeanMagnitude {
  float average;
  INLINE_MEMBER float operator()(u32, float x) const { return __fadd_rn(average, absolute(x)); }
};

template <u32 N>
INLINE MeanMagnitude mean_magnitude(SubBlock x) {
  float sum = 0.0f;
#pragma unroll 4
  for (u32 i = 0; i < N; i++) sum = __fadd_rn(sum, product(x[i], x[i]));
  return {__fsqrt_rn(__fdiv_rn(sum, (float)N))};
}

template <u32 APART>
struct Importance {
  Numbers<APART> all;
  INLINE_MEMBER float operator()(u32 i, float) const { return all[i]; }
};

// With a minimum

// Candidates: candidate `k` assumes the top code `top + first + step * k`, for `k` from 0 to `count`.
struct Grid {
  int top;
  float first, step;
  int count;
};

// Weighted error of `scale * code + least` with the codes of a candidate.
template <u32 N, bool ABSOLUTE, class Weigh>
INLINE float error(SubBlock x, Weigh weigh, int top, float inverse, float base, float scale, float least) {
  float sum = 0.0f;
#pragma unroll 4
  for (u32 i = 0; i < N; i++) {
    float q = nearest_within(0, product(inverse, difference(x[i], base)), top);
    float d = difference(__fadd_rn(product(scale, q), least), x[i]);
    sum = __fadd_rn(sum, product(weigh(i, x[i]), ABSOLUTE ? absolute(d) : product(d, d)));
  }
  return sum;
}

// Scale and minimum of least error over the candidates.
//
// A step that is 0 or infinite gives every value code 0 (NaN products count as 0), and such codes have no scale. So these
// candidates are skipped; no others have NaN products.
template <u32 N, bool ABSOLUTE, class Weigh>
INLINE Fit asymmetric(Grid grid, SubBlock x, Weigh weigh) {
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
  // A range that overflows has no scale; such values are refused.
  Fit fit = {__fdiv_rn(1.0f, inverse), least, finite(inverse) ? inverse : 0.0f, least};
  if (inverse == 0.0f) return fit;
  float best = error<N, ABSOLUTE>(x, weigh, grid.top, fit.inverse, least, fit.scale, least);
#pragma unroll 1
  for (int k = 0; k <= grid.count; k++) {
    // The range depends on the current minimum, which an earlier candidate may have changed.
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

// Sums that give the scale of a candidate.
struct Sums {
  float cross, square;
};

// The value of largest magnitude; the first of equals.
template <u32 N, class Values>
INLINE float signed_absmax(Values x) {
  float top = 0.0f;
#pragma unroll 4
  for (u32 i = 0; i < N; i++) {
    if (absolute(x[i]) > absolute(top)) top = x[i];
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

// The best symmetric scale, for codes in `-half..half`.
template <u32 N, class Values, class Weigh>
INLINE Fit symmetric(int half, Values x, Weigh weigh) {
  float top = signed_absmax<N>(x), best = 0.0f;
  Fit fit = {0.0f, 0.0f, 0.0f, 0.0f};
  if (absolute(top) < EPSILON) return fit;
  // The candidate that maps the largest value to the lowest code comes first, though it is in the middle.
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

// The same with squares as weights, from one candidate whose codes are then changed one by one while the fit improves. Leaves
// signed codes in `codes`.
template <u32 N>
INLINE float q3_refine(int half, SubBlock x, SubBlock codes) {
  float top = signed_absmax<N>(x), inverse = __fdiv_rn((float)-half, top);
  bool zeros = absolute(top) < EPSILON;
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

// Weighted error of the integers of a candidate; those of the first are cast to bytes and not limited.
template <u32 P>
INLINE float integer_error(Numbers<1> x, Numbers<1> weights, int top, float inverse, bool first) {
  float scale = __fdiv_rn(1.0f, inverse), sum = 0.0f;
#pragma unroll 1
  for (u32 i = 0; i < P; i++) {
    int q = nearest(product(inverse, x[i]));
    float d = difference(x[i], product(scale, (float)(first ? q & 0xFF : min(q, top))));
    sum = __fadd_rn(sum, product(weights[i], d, d));
  }
  return sum;
}

// The scale of integers up to `top` (make_qp of ggml): the best of nine candidates, then up to five rounds of changing single
// integers. Leaves the integers in `codes`.
template <u32 P>
INLINE float make_qp(int top, Numbers<1> x, Numbers<1> weights, Numbers<1> codes) {
  float most = 0.0f, best = 0.0f, won = 0.0f;
  for (u32 i = 0; i < P; i++) codes.at[i] = 0.0f, most = x[i] > most ? x[i] : most;
  if (most < EPSILON) return 0.0f;
#pragma unroll 1
  for (int k = -5; k <= 4; k++) {
    if (k == 0) continue;
    bool first = k == -5;
    float aim = first ? (float)top : __fadd_rn(product(0.1f, (float)k), (float)top);
    float inverse = __fdiv_rn(aim, most), off = integer_error<P>(x, weights, top, inverse, first);
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
