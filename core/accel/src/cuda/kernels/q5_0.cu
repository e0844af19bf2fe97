// Q5_0: `f16 d`, 32 fifth bits, 32 nibbles.

#include "symmetric.cuh"

KERNELS(SymmetricBlock<16>)
