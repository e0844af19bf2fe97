// Q5_K: scales and minima of six bits for eight sub-blocks, 256 fifth bits, 256 nibbles.

#include "q4_k_q5_k.cuh"

SUPER_KERNELS(Pairs<true>)
