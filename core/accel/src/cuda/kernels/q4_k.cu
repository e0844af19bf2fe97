// Q4_K: scales and minima of six bits for eight sub-blocks, 256 nibbles.

#include "pairs.cuh"

SUPER_KERNELS(Pairs<false>)
