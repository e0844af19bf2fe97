// Bindings of the kernels between decode and encode: the matrix of F32 bit patterns (`result`) and the tables (`source`).

@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> result: array<u32>;
@group(0) @binding(2) var<storage, read_write> declined: atomic<u32>;

fn half_at(at: u32) -> u32 {
  return (source[at >> 1u] >> ((at & 1u) * 16u)) & 0xffffu;
}

fn decline() {
  atomicStore(&declined, 1u);
}

// Declines infinity and NaN.
fn finite(x: u32) -> u32 {
  if ((x & INFINITE) == INFINITE) {
    decline();
  }
  return x;
}
