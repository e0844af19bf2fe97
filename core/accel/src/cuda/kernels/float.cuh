// Shared by all kernels: type names, float helpers, and access to memory that is aligned to two bytes.
//
// Every float operation names its rounding, so that the compiler may not contract or flush. Kernels write the same bytes as
// `quantoscope_core`, which documents the types.

#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define INLINE static __device__ __forceinline__
#define INLINE_MEMBER __device__ __forceinline__

// Mask of all lanes of a warp, and the bits of infinity.
enum : u32 { WARP = 0xFFFFFFFFu, INFINITE = 0x7F800000u };

// Floats

INLINE u32 bits(float x) { return __float_as_uint(x); }
INLINE float number(u32 x) { return __uint_as_float(x); }
INLINE u32 magnitude(float x) { return bits(x) & ~0x80000000u; }
INLINE bool finite(float x) { return magnitude(x) < INFINITE; }
INLINE bool finite(float4 v) { return finite(v.x) && finite(v.y) && finite(v.z) && finite(v.w); }

INLINE float widen(u16 h) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
  return x;
}

INLINE u16 narrow(float x) {
  u16 h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
  return h;
}

INLINE bool overflows(u16 h) { return (h & 0x7C00u) == 0x7C00u; }

// The reciprocal, and 0 of 0, which gives every value the code of zero.
INLINE float reciprocal(float d) { return d == 0.0f ? 0.0f : __fdiv_rn(1.0f, d); }

// Block sizes are even, so blocks are aligned to two bytes only.

INLINE u32 get16(const u8 *at) { return *(const u16 *)at; }
INLINE u32 get32(const u8 *at) { return get16(at) | get16(at + 2) << 16; }
INLINE void put16(u8 *at, u32 v) { *(u16 *)at = (u16)v; }
INLINE void put32(u8 *at, u32 v) { put16(at, v), put16(at + 2, v >> 16); }
