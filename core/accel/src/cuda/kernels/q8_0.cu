// Q8_0: `f16 d`, 32 signed bytes.

#include "small_block.cuh"

struct Q8_0 {
  enum : u32 { BYTES = 34 };

  INLINE bool encode(const float *x, Place p, u8 *out) {
    float d = __fdiv_rn(number(top_magnitude(x)), 127.0f);
    float id = reciprocal(d);
    u32 q[4];
    for (u32 j = 0; j < 4; j++) {
      float t = __fmul_rn(x[j], id);
      // Ties away from zero: adds the largest float below one half, with the sign of the product, and truncates.
      float half = number(0x3EFFFFFFu | (bits(t) & 0x80000000u));
      q[j] = finite(id) ? __float2int_rz(__fadd_rn(t, half)) & 0xFF : 0;
    }
    u16 field = narrow(d);
    if (p.live) put32(out + 2 + 4 * p.lane, pack(q[0], q[1], q[2], q[3]));
    if (p.live && p.lane == 0) put16(out, field);
    return overflows(field);
  }

  INLINE void decode(const u8 *src, u32 lane, float *x) {
    float d = widen(get16(src));
    u32 codes = get32(src + 2 + 4 * lane);
    for (u32 j = 0; j < 4; j++) x[j] = __fmul_rn((float)(signed char)(codes >> 8 * j), d);
  }
};

KERNELS(Q8_0)
