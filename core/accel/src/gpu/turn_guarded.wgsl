// Operations by the device's floats, each result forced to exist: nothing can be fused with it or moved past it, for
// nobody who compiles this knows that `zero` is 0. That they round to nearest is the probe's to find out.
//
// What a flush of subnormals could change does not occur. Every value that a product with the matrix begins with is 0
// or a multiple of 2^-125, and so are all sums; the results of scaling are looked at.

var<private> zero: u32;

fn add(a: u32, b: u32) -> u32 {
  return bitcast<u32>(bitcast<f32>(a) + bitcast<f32>(b)) ^ zero;
}

fn subtract(a: u32, b: u32) -> u32 {
  return bitcast<u32>(bitcast<f32>(a) - bitcast<f32>(b)) ^ zero;
}

// Times a positive number.
fn multiply(a: u32, b: u32) -> u32 {
  if ((a & MAGNITUDE) != 0u && ((a & INFINITE) >> 23u) + (b >> 23u) < 129u) {
    raise();
  }
  return bitcast<u32>(bitcast<f32>(a) * bitcast<f32>(b)) ^ zero;
}

// What sums begin with: 0, or at least 2^-102.
fn begin(x: u32) {
  if ((x & MAGNITUDE) != 0u && ((x & INFINITE) >> 23u) < 25u) {
    raise();
  }
}
