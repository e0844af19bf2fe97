// Q4_0: `f16 d`, 32 nibbles.

#include "symmetric.cuh"

KERNELS(SymmetricBlock<8>)
