// A pass of a rotation over groups of elements (`device/turn.rs`): signs, butterflies, dense part, scale, signs.
//
// A workgroup takes a tile: some groups that begin beside each other, its lanes, and some stretches of such. Elements are
// in memory what they are in the matrix, so that a column is as good as a row.

struct Pass {
  // Stretches, and how many of them a row of the matrix has.
  stretches: u32,
  chunks: u32,
  // From where on, and how far it is from row to row, from stretch to stretch, from element to element.
  at: u32,
  leap: u32,
  hop: u32,
  step: u32,
  // Values from an element of the axis to the next.
  unit: u32,
  // Groups that begin beside each other.
  beside: u32,
  // Elements of a group; stretches and (the logarithm of) lanes of a tile.
  len: u32,
  tall: u32,
  lanes: u32,
  // The end of the butterflies' strides; rows of the dense part, and where its signs are.
  rounds: u32,
  base: u32,
  dense: u32,
  // Where signs are, and the factor; 0 for none.
  before: u32,
  after: u32,
  scale: u32,
  // An exponent that values do not reach that a product begins with, so that no sum overflows; 0 where none begins.
  limit: u32,
}

@group(0) @binding(3) var<uniform> task: Pass;

var<workgroup> tile: array<u32, 4096>;

// Where a value of a tile is: an element of a group, whose stretch is one of a row of the matrix.
struct Place {
  within: u32,
  beside: u32,
  stretch: u32,
  row: u32,
  chunk: u32,
}

fn seek(p: ptr<function, Place>) {
  (*p).row = (*p).stretch;
  (*p).chunk = 0u;
  if (task.chunks > 1u) {
    (*p).row = (*p).stretch / task.chunks;
    (*p).chunk = (*p).stretch - (*p).row * task.chunks;
  }
}

// The first value of an invocation.
fn place(me: u32, stretch: u32, lane: u32) -> Place {
  let number = me >> task.lanes;
  let after = number / task.len;
  let beside = lane + (me & ((1u << task.lanes) - 1u));
  var p = Place(number - after * task.len, beside, stretch + after, 0u, 0u);
  seek(&p);
  return p;
}

// The next one, so many stretches and elements on: the lanes stay.
fn advance(p: ptr<function, Place>, stretches: u32, elements: u32) {
  (*p).within += elements;
  var on = stretches;
  if ((*p).within >= task.len) {
    (*p).within -= task.len;
    on += 1u;
  }
  if (on > 0u) {
    (*p).stretch += on;
    seek(p);
  }
}

fn inside(p: Place) -> bool {
  return p.stretch < task.stretches && p.beside < task.beside;
}

// From the beginning of the axis.
fn along(p: Place) -> u32 {
  return p.chunk * task.hop + p.within * task.step + p.beside;
}

fn address(p: Place) -> u32 {
  return task.at + p.row * task.leap + along(p);
}

fn flip(signs: u32, p: Place, x: u32) -> u32 {
  if (signs == 0u) {
    return x;
  }
  var element = along(p);
  if (task.unit > 1u) {
    element /= task.unit;
  }
  return x ^ ((source[signs + (element >> 5u)] >> (element & 31u)) << 31u);
}

// Values h apart: a + b and a - b.
fn pairs(me: u32, h: u32, count: u32) {
  for (var p = me; p < count / 2u; p += 256u) {
    let at = ((p & ~(h - 1u)) << 1u) | (p & (h - 1u));
    let a = tile[at];
    let b = tile[at + h];
    tile[at] = add(a, b);
    tile[at + h] = subtract(a, b);
  }
}

// Two rounds, of strides h and 2 h.
fn fours(me: u32, h: u32, count: u32) {
  for (var p = me; p < count / 4u; p += 256u) {
    let at = ((p & ~(h - 1u)) << 2u) | (p & (h - 1u));
    let a = tile[at];
    let b = tile[at + h];
    let c = tile[at + 2u * h];
    let d = tile[at + 3u * h];
    let near = add(a, b);
    let apart = subtract(a, b);
    let far = add(c, d);
    let aside = subtract(c, d);
    tile[at] = add(near, far);
    tile[at + h] = add(apart, aside);
    tile[at + 2u * h] = subtract(near, far);
    tile[at + 3u * h] = subtract(apart, aside);
  }
}

// Value t of the tile, or the sum that the dense part replaces it by.
fn mixed(t: u32, within: u32) -> u32 {
  if (task.base == 1u) {
    return tile[t];
  }
  // As many values as the butterflies have mixed are a run.
  let row = within / task.rounds;
  let run = task.rounds << task.lanes;
  var signs = task.dense + row * ((task.base + 31u) >> 5u);
  var at = t - row * run;
  var bits = source[signs];
  var total = tile[at] ^ (bits << 31u);
  for (var col = 1u; col < task.base; col++) {
    bits >>= 1u;
    if ((col & 31u) == 0u) {
      signs += 1u;
      bits = source[signs];
    }
    at += run;
    total = add(total, tile[at] ^ (bits << 31u));
  }
  return total;
}

@compute @workgroup_size(256)
fn turn(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) me: u32,
) {
  zero = source[0];
  let number = group.y * groups.x + group.x;
  let across = ((task.beside - 1u) >> task.lanes) + 1u;
  let lane = (number % across) << task.lanes;
  let stretch = number / across * task.tall;
  let count = (task.tall * task.len) << task.lanes;
  let stretches = (256u >> task.lanes) / task.len;
  let elements = (256u >> task.lanes) - stretches * task.len;
  var here = place(me, stretch, lane);
  for (var t = me; t < count; t += 256u) {
    var x = 0u;
    if (inside(here)) {
      x = result[address(here)];
      if (task.limit != 0u) {
        begin(x);
        if (((x & INFINITE) >> 23u) >= task.limit) {
          raise();
        }
      }
      x = flip(task.before, here, x);
    }
    tile[t] = x;
    advance(&here, stretches, elements);
  }
  workgroupBarrier();
  var h = 1u << task.lanes;
  let end = task.rounds << task.lanes;
  for (; 2u * h < end; h <<= 2u) {
    fours(me, h, count);
    workgroupBarrier();
  }
  if (h < end) {
    pairs(me, h, count);
    workgroupBarrier();
  }
  here = place(me, stretch, lane);
  for (var t = me; t < count; t += 256u) {
    if (inside(here)) {
      var x = mixed(t, here.within);
      if (task.scale != 0u) {
        x = multiply(x, task.scale);
      }
      result[address(here)] = flip(task.after, here, x);
    }
    advance(&here, stretches, elements);
  }
}
