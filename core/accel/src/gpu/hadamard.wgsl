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

struct Place {
  inside: bool,
  at: u32,
  element: u32,
}

// Where value t of a tile is in memory, and which element of the axis it is.
fn place(t: u32, stretch: u32, lane: u32) -> Place {
  let number = t >> task.lanes;
  let within = number % task.len;
  let mine = stretch + number / task.len;
  let beside = lane + (t & ((1u << task.lanes) - 1u));
  let along = mine % task.chunks * task.hop + within * task.step + beside;
  let inside = mine < task.stretches && beside < task.beside;
  return Place(inside, task.at + mine / task.chunks * task.leap + along, along / task.unit);
}

fn flip(signs: u32, element: u32, x: u32) -> u32 {
  if (signs == 0u) {
    return x;
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
fn mixed(t: u32) -> u32 {
  if (task.base == 1u) {
    return tile[t];
  }
  let within = (t >> task.lanes) % task.len;
  let part = task.len / task.base;
  let run = part << task.lanes;
  let row = within / part;
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
  let lane = number % across << task.lanes;
  let stretch = number / across * task.tall;
  let count = (task.tall * task.len) << task.lanes;
  for (var t = me; t < count; t += 256u) {
    let here = place(t, stretch, lane);
    var x = 0u;
    if (here.inside) {
      x = result[here.at];
      if (task.limit != 0u) {
        begin(x);
        if (((x & INFINITE) >> 23u) >= task.limit) {
          raise();
        }
      }
      x = flip(task.before, here.element, x);
    }
    tile[t] = x;
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
  for (var t = me; t < count; t += 256u) {
    let here = place(t, stretch, lane);
    if (here.inside) {
      var x = mixed(t);
      if (task.scale != 0u) {
        x = multiply(x, task.scale);
      }
      result[here.at] = flip(task.after, here.element, x);
    }
  }
}
