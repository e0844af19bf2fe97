// Q4_1: `f16 d`, `f16 m`, 32 nibbles.

#include "with_minimum.cuh"

KERNELS(WithMinimum<15>)
