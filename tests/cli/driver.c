/* Stands for NVIDIA's driver where there is none: COUNT devices, in the memory of the process. They run two kernels, those that
   encode binary32 to Q8_0 and decode it; the others leave their output as it is. What is asked of a stream happens when it is
   waited for, and not before: who does not wait finds nothing. With BROKEN, the device of that number makes wrong bytes; with
   OLD, a function is missing. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef COUNT
#define COUNT 1
#endif
#ifndef BROKEN
#define BROKEN -1
#endif
/* From which launch on the kernel that decodes is wrong: the probe takes three. */
#ifndef SPOILS
#define SPOILS ~0u
#endif

typedef int Result;
typedef uint64_t Address;
typedef enum { OTHER, ENCODE, DECODE } Kernel;

/* Handles. A context is its device; a module and a function know theirs. */
typedef struct {
  int device;
} Context;
typedef struct {
  Context *context;
  Kernel kernel;
} Function;
typedef struct Step {
  struct Step *next;
  enum { COPY, CLEAR, LAUNCH } kind;
  void *to;
  const void *from;
  size_t size;
  Function function;
  Address src, out, refused;
  uint32_t blocks;
} Step;
typedef struct {
  Context *context;
  Step *first, **last;
} Stream;

static Context contexts[COUNT + 1];
static __thread Context *current;

Result cuInit(unsigned flags) { return flags == 0 && COUNT > 0 ? 0 : 100; }
Result cuGetErrorString(Result code, const char **text) {
  *text = code == 100 ? "no CUDA-capable device is detected" : code == 400 ? "that is another device's" : "it did not work";
  return 0;
}
Result cuDeviceGetCount(int *count) { return *count = COUNT, 0; }
Result cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal < COUNT ? 0 : 101; }
Result cuDeviceGetName(char *name, int size, int device) { return strncpy(name, "a stand-in", size), device >= COUNT; }
Result cuDevicePrimaryCtxRetain(void **context, int device) {
  contexts[device].device = device;
  return *context = &contexts[device], 0;
}
Result cuDevicePrimaryCtxRelease_v2(int device) { return device >= COUNT; }
Result cuCtxSetCurrent(void *context) { return current = context, 0; }

Result cuModuleLoadData(void **module, const char *text) {
  Function *made = malloc(sizeof *made);
  *made = (Function){current, strncmp(text, "// Made from q8_0.cu ", 21) == 0 ? DECODE : OTHER};
  *module = made;
  return strstr(text, "\n.version 6.0\n") ? 0 : 218;
}
Result cuModuleGetFunction(void **function, void *module, const char *name) {
  Function *made = malloc(sizeof *made);
  *made = *(Function *)module;
  if (strcmp(name, "encode_f32") == 0 && made->kernel == DECODE) made->kernel = ENCODE;
  else if (strcmp(name, "decode") != 0) made->kernel = OTHER;
  return *function = made, 0;
}

Result cuMemAlloc_v2(Address *at, size_t size) { return *at = (Address)(uintptr_t)malloc(size), *at ? 0 : 2; }
Result cuMemFree_v2(Address at) { return free((void *)(uintptr_t)at), 0; }
#ifndef OLD
Result cuMemHostAlloc(void **at, size_t size, unsigned flags) { return *at = malloc(size), flags != 0 || !*at; }
#endif
Result cuMemFreeHost(void *at) { return free(at), 0; }

Result cuStreamCreate(void **stream, unsigned flags) {
  Stream *made = calloc(1, sizeof *made);
  made->context = current, made->last = &made->first;
  return *stream = made, (int)flags - 1;
}
static Result later(Stream *stream, Step step) {
  if (stream->context != current) return 400;
  Step *kept = malloc(sizeof *kept);
  *kept = step, kept->next = NULL;
  *stream->last = kept, stream->last = &kept->next;
  return 0;
}
static Result copy(void *to, const void *from, size_t size, void *stream) {
  return later(stream, (Step){.kind = COPY, .to = to, .from = from, .size = size});
}
Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t size, void *stream) {
  return copy((void *)(uintptr_t)to, from, size, stream);
}
Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t size, void *stream) {
  return copy(to, (void *)(uintptr_t)from, size, stream);
}
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t size, void *stream) {
  return copy((void *)(uintptr_t)to, (void *)(uintptr_t)from, size, stream);
}
Result cuMemsetD8Async(Address to, unsigned char byte, size_t size, void *stream) {
  return later(stream, (Step){.kind = CLEAR, .to = (void *)(uintptr_t)to, .size = size}) + byte;
}

static float widen(uint16_t h) {
  if ((h & 0x7C00) == 0x7C00) return h & 0x3FF ? 0.0f / 0.0f : h & 0x8000 ? -1.0f / 0.0f : 1.0f / 0.0f;
  float magnitude = (h & 0x7C00) ? (float)(1024 + (h & 0x3FF)) : (float)(h & 0x3FF);
  int exponent = (h & 0x7C00) ? (h >> 10 & 31) - 25 : -24;
  magnitude = ldexpf(magnitude, exponent);
  return h & 0x8000 ? -magnitude : magnitude;
}

/* The nearest binary16 of a number that is not negative, halves to even. */
static uint16_t narrow(float x) {
  if (!(x < 65520.0f)) return 0x7C00;
  int exponent = x < 0x1p-14f ? -14 : ilogbf(x);
  float steps = nearbyintf(ldexpf(x, 10 - exponent));
  return (uint16_t)((exponent + 14) * 1024 + (int)steps);
}

static int decode(const unsigned char *src, float *out, uint32_t blocks) {
  int refused = 0;
  static unsigned launches;
  float wrong = __atomic_fetch_add(&launches, 1, __ATOMIC_RELAXED) < SPOILS ? 1 : 2;
  for (; blocks > 0; blocks--, src += 34, out += 32) {
    float d = wrong * widen((uint16_t)(src[0] | src[1] << 8));
    refused |= (src[1] & 0x7C) == 0x7C;
    for (int j = 0; j < 32; j++) out[j] = (float)(signed char)src[2 + j] * d;
  }
  return refused;
}

static int encode(const float *x, unsigned char *out, uint32_t blocks) {
  int refused = 0;
  for (; blocks > 0; blocks--, x += 32, out += 34) {
    float top = 0.0f;
    for (int j = 0; j < 32; j++) refused |= !isfinite(x[j]), top = fabsf(x[j]) > top ? fabsf(x[j]) : top;
    float d = top / 127.0f, id = d != 0.0f ? 1.0f / d : 0.0f;
    uint16_t field = narrow(d);
    refused |= field >= 0x7C00;
    out[0] = (unsigned char)field, out[1] = (unsigned char)(field >> 8);
    for (int j = 0; j < 32; j++) out[2 + j] = isfinite(id) && isfinite(x[j]) ? (unsigned char)(int)roundf(x[j] * id) : 0;
  }
  return refused;
}

static void run(const Step *step) {
  void *src = (void *)(uintptr_t)step->src, *out = (void *)(uintptr_t)step->out;
  int refused = step->function.kernel == DECODE ? decode(src, out, step->blocks) : encode(src, out, step->blocks);
  if (refused) *(uint32_t *)(uintptr_t)step->refused = 1;
  if (step->function.context->device == BROKEN) *(unsigned char *)out ^= 1;
}

Result cuStreamSynchronize(void *at) {
  Stream *stream = at;
  if (stream->context != current) return 400;
  for (Step *step; (step = stream->first); free(step)) {
    stream->first = step->next;
    if (step->kind == COPY) memcpy(step->to, step->from, step->size);
    if (step->kind == CLEAR) memset(step->to, 0, step->size);
    if (step->kind == LAUNCH) run(step);
  }
  return stream->last = &stream->first, 0;
}
Result cuStreamDestroy_v2(void *stream) { return free(stream), 0; }

Result cuLaunchKernel(void *handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *stream, void **arguments, void **extra) {
  Function function = *(Function *)handle;
  if (gy * gz * by * bz != 1 || extra != NULL) return 1;
  if (function.context != current) return 400;
  if (function.kernel == OTHER) return 0;
  Step step = {.kind = LAUNCH, .function = function, .src = *(Address *)arguments[0], .out = *(Address *)arguments[1]};
  step.refused = *(Address *)arguments[2], step.blocks = *(uint32_t *)arguments[3];
  if ((uint64_t)gx * bx < 8ull * step.blocks || shared != 0) return 1;
  return later(stream, step);
}
