// What the types with 256 values a block share: a warp holds as many super-blocks as their sub-blocks give it threads, a
// thread searches for one sub-block, and where every thread knows what was found, each makes its share of the codes.
//
// A super-block that must be refused raises a flag, as in block.cuh.

#pragma once

#include "search.cuh"

// Values of a super-block, and the warps of a group.
enum : u32 { LEN = 256, WARPS = 2 };

// Where a thread is: its super-block, and its sub-block there, of `P`. Threads past the last super-block look at the last one
// and write nothing, so that whole warps exchange.
template <u32 P>
struct Place {
  u32 super, part;
  bool live;
};

// The number of the first super-block of this warp, of `blocks`.
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

// What a super-block's threads agree on

template <u32 P>
INLINE float of(float x, u32 part) { return __shfl_sync(WARP, x, part, P); }
template <u32 P>
INLINE u32 of(u32 x, u32 part) { return __shfl_sync(WARP, x, part, P); }

// The greatest of positive numbers, 0 where there is none.
template <u32 P>
INLINE float greatest(float x) {
  if (!(x > 0.0f)) x = 0.0f;
  for (u32 far = 1; far < P; far *= 2) {
    float other = __shfl_xor_sync(WARP, x, far);
    if (other > x) x = other;
  }
  return x;
}

// The number of greatest magnitude, the first of equals.
template <u32 P>
INLINE float signed_greatest(float x) {
  float top = 0.0f;
  for (u32 j = 0; j < P; j++) {
    float other = of<P>(x, j);
    if (loud(other) > loud(top)) top = other;
  }
  return top;
}

// How the scales of sub-blocks are stored: one scale, and this sub-block's integer as ggml casts it.
struct Share {
  float scale;
  u32 code;
};

// Positive numbers in steps of which the greatest has `top`.
template <u32 P>
INLINE Share share(float number, float top) {
  float most = greatest<P>(number);
  if (most <= 0.0f) return {0.0f, 0};
  return {__fdiv_rn(most, top), (u32)nearest(product(__fdiv_rn(top, most), number)) & 0xFF};
}

// How values are stored. A text would be thrice as long if it had entries for each.
enum Source : u32 { F32, BF16, F16 };

INLINE float read(Source source, const void *src, u64 at) {
  if (source == F32) return ((const float *)src)[at];
  u16 half = ((const u16 *)src)[at];
  return source == BF16 ? number((u32)half << 16) : widen(half);
}

// Brings a warp's values to where its threads look for them; whether all are finite.
template <u32 N>
INLINE bool gather(Source source, const void *src, u32 blocks, float *room) {
  u32 lane = threadIdx.x % LANES;
  bool sound = true;
#pragma unroll 1
  for (u32 s = 0; s < N / 8; s++) {
    u64 from = (u64)min(first_super<LEN / N>() + s, blocks - 1) * LEN;
#pragma unroll 4
    for (u32 at = lane; at < LEN; at += LANES) {
      float x = read(source, src, from + at);
      sound &= finite(x);
      room[at % N * STEP + at / N + s * (LEN / N)] = x;
    }
  }
  return sound;
}

// The importance of columns: one number each for `supers` super-blocks in a row, the first of a call having this number.
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

// Makes weights of importance, `importance * sqrt(spread + x * x)`, and their sum; `most` times the mean square of the super-block
// is the spread. Whether that is finite: where it is not, values are too loud.
template <u32 N>
INLINE bool weigh(Own x, Own weights, float most, float *sum) {
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

// The weights of a warp are done with: their room serves to share out what was found for its threads.
struct Desk {
  float *at;

  // Lines of a number for each thread.
  INLINE_MEMBER float &line(u32 n) const { return at[n * STEP + threadIdx.x % LANES]; }
  // The numbers of this super-block, of `P` sub-blocks, in a line.
  template <u32 P>
  INLINE_MEMBER Numbers<1> numbers(u32 n) const { return {at + n * STEP + (threadIdx.x % LANES & ~(P - 1))}; }
};

INLINE float searchable(float x) { return finite(x) ? x : 0.0f; }

// Scales and minima of super-blocks as integers up to `top`, by weights.
template <u32 P>
INLINE void share_weighted(Desk desk, int top, Fit fit, float sum, Share *scales, Share *mins) {
  u32 which = threadIdx.x % P;
  __syncwarp();
  desk.line(0) = searchable(fit.scale), desk.line(1) = searchable(fit.min), desk.line(2) = sum;
  __syncwarp();
  float scale = 0.0f;
  // One thread for the scales, one for the minima.
  if (which < 2) scale = shared<P>(top, desk.numbers<P>(which), desk.numbers<P>(2), desk.numbers<P>(3 + which));
  __syncwarp();
  *scales = {of<P>(scale, 0), (u32)desk.line(3)};
  *mins = {of<P>(scale, 1), (u32)desk.line(4)};
}

// Codes

// How the codes of a sub-block follow from its values: as those of `(x + shift) / step`; where the stored scale is 0, they are those
// of the search, `(x + shift) * step`; where that has no grid, all are the lowest.
struct Way {
  float shift, step;
  u32 kind;
};

enum : u32 { LOWEST, SEARCHED, STORED };

INLINE Way way(Fit fit, float d, float m) {
  if (d != 0.0f) return {m, d, STORED};
  return {-fit.base, fit.inverse, fit.inverse == 0.0f ? LOWEST : SEARCHED};
}

template <u32 P>
INLINE Way of(Way way, u32 part) {
  return {of<P>(way.shift, part), of<P>(way.step, part), of<P>(way.kind, part)};
}

// The code of a value, counted from the lowest.
INLINE u32 code(float x, Way way, int low, int top) {
  if (way.kind == LOWEST) return 0;
  float t = __fadd_rn(x, way.shift);
  t = way.kind == STORED ? __fdiv_rn(t, way.step) : product(t, way.step);
  return (u32)(within(low, nearest(t), top) - low);
}

// Four neighbouring codes of sub-block `part` of this super-block, those from `at` on, a byte each.
template <u32 P>
INLINE u32 four(Own x, Way all, u32 part, u32 at, int low, int top) {
  Way way = of<P>(all, part);
  int other = (int)part - (int)(threadIdx.x % P);
  u32 codes = 0;
#pragma unroll
  for (u32 n = 0; n < 4; n++) codes |= code(x.at[(int)(STEP * (at + n)) + other], way, low, top) << 8 * n;
  return codes;
}

// Of sixteen sub-blocks, a thread has four times four codes: those that share bytes where codes have two bits. `q` is which
// stretch of 32 codes in this half of the super-block.
struct Quarter {
  u32 half, word;
  INLINE_MEMBER u32 part(u32 q) const { return 8 * half + 2 * q + word / 4; }
  INLINE_MEMBER u32 at() const { return word % 4 * 4; }
};

INLINE Quarter quarter() { return {threadIdx.x / 8 % 2, threadIdx.x % 8}; }

// Bytes

INLINE u32 byte(u32 word, u32 at) { return word >> 8 * at & 0xFF; }

// A table of six bits, four bytes to a word: eight scales and eight minima.
struct SixBits {
  u32 words[3];

  // The scale and minimum at `j`.
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
  // Whole warps, which share nothing with others.
  if (first_super<P>() >= blocks) return;
  u32 warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  Place<P> p = place<P>(blocks);
  bool sound = gather<N>(source, src, blocks, values[warp]);
  if (WEIGHTED) columns.gather<N>(blocks, weights[warp]);
  __syncwarp();
  Own x = {values[warp] + lane}, w = {weights[warp] + lane};
  sound &= Type::template encode<WEIGHTED>(x, w, {weights[warp]}, p, out + (u64)p.super * Type::BYTES);
  if (!sound) *refused = 1;
}

// A warp to a super-block: eight values to a thread, four of each half.
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
