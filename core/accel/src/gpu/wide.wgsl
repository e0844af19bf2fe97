// What the kernels of the types of 256 values share: which invocation does what, the second pass over the values, and
// the way of bytes into words.
//
// A sub-block is an invocation's work, and a workgroup's super-blocks are whole words in every type. A type says in
// `search` what it finds of a sub-block, in `share` what the sub-blocks have in common, in `stored` the scale and the
// minimum that are kept of it, and in `byte` where everything is.

const PARTS = 256u / WIDTH;
const AT_ONCE = 64u / PARTS;

// For each sub-block: what was found, and what it counts.
var<workgroup> scales: array<f32, 64>;
var<workgroup> minima: array<f32, 64>;
var<workgroup> counts: array<f32, 64>;
// The integers of scales, and of minima.
var<workgroup> steps: array<array<u32, 64>, 2>;
// For each super-block: the units of both, as binary16, and whether it is all zero bytes.
var<workgroup> units: array<array<u32, AT_ONCE>, 2>;
var<workgroup> blank: array<bool, AT_ONCE>;
var<workgroup> codes: array<u32, 64u * WIDTH>;

var<private> fit: Fit;

// The code that a search left for a value, counted from the lowest.
fn left_of(found: Fit, value: f32) -> u32 {
  if (is_zero(found.inverse)) {
    return 0u;
  }
  return u32(clamp(nearest(kept(found.inverse * kept(value - found.base))), LOW, TOP) - LOW);
}

fn fill(base: u32) {
  for (var i = 0u; i < WIDTH; i++) {
    let value = load(base + i);
    tiny = tiny || ((value & MAGNITUDE) != 0u && (value & MAGNITUDE) < NORMAL);
    x[i] = bitcast<f32>(value);
  }
}

// The weights of a sub-block: the importance of its columns, times the root of the spread and the square if asked.
fn weigh(block: u32, part: u32, spread: f32, rooted: bool) {
  let columns = 1u + ((size.first + block) % size.row) * 256u + part * WIDTH;
  for (var i = 0u; i < WIDTH; i++) {
    let importance = given[columns + i];
    doubted = doubted || importance >= INFINITE || (importance != 0u && importance < NORMAL);
    w[i] = bitcast<f32>(importance);
    if (rooted) {
      w[i] = times(w[i], bitcast<f32>(root(bits(plus(spread, squared(x[i]))))));
    }
  }
}

// The sum of squares of a super-block.
fn squares(block: u32) -> f32 {
  var total = 0.0;
  for (var i = 0u; i < 256u; i++) {
    let value = bitcast<f32>(load(block * 256u + i));
    doubted = doubted || !is_modest(value);
    total = plus(total, squared(value));
  }
  return total;
}

// nearest((x + m) / d), by the float where that is certain: it is a few units of the last place off, of a number below
// 1024.
fn divided(dividend: f32, d: f32, inverse: f32) -> i32 {
  let near = kept(dividend * inverse);
  let code = nearest(near);
  if (magnitude(near) < 0x44800000u && abs(kept(near - f32(code))) < 0.499) {
    return code;
  }
  return nearest(over(dividend, d));
}

// The codes by what is stored; where the stored scale is 0, those of the search.
fn encode_part(lane: u32) {
  let step = stored(lane);
  if (is_zero(step.x)) {
    for (var i = 0u; i < WIDTH; i++) {
      codes[lane * WIDTH + i] = select(left(i), 0u, blank[lane / PARTS]);
    }
    return;
  }
  let inverse = over(1.0, step.x);
  for (var i = 0u; i < WIDTH; i++) {
    let code = divided(kept(x[i] + step.y), step.x, inverse);
    codes[lane * WIDTH + i] = u32(clamp(code, LOW, TOP) - LOW);
  }
}

fn code(block: u32, at: u32) -> u32 {
  return codes[block * 256u + at];
}

// A byte of `count` bits, those at `shift`, of codes that are `apart`.
fn packed(block: u32, at: u32, apart: u32, shift: u32, count: u32) -> u32 {
  var all = 0u;
  for (var k = 0u; k * count < 8u; k++) {
    all |= ((code(block, at + k * apart) >> shift) & ((1u << count) - 1u)) << (k * count);
  }
  return all;
}

@compute @workgroup_size(64)
fn quantize(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  zero = given[0];
  let block = group.x * AT_ONCE + lane / PARTS;
  let there = block < size.blocks;
  if (there) {
    fill(block * 256u + lane % PARTS * WIDTH);
    search(block, lane);
  }
  workgroupBarrier();
  if (there) {
    share(lane);
  }
  workgroupBarrier();
  if (there) {
    encode_part(lane);
  }
  if (doubted) {
    raise();
  }
  workgroupBarrier();
  let first = group.x * (AT_ONCE * BYTES / 4u);
  let words = min((size.blocks * BYTES + 3u) / 4u - first, AT_ONCE * BYTES / 4u);
  for (var word = lane; word < words; word += 64u) {
    var four = 0u;
    for (var k = 0u; k < 4u; k++) {
      let at = word * 4u + k;
      four |= byte(at / BYTES, at % BYTES) << (8u * k);
    }
    result[first + word] = four;
  }
}

fn byte_at(at: u32) -> u32 {
  return (source[at >> 2u] >> ((at & 3u) * 8u)) & 0xffu;
}

// A binary16 of a block.
fn field_at(at: u32) -> u32 {
  return byte_at(at) | (byte_at(at + 1u) << 8u);
}

// One of 256 codes of two bits.
fn quarter_at(at: u32, v: u32) -> u32 {
  return (byte_at(at + (v >> 7u) * 32u + (v & 31u)) >> (((v >> 5u) & 3u) * 2u)) & 3u;
}

// d * scale * q, with the sign that a zero has.
fn signed_multiple(d: u32, scale: i32, q: i32) -> u32 {
  let sign = select(0u, 0x8000u, (scale < 0) != (q < 0));
  return multiple(d ^ sign, abs(scale * q));
}

@compute @workgroup_size(64)
fn dequantize(@builtin(global_invocation_id) id: vec3<u32>) {
  let block = id.x / PARTS;
  if (block < size.blocks) {
    decode(block * BYTES, id.x % PARTS, id.x * WIDTH);
  }
}
