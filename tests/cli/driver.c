/* Stands for NVIDIA's driver where there is none: one device, in the memory of the process. It runs one kernel, that which
   decodes Q8_0; the others leave their output as it is. With COUNT=0 there is no device. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef COUNT
#define COUNT 1
#endif

/* From which launch on the kernel is wrong: the probe takes three. */
#ifndef SPOILS
#define SPOILS ~0u
#endif

typedef int Result;
typedef uint64_t Address;

/* A module is whether its text is that of Q8_0; a function is whether it is the kernel that is known. */
static int yes, no;

Result cuInit(unsigned flags) { return flags == 0 && COUNT > 0 ? 0 : 100; }
Result cuGetErrorString(Result code, const char **text) {
  *text = code == 100 ? "no CUDA-capable device is detected" : "it did not work";
  return 0;
}
Result cuGetErrorName(Result code, const char **text) { return cuGetErrorString(code, text); }
Result cuDeviceGetCount(int *count) { return *count = COUNT, 0; }
Result cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal < COUNT ? 0 : 101; }
Result cuDeviceGetName(char *name, int size, int device) { return strncpy(name, "a stand-in", size), device; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) { return *value = 0, (void)attribute, device; }
Result cuDevicePrimaryCtxRetain(void **context, int device) { return *context = &yes, device; }
Result cuDevicePrimaryCtxRelease_v2(int device) { return device; }
Result cuCtxGetCurrent(void **context) { return *context = &yes, 0; }
Result cuCtxSetCurrent(void *context) { return context == &yes ? 0 : 201; }
Result cuCtxSynchronize(void) { return 0; }

Result cuModuleLoadData(void **module, const char *text) {
  *module = strncmp(text, "// Made from q8_0.cu ", 21) == 0 ? &yes : &no;
  return strstr(text, "\n.version 6.0\n") ? 0 : 218;
}
Result cuModuleGetFunction(void **function, void *module, const char *name) {
  *function = module == &yes && strcmp(name, "decode") == 0 ? &yes : &no;
  return 0;
}
Result cuModuleUnload(void *module) { return (void)module, 0; }

Result cuMemAlloc_v2(Address *at, size_t size) { return *at = (Address)(uintptr_t)malloc(size), *at ? 0 : 2; }
Result cuMemFree_v2(Address at) { return free((void *)(uintptr_t)at), 0; }
Result cuMemsetD8Async(Address at, unsigned char byte, size_t size, void *stream) {
  return memset((void *)(uintptr_t)at, byte, size), (void)stream, 0;
}
Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t size, void *stream) {
  return memcpy((void *)(uintptr_t)to, from, size), (void)stream, 0;
}
Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t size, void *stream) {
  return memcpy(to, (void *)(uintptr_t)from, size), (void)stream, 0;
}
Result cuStreamSynchronize(void *stream) { return (void)stream, 0; }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return (void)stream, (void)event, (int)flags; }
Result cuEventCreate(void **event, unsigned flags) { return *event = &yes, (void)flags, 0; }
Result cuEventRecord(void *event, void *stream) { return (void)event, (void)stream, 0; }
Result cuEventSynchronize(void *event) { return (void)event, 0; }
Result cuEventDestroy_v2(void *event) { return (void)event, 0; }

static float widen(uint16_t h) {
  if ((h & 0x7C00) == 0x7C00) return h & 0x3FF ? 0.0f / 0.0f : h & 0x8000 ? -1.0f / 0.0f : 1.0f / 0.0f;
  float magnitude = (h & 0x7C00) ? (float)(1024 + (h & 0x3FF)) : (float)(h & 0x3FF);
  int exponent = (h & 0x7C00) ? (h >> 10 & 31) - 25 : -24;
  for (; exponent > 0; exponent--) magnitude *= 2;
  for (; exponent < 0; exponent++) magnitude /= 2;
  return h & 0x8000 ? -magnitude : magnitude;
}

Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *stream, void **arguments, void **extra) {
  (void)stream;
  if (gy * gz * by * bz != 1 || shared != 0 || extra != NULL) return 1;
  if (function != &yes) return 0;
  const unsigned char *src = (void *)(uintptr_t) * (Address *)arguments[0];
  float *out = (void *)(uintptr_t) * (Address *)arguments[1];
  uint32_t blocks = *(uint32_t *)arguments[2];
  if ((uint64_t)gx * bx < 8ull * blocks) return 1;
  static unsigned launches;
  float wrong = __atomic_fetch_add(&launches, 1, __ATOMIC_RELAXED) < SPOILS ? 1 : 2;
  for (; blocks > 0; blocks--, src += 34, out += 32) {
    float d = wrong * widen((uint16_t)(src[0] | src[1] << 8));
    for (int j = 0; j < 32; j++) out[j] = (float)(signed char)src[2 + j] * d;
  }
  return 0;
}
