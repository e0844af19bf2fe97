// What the types with 32 values a block share: eight threads hold a block, each four neighbouring values of it.
//
// A block that must be refused (a value that is not finite, a field too large for a binary16) raises a flag; the definition
// is then asked which value is to blame. So does one that decodes to what is not finite: which NaN it is, is nobody's promise.

#include "float.cuh"

// Values of a block, and threads to a block.
enum : u32 { LEN = 32, LANES = 8 };

// Where a thread is: its block and its place in it. Threads past the last block look at the last one and write nothing,
// so that whole warps exchange.
struct Place {
  u64 block;
  u32 lane;
  bool live;
};

INLINE Place place(u32 blocks) {
  u64 block = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
  bool live = block < blocks;
  return {live ? block : blocks - 1, threadIdx.x % LANES, live};
}

// Sources: four neighbouring values, `at` is the first.

struct F32 {
  INLINE void read(const void *src, u64 at, float *x) {
    float4 v = *(const float4 *)((const float *)src + at);
    x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
  }
};

struct BF16 {
  INLINE void read(const void *src, u64 at, float *x) {
    uint2 v = *(const uint2 *)((const u16 *)src + at);
    x[0] = number(v.x << 16), x[1] = number(v.x & 0xFFFF0000u);
    x[2] = number(v.y << 16), x[3] = number(v.y & 0xFFFF0000u);
  }
};

struct F16 {
  INLINE void read(const void *src, u64 at, float *x) {
    uint2 v = *(const uint2 *)((const u16 *)src + at);
    x[0] = widen((u16)v.x), x[1] = widen((u16)(v.x >> 16));
    x[2] = widen((u16)v.y), x[3] = widen((u16)(v.y >> 16));
  }
};

// What the eight threads of a block agree on

INLINE u32 greatest(u32 v) {
  for (u32 far = 1; far < LANES; far *= 2) v = max(v, __shfl_xor_sync(WARP, v, far));
  return v;
}

INLINE u32 least(u32 v) {
  for (u32 far = 1; far < LANES; far *= 2) v = min(v, __shfl_xor_sync(WARP, v, far));
  return v;
}

INLINE u32 together(u32 v) {
  for (u32 far = 1; far < LANES; far *= 2) v |= __shfl_xor_sync(WARP, v, far);
  return v;
}

INLINE u32 top_magnitude(const float *x) {
  u32 top = 0;
  for (u32 j = 0; j < 4; j++) top = max(top, magnitude(x[j]));
  return greatest(top);
}

// The sign bit of the first value of the block that has this magnitude; set if none has it.
INLINE u32 first_sign(const float *x, u32 lane, u32 wanted) {
  u32 found = ~0u;
  for (u32 j = 4; j-- > 0;) {
    if (magnitude(x[j]) == wanted) found = 2 * (4 * lane + j) | bits(x[j]) >> 31;
  }
  return least(found) << 31;
}

// The value of greatest magnitude, the first of equals; +0 for a block of zeros.
INLINE float loudest(const float *x, u32 lane) {
  // Not only where it is needed: a warp exchanges as a whole, and its blocks differ.
  u32 top = top_magnitude(x), sign = first_sign(x, lane, top);
  return number(top == 0 ? 0 : top | sign);
}

// Integers in the order of the numbers, with one zero.
INLINE u32 rank(float x) {
  u32 b = bits(x);
  return b >> 31 ? 0u - b : b | 0x80000000u;
}

INLINE float ranked(u32 r) { return number(r >> 31 ? r & 0x7FFFFFFFu : 0u - r); }

// Least and greatest value, of zeros the first.
INLINE void extremes(const float *x, u32 lane, float *low, float *high) {
  u32 under = ~0u, over = 0;
  for (u32 j = 0; j < 4; j++) under = min(under, rank(x[j])), over = max(over, rank(x[j]));
  float zero = number(first_sign(x, lane, 0));
  *low = ranked(least(under)), *high = ranked(greatest(over));
  if (*low == 0.0f) *low = zero;
  if (*high == 0.0f) *high = zero;
}

// Codes, four to a word

INLINE u32 truncated(float t, int top) { return (u32)min(max(__float2int_rz(t), 0), top); }

INLINE u32 pack(u32 a, u32 b, u32 c, u32 d) { return a | b << 8 | c << 16 | d << 24; }

// ggml's nibbles: byte `j` has code `j` low and code `j + 16` high. Of use to the first four threads.
INLINE u32 nibbles(u32 codes) {
  u32 low = codes & 0x0F0F0F0Fu;
  return low | __shfl_down_sync(WARP, low, LANES / 2, LANES) << 4;
}

// The fifth bits of all 32 codes, bit `j` for code `j`.
INLINE u32 fifths(u32 codes, u32 lane) {
  u32 fifth = codes >> 4 & 0x01010101u;
  return together((fifth | fifth >> 7 | fifth >> 14 | fifth >> 21) % 16 << 4 * lane);
}

INLINE u32 unpack_nibbles(u32 word, u32 lane) { return word >> (lane / 4 * 4) & 0x0F0F0F0Fu; }

INLINE u32 unpack_fifths(u32 all, u32 lane) {
  u32 four = all >> 4 * lane & 15;
  return (four | four << 7 | four << 14 | four << 21) << 4 & 0x10101010u;
}

// Kernels

template <class Type, class Source>
INLINE void encode(const void *src, u8 *out, u32 *refused, u32 blocks) {
  Place p = place(blocks);
  float x[4];
  Source::read(src, p.block * LEN + p.lane * 4, x);
  bool odd = false;
  for (u32 j = 0; j < 4; j++) odd |= !finite(x[j]);
  odd |= Type::encode(x, p, out + p.block * Type::BYTES);
  if (odd) *refused = 1;
}

template <class Type>
INLINE void decode(const u8 *src, float *out, u32 *refused, u32 blocks) {
  Place p = place(blocks);
  float4 x;
  Type::decode(src + p.block * Type::BYTES, p.lane, (float *)&x);
  if (!finite(x)) *refused = 1;
  if (p.live) *(float4 *)(out + p.block * LEN + p.lane * 4) = x;
}

#define KERNELS(TYPE)                                                                                       \
  extern "C" __global__ void encode_f32(const void *src, u8 *out, u32 *refused, u32 blocks) {               \
    encode<TYPE, F32>(src, out, refused, blocks);                                                           \
  }                                                                                                         \
  extern "C" __global__ void encode_bf16(const void *src, u8 *out, u32 *refused, u32 blocks) {              \
    encode<TYPE, BF16>(src, out, refused, blocks);                                                          \
  }                                                                                                         \
  extern "C" __global__ void encode_f16(const void *src, u8 *out, u32 *refused, u32 blocks) {               \
    encode<TYPE, F16>(src, out, refused, blocks);                                                           \
  }                                                                                                         \
  extern "C" __global__ void decode(const u8 *src, float *out, u32 *refused, u32 blocks) {                  \
    ::decode<TYPE>(src, out, refused, blocks);                                                              \
  }
