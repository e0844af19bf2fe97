// Shared code of the types of 256 values per block. A thread searches one sub-block, so a warp processes two or four
// super-blocks; then the threads exchange their fits and each packs a part of the codes.
//
// A super-block that must be refused sets `refused`, as in small_block.cuh.

#pragma once

#include "scale_search.cuh"

// Values per super-block, and warps per thread block.
enum : u32 { LEN = 256, WARPS = 2 };

// Position of a thread: its super-block, and its sub-block of `P`. Threads past the last super-block read the last one and
// write nothing, so that shuffles involve whole warps.
template <u32 P>
struct Place {
  u32 super, part;
  bool live;
};

// Index of the first super-block of this warp.
template <u32 P>
INLINE u32 first_super() {
  return (blockIdx.x * WARPS + threadIdx.x / LANES) * (LANES / P);
}

template <u32 P>
INLINE Place<P> place(u32 blocks) {
  u32 super = first_super<P>() + threadIdx.x % LANES / P;
  bool live = super < blocks;
  return {live ? super : blocks - 1, threadIdx.x % P, live};
}

// Exchange between the threads of a super-block

template <u32 P>
INLINE float of(float x, u32 part) { return __shfl_sync(WARP, x, part, P); }
template <u32 P>
INLINE u32 of(u32 x, u32 part) { return __shfl_sync(WARP, x, part, P); }

// The largest positive number, 0 if there is none.
template <u32 P>
INLINE float maximum(float x) {
  if (!(x > 0.0f)) x = 0.0f;
  for (u32 far = 1; far < P; far *= 2) {
    float other = __shfl_xor_sync(WARP, x, far);
    if (other > x) x = other;
  }
  return x;
}

// The number of largest magnitude; the first of equals.
template <u32 P>
INLINE float signed_greatest(float x) {
  float top = 0.0f;
  for (u32 j = 0; j < P; j++) {
    float other = of<P>(x, j);
    if (absolute(other) > absolute(top)) top = other;
  }
  return top;
}

// Scale of scales, and the integer of this sub-block, cast to a byte as in ggml.
struct IntegerScale {
  float scale;
  u32 code;
};

// Integers of positive numbers, with `top` for the largest.
template <u32 P>
INLINE IntegerScale integer_scales(float number, float top) {
  float most = maximum<P>(number);
  if (most <= 0.0f) return {0.0f, 0};
  return {__fdiv_rn(most, top), (u32)nearest(product(__fdiv_rn(top, most), number)) & 0xFF};
}

// Source type. A parameter: with an entry per type, the PTX would be three times as long.
enum Source : u32 { F32, BF16, F16 };

INLINE float read(Source source, const void *src, u64 at) {
  if (source == F32) return ((const float *)src)[at];
  u16 half = ((const u16 *)src)[at];
  return source == BF16 ? number((u32)half << 16) : widen(half);
}

// Loads the values of a warp into shared memory, transposed. Returns whether all are finite.
template <u32 N>
INLINE bool gather(Source source, const void *src, u32 blocks, float *room) {
  u32 lane = threadIdx.x % LANES;
  bool accepted = true;
#pragma unroll 1
  for (u32 s = 0; s < N / 8; s++) {
    u64 from = (u64)min(first_super<LEN / N>() + s, blocks - 1) * LEN;
#pragma unroll 4
    for (u32 at = lane; at < LEN; at += LANES) {
      float x = read(source, src, from + at);
      accepted &= finite(x);
      room[at % N * STEP + at / N + s * (LEN / N)] = x;
    }
  }
  return accepted;
}

// Importance weights of the columns: rows of `supers` super-blocks; `first` is the index of the first one of the launch.
struct Columns {
  const float *importance;
  u32 supers, first;

  template <u32 N>
  INLINE_MEMBER void gather(u32 blocks, float *room) const {
    u32 lane = threadIdx.x % LANES;
#pragma unroll 1
    for (u32 s = 0; s < N / 8; s++) {
      u64 from = ((u64)first + min(first_super<LEN / N>() + s, blocks - 1)) % supers * LEN;
#pragma unroll 4
      for (u32 at = lane; at < LEN; at += LANES) room[at % N * STEP + at / N + s * (LEN / N)] = importance[from + at];
    }
  }
};

// Turns importance into weights, `importance * sqrt(spread + x * x)`, and sums them; the spread is `most` times the mean square
// of the super-block. Returns whether the spread is finite.
template <u32 N>
INLINE bool weigh(SubBlock x, SubBlock weights, float most, float *sum) {
  u32 lane = threadIdx.x % LANES, first = lane & ~(LEN / N - 1);
  float squares = 0.0f;
#pragma unroll 1
  for (u32 part = 0; part < LEN / N; part++) {
#pragma unroll 8
    for (u32 i = 0; i < N; i++) {
      float v = x.at[(int)(STEP * i + first + part) - (int)lane];
      squares = __fadd_rn(squares, product(v, v));
    }
  }
  float spread = __fdiv_rn(product(most, squares), (float)LEN);
  *sum = 0.0f;
#pragma unroll 4
  for (u32 i = 0; i < N; i++) {
    float w = product(weights[i], __fsqrt_rn(__fadd_rn(spread, product(x[i], x[i]))));
    weights.at[STEP * i] = w;
    *sum = __fadd_rn(*sum, w);
  }
  return finite(spread);
}

// Shared memory for exchanging fits; reuses that of the weights, which are no longer needed.
struct ExchangeBuffer {
  float *at;

  // Line `n`, one number per thread.
  INLINE_MEMBER float &line(u32 n) const { return at[n * STEP + threadIdx.x % LANES]; }
  // The numbers of this super-block's `P` sub-blocks in line `n`.
  template <u32 P>
  INLINE_MEMBER Numbers<1> numbers(u32 n) const { return {at + n * STEP + (threadIdx.x % LANES & ~(P - 1))}; }
};

INLINE float finite_or_zero(float x) { return finite(x) ? x : 0.0f; }

// Integer scales and minima up to `top`, weighted.
template <u32 P>
INLINE void integer_scales_weighted(ExchangeBuffer exchange, int top, Fit fit, float sum, IntegerScale *scales, IntegerScale *mins) {
  u32 which = threadIdx.x % P;
  __syncwarp();
  exchange.line(0) = finite_or_zero(fit.scale), exchange.line(1) = finite_or_zero(fit.min), exchange.line(2) = sum;
  __syncwarp();
  float scale = 0.0f;
  // One thread for the scales, one for the minima.
  if (which < 2) scale = make_qp<P>(top, exchange.numbers<P>(which), exchange.numbers<P>(2), exchange.numbers<P>(3 + which));
  __syncwarp();
  *scales = {of<P>(scale, 0), (u32)exchange.line(3)};
  *mins = {of<P>(scale, 1), (u32)exchange.line(4)};
}

// Codes

// The map from values to codes of a sub-block: `(x + shift) / step` by the stored scale (STORED); if that is 0, the codes of
// the search, `(x + shift) * step` (SEARCHED); if the search has no grid, the lowest code (LOWEST).
struct CodeMap {
  float shift, step;
  u32 kind;
};

enum : u32 { LOWEST, SEARCHED, STORED };

INLINE CodeMap code_map(Fit fit, float d, float m) {
  if (d != 0.0f) return {m, d, STORED};
  return {-fit.base, fit.inverse, fit.inverse == 0.0f ? LOWEST : SEARCHED};
}

template <u32 P>
INLINE CodeMap of(CodeMap map, u32 part) {
  return {of<P>(map.shift, part), of<P>(map.step, part), of<P>(map.kind, part)};
}

// Code of a value, counted from the lowest.
INLINE u32 code(float x, CodeMap map, int low, int top) {
  if (map.kind == LOWEST) return 0;
  float t = __fadd_rn(x, map.shift);
  t = map.kind == STORED ? __fdiv_rn(t, map.step) : product(t, map.step);
  return (u32)(within(low, nearest(t), top) - low);
}

// Four neighbouring codes of sub-block `part` from index `at` on, one byte each.
template <u32 P>
INLINE u32 four(SubBlock x, CodeMap all, u32 part, u32 at, int low, int top) {
  CodeMap map = of<P>(all, part);
  int other = (int)part - (int)(threadIdx.x % P);
  u32 codes = 0;
#pragma unroll
  for (u32 n = 0; n < 4; n++) codes |= code(x.at[(int)(STEP * (at + n)) + other], map, low, top) << 8 * n;
  return codes;
}

// With sixteen sub-blocks, a thread packs four groups of four codes: those that share bytes in 2-bit layouts. `q` counts the
// runs of 32 codes in this half of the super-block.
struct Quarter {
  u32 half, word;
  INLINE_MEMBER u32 part(u32 q) const { return 8 * half + 2 * q + word / 4; }
  INLINE_MEMBER u32 at() const { return word % 4 * 4; }
};

INLINE Quarter quarter() { return {threadIdx.x / 8 % 2, threadIdx.x % 8}; }

// Bytes

INLINE u32 byte(u32 word, u32 at) { return word >> 8 * at & 0xFF; }

// Eight scales and eight minima of six bits, four bytes per word.
struct SixBits {
  u32 words[3];

  // Scale and minimum of sub-block `j`.
  INLINE_MEMBER u32 scale(u32 j) const {
    u32 first = byte(words[0], j % 4);
    return j < 4 ? first & 63 : byte(words[2], j % 4) & 15 | first >> 6 << 4;
  }
  INLINE_MEMBER u32 minimum(u32 j) const {
    u32 first = byte(words[1], j % 4);
    return j < 4 ? first & 63 : byte(words[2], j % 4) >> 4 | first >> 6 << 4;
  }
};

// Kernels

template <class Type, bool WEIGHTED>
INLINE void encode(Source source, const void *src, u8 *out, u32 *refused, u32 blocks, Columns columns) {
  enum : u32 { N = Type::N, P = LEN / N };
  __shared__ float values[WARPS][N * STEP];
  __shared__ float weights[WARPS][Type::ROOM || WEIGHTED ? N * STEP : 1];
  // Whole warps return; they share nothing with others.
  if (first_super<P>() >= blocks) return;
  u32 warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  Place<P> p = place<P>(blocks);
  bool accepted = gather<N>(source, src, blocks, values[warp]);
  if (WEIGHTED) columns.gather<N>(blocks, weights[warp]);
  __syncwarp();
  SubBlock x = {values[warp] + lane}, w = {weights[warp] + lane};
  accepted &= Type::template encode<WEIGHTED>(x, w, {weights[warp]}, p, out + (u64)p.super * Type::BYTES);
  if (!accepted) *refused = 1;
}

// A warp decodes a super-block: eight values per thread, four of each half.
template <class Type>
INLINE void decode(const u8 *src, float *out, u32 *refused, u32 blocks) {
  u32 super = blockIdx.x * WARPS + threadIdx.x / LANES, lane = threadIdx.x % LANES;
  if (super >= blocks) return;
  for (u32 half = 0; half < 2; half++) {
    float4 x;
    Type::decode(src + (u64)super * Type::BYTES, half * LANES + lane, (float *)&x);
    if (!finite(x)) *refused = 1;
    *(float4 *)(out + (u64)super * LEN + half * (LEN / 2) + 4 * lane) = x;
  }
}

#define SUPER_KERNELS(TYPE)                                                                                           \
  extern "C" __global__ void encode(const void *src, u8 *out, u32 *refused, u32 blocks, u32 source) {                 \
    encode<TYPE, false>((Source)source, src, out, refused, blocks, {});                                               \
  }                                                                                                                   \
  extern "C" __global__ void weigh(const void *src, u8 *out, u32 *refused, u32 blocks, u32 source,                    \
                                   const float *importance, u32 supers, u32 first) {                                  \
    encode<TYPE, true>((Source)source, src, out, refused, blocks, {importance, supers, first});                       \
  }                                                                                                                   \
  extern "C" __global__ void decode(const u8 *src, float *out, u32 *refused, u32 blocks) {                            \
    ::decode<TYPE>(src, out, refused, blocks);                                                                        \
  }
