// What the kernels between decode and encode share: a matrix of binary32 patterns, and tables of what is done to it.

@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> result: array<u32>;
@group(0) @binding(2) var<storage, read_write> doubt: atomic<u32>;

fn half_at(at: u32) -> u32 {
  return (source[at >> 1u] >> ((at & 1u) * 16u)) & 0xffffu;
}

fn raise() {
  atomicStore(&doubt, 1u);
}

// What is not finite is told of.
fn finite(x: u32) -> u32 {
  if ((x & INFINITE) == INFINITE) {
    raise();
  }
  return x;
}
