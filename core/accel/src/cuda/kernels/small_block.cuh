// Shared code of the types of 32 values per block. Eight threads process a block, four neighbouring values each.
//
// A block that must be refused (a value that is not finite, a header field that overflows F16) sets `refused`; the CPU then
// finds the value. So does a block that decodes to a value that is not finite, since NaN payloads are not reproducible.

#include "float.cuh"

// Values per block, and threads per block.
enum : u32 { LEN = 32, LANES = 8 };

// Position of a thread: its block and its lane in the block. Threads past the last block read the last one and write nothing,
// so that shuffles involve whole warps.
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

// Sources: read four neighbouring values from index `at`.

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

// Reductions over the eight threads of a block

INLINE u32 maximum(u32 v) {
  for (u32 far = 1; far < LANES; far *= 2) v = max(v, __shfl_xor_sync(WARP, v, far));
  return v;
}

INLINE u32 minimum_of(u32 v) {
  for (u32 far = 1; far < LANES; far *= 2) v = min(v, __shfl_xor_sync(WARP, v, far));
  return v;
}

INLINE u32 or_all(u32 v) {
  for (u32 far = 1; far < LANES; far *= 2) v |= __shfl_xor_sync(WARP, v, far);
  return v;
}

INLINE u32 top_magnitude(const float *x) {
  u32 top = 0;
  for (u32 j = 0; j < 4; j++) top = max(top, magnitude(x[j]));
  return maximum(top);
}

// Sign bit of the first value of the block with this magnitude; set if there is none.
INLINE u32 first_sign(const float *x, u32 lane, u32 wanted) {
  u32 found = ~0u;
  for (u32 j = 4; j-- > 0;) {
    if (magnitude(x[j]) == wanted) found = 2 * (4 * lane + j) | bits(x[j]) >> 31;
  }
  return minimum_of(found) << 31;
}

// The value of largest magnitude; the first of equals, +0 for a block of zeros.
INLINE float signed_absmax(const float *x, u32 lane) {
  // Unconditional: shuffles need the whole warp, and its blocks differ.
  u32 top = top_magnitude(x), sign = first_sign(x, lane, top);
  return number(top == 0 ? 0 : top | sign);
}

// Maps floats to integers in the order of their values; -0 equals +0.
INLINE u32 rank(float x) {
  u32 b = bits(x);
  return b >> 31 ? 0u - b : b | 0x80000000u;
}

INLINE float ranked(u32 r) { return number(r >> 31 ? r & 0x7FFFFFFFu : 0u - r); }

// Smallest and largest value; of zeros, the first.
INLINE void extremes(const float *x, u32 lane, float *low, float *high) {
  u32 under = ~0u, over = 0;
  for (u32 j = 0; j < 4; j++) under = min(under, rank(x[j])), over = max(over, rank(x[j]));
  float zero = number(first_sign(x, lane, 0));
  *low = ranked(minimum_of(under)), *high = ranked(maximum(over));
  if (*low == 0.0f) *low = zero;
  if (*high == 0.0f) *high = zero;
}

// Codes, four per word

INLINE u32 truncated(float t, int top) { return (u32)min(max(__float2int_rz(t), 0), top); }

INLINE u32 pack(u32 a, u32 b, u32 c, u32 d) { return a | b << 8 | c << 16 | d << 24; }

// ggml nibble layout: byte `j` holds code `j` low and code `j + 16` high. Valid in the first four threads.
INLINE u32 nibbles(u32 codes) {
  u32 low = codes & 0x0F0F0F0Fu;
  return low | __shfl_down_sync(WARP, low, LANES / 2, LANES) << 4;
}

// The fifth bits of all 32 codes, bit `j` for code `j`.
INLINE u32 fifths(u32 codes, u32 lane) {
  u32 fifth = codes >> 4 & 0x01010101u;
  return or_all((fifth | fifth >> 7 | fifth >> 14 | fifth >> 21) % 16 << 4 * lane);
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
  bool refuse = false;
  for (u32 j = 0; j < 4; j++) refuse |= !finite(x[j]);
  refuse |= Type::encode(x, p, out + p.block * Type::BYTES);
  if (refuse) *refused = 1;
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
