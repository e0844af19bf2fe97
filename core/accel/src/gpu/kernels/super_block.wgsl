// Shared code of the types of 256 values per block: work distribution, the second pass over the values, byte packing.
//
// An invocation encodes one sub-block; the super-blocks of a workgroup are whole words in every type. Each type defines
// `search` (fit of a sub-block), `encode_header` (scales of a super-block), `stored_scale_and_min` (as read back from the
// header) and `byte` (the layout).

const PARTS = 256u / WIDTH;
const AT_ONCE = 64u / PARTS;

// Per sub-block: the fit, and the sum of its weights.
var<workgroup> scales: array<f32, 64>;
var<workgroup> minima: array<f32, 64>;
var<workgroup> counts: array<f32, 64>;
// Integer scales and minima.
var<workgroup> steps: array<array<u32, 64>, 2>;
// Per super-block: the F16 scales of both, and whether all bytes are zero.
var<workgroup> units: array<array<u32, AT_ONCE>, 2>;
var<workgroup> all_zero: array<bool, AT_ONCE>;
var<workgroup> codes: array<u32, 64u * WIDTH>;

var<private> fit: Fit;

// The code of a value by a fit, counted from the lowest code.
fn code_of_fit(found: Fit, value: f32) -> u32 {
  if (is_zero(found.inverse)) {
    return 0u;
  }
  return u32(clamp(nearest(black_box(found.inverse * black_box(value - found.base))), LOW, TOP) - LOW);
}

fn fill(base: u32) {
  for (var i = 0u; i < WIDTH; i++) {
    let value = load(base + i);
    has_subnormal = has_subnormal || ((value & MAGNITUDE) != 0u && (value & MAGNITUDE) < MIN_NORMAL);
    x[i] = bitcast<f32>(value);
  }
}

// Weights of a sub-block: importance of the columns, times sqrt(spread + x^2) if `rooted`.
fn weigh(block: u32, part: u32, spread: f32, rooted: bool) {
  let columns = 1u + ((size.first + block) % size.row) * 256u + part * WIDTH;
  for (var i = 0u; i < WIDTH; i++) {
    let importance = column_weights[columns + i];
    uncertain = uncertain || importance >= INFINITE || (importance != 0u && importance < MIN_NORMAL);
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
    uncertain = uncertain || !is_below_2p34(value);
    total = plus(total, squared(value));
  }
  return total;
}

// nearest((x + m) / d). The hardware float, which is a few units in the last place off below 1024, decides unless it is
// too close to a tie.
fn divided(dividend: f32, d: f32, inverse: f32) -> i32 {
  let near = black_box(dividend * inverse);
  let code = nearest(near);
  if (magnitude(near) < 0x44800000u && abs(black_box(near - f32(code))) < 0.499) {
    return code;
  }
  return nearest(over(dividend, d));
}

// Codes by the stored scale and minimum; the codes of the search if the stored scale is 0.
fn encode_part(lane: u32) {
  let step = stored_scale_and_min(lane);
  if (is_zero(step.x)) {
    for (var i = 0u; i < WIDTH; i++) {
      codes[lane * WIDTH + i] = select(search_code(i), 0u, all_zero[lane / PARTS]);
    }
    return;
  }
  let inverse = over(1.0, step.x);
  for (var i = 0u; i < WIDTH; i++) {
    let code = divided(black_box(x[i] + step.y), step.x, inverse);
    codes[lane * WIDTH + i] = u32(clamp(code, LOW, TOP) - LOW);
  }
}

fn code(block: u32, at: u32) -> u32 {
  return codes[block * 256u + at];
}

// A byte that packs `count` bits from `shift` on of codes that are `apart` apart.
fn packed(block: u32, at: u32, apart: u32, shift: u32, count: u32) -> u32 {
  var all = 0u;
  for (var k = 0u; k * count < 8u; k++) {
    all |= ((code(block, at + k * apart) >> shift) & ((1u << count) - 1u)) << (k * count);
  }
  return all;
}

@compute @workgroup_size(64)
fn quantize(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  zero = column_weights[0];
  let block = group.x * AT_ONCE + lane / PARTS;
  let there = block < size.blocks;
  if (there) {
    fill(block * 256u + lane % PARTS * WIDTH);
    search(block, lane);
  }
  workgroupBarrier();
  if (there) {
    encode_header(lane);
  }
  workgroupBarrier();
  if (there) {
    encode_part(lane);
  }
  if (uncertain) {
    decline();
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

// The F16 at byte `at`.
fn field_at(at: u32) -> u32 {
  return byte_at(at) | (byte_at(at + 1u) << 8u);
}

// Code `v` of 256 codes of two bits.
fn quarter_at(at: u32, v: u32) -> u32 {
  return (byte_at(at + (v >> 7u) * 32u + (v & 31u)) >> (((v >> 5u) & 3u) * 2u)) & 3u;
}

// d * scale * q, with the right sign of zero.
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
