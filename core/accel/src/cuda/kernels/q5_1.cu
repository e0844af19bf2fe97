// Q5_1: `f16 d`, `f16 m`, 32 fifth bits, 32 nibbles.

#include "asymmetric.cuh"

KERNELS(AsymmetricBlock<31>)
