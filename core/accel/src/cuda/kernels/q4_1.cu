// Q4_1: `f16 d`, `f16 m`, 32 nibbles.

#include "asymmetric.cuh"

KERNELS(AsymmetricBlock<15>)
