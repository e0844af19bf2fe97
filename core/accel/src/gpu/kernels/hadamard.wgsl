// A pass of a rotation over groups of elements (`device/rotation_passes.rs`): signs, butterflies, dense part, scale, signs.
//
// A workgroup processes a tile: neighbouring groups (lanes) of one or more runs. Rows and columns of the matrix differ only
// in their strides.

struct Pass {
  // Runs in all, and runs per row of the matrix.
  runs: u32,
  chunks: u32,
  // Index of the first value; distance between rows, between runs, and between elements of a group.
  at: u32,
  row_stride: u32,
  run_stride: u32,
  step: u32,
  // Distance between neighbouring elements of the axis.
  unit: u32,
  // Groups per run.
  groups_per_run: u32,
  // Elements per group; runs per tile; log2 of the lanes of a tile.
  len: u32,
  runs_per_tile: u32,
  log2_lanes: u32,
  // Upper bound of the butterflies' strides; order of the dense part (1 for none) and index of its signs.
  rounds: u32,
  base: u32,
  dense: u32,
  // Indices of the sign vectors, and the factor; 0 for none.
  before: u32,
  after: u32,
  scale: u32,
  // Exponent field that inputs must stay below, so that no sum overflows; 0 if the pass is not the first of a product.
  limit: u32,
}

@group(0) @binding(3) var<uniform> task: Pass;

var<workgroup> tile: array<u32, 4096>;

// Position of a value of a tile: element of its group, group of its run, run, row of the matrix, run of the row.
struct TilePosition {
  element: u32,
  group: u32,
  run: u32,
  row: u32,
  chunk: u32,
}

fn set_row(p: ptr<function, TilePosition>) {
  (*p).row = (*p).run;
  (*p).chunk = 0u;
  if (task.chunks > 1u) {
    (*p).row = (*p).run / task.chunks;
    (*p).chunk = (*p).run - (*p).row * task.chunks;
  }
}

// Position of the first value of an invocation.
fn first_position(me: u32, run: u32, lane: u32) -> TilePosition {
  let number = me >> task.log2_lanes;
  let runs_before = number / task.len;
  let group = lane + (me & ((1u << task.log2_lanes) - 1u));
  var p = TilePosition(number - runs_before * task.len, group, run + runs_before, 0u, 0u);
  set_row(&p);
  return p;
}

// Moves to the next value of an invocation, some runs and elements further in the same lane.
fn advance(p: ptr<function, TilePosition>, runs: u32, elements: u32) {
  (*p).element += elements;
  var passed = runs;
  if ((*p).element >= task.len) {
    (*p).element -= task.len;
    passed += 1u;
  }
  if (passed > 0u) {
    (*p).run += passed;
    set_row(p);
  }
}

fn inside(p: TilePosition) -> bool {
  return p.run < task.runs && p.group < task.groups_per_run;
}

// Offset of a value from the start of its row.
fn offset(p: TilePosition) -> u32 {
  return p.chunk * task.run_stride + p.element * task.step + p.group;
}

fn address(p: TilePosition) -> u32 {
  return task.at + p.row * task.row_stride + offset(p);
}

fn flip(signs: u32, p: TilePosition, x: u32) -> u32 {
  if (signs == 0u) {
    return x;
  }
  var element = offset(p);
  if (task.unit > 1u) {
    element /= task.unit;
  }
  return x ^ ((source[signs + (element >> 5u)] >> (element & 31u)) << 31u);
}

// One round of butterflies, of stride h: a + b and a - b.
fn butterfly_round(me: u32, h: u32, count: u32) {
  for (var p = me; p < count / 2u; p += 256u) {
    let at = ((p & ~(h - 1u)) << 1u) | (p & (h - 1u));
    let a = tile[at];
    let b = tile[at + h];
    tile[at] = add(a, b);
    tile[at + h] = subtract(a, b);
  }
}

// Two rounds of butterflies, of strides h and 2 h.
fn two_butterfly_rounds(me: u32, h: u32, count: u32) {
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

// Value t of the tile, or the sum of the dense part that replaces it.
fn dense_sum(t: u32, element: u32) -> u32 {
  if (task.base == 1u) {
    return tile[t];
  }
  // Neighbouring terms of a sum are one range of the butterflies apart.
  let row = element / task.rounds;
  let apart = task.rounds << task.log2_lanes;
  var signs = task.dense + row * ((task.base + 31u) >> 5u);
  var at = t - row * apart;
  var bits = source[signs];
  var total = tile[at] ^ (bits << 31u);
  for (var col = 1u; col < task.base; col++) {
    bits >>= 1u;
    if ((col & 31u) == 0u) {
      signs += 1u;
      bits = source[signs];
    }
    at += apart;
    total = add(total, tile[at] ^ (bits << 31u));
  }
  return total;
}

@compute @workgroup_size(256)
fn rotate(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) me: u32,
) {
  zero = source[0];
  let number = group.y * groups.x + group.x;
  let across = ((task.groups_per_run - 1u) >> task.log2_lanes) + 1u;
  let lane = (number % across) << task.log2_lanes;
  let run = number / across * task.runs_per_tile;
  let count = (task.runs_per_tile * task.len) << task.log2_lanes;
  let runs = (256u >> task.log2_lanes) / task.len;
  let elements = (256u >> task.log2_lanes) - runs * task.len;
  var here = first_position(me, run, lane);
  for (var t = me; t < count; t += 256u) {
    var x = 0u;
    if (inside(here)) {
      x = result[address(here)];
      if (task.limit != 0u) {
        check_input(x);
        if (((x & INFINITE) >> 23u) >= task.limit) {
          decline();
        }
      }
      x = flip(task.before, here, x);
    }
    tile[t] = x;
    advance(&here, runs, elements);
  }
  workgroupBarrier();
  var h = 1u << task.log2_lanes;
  let end = task.rounds << task.log2_lanes;
  for (; 2u * h < end; h <<= 2u) {
    two_butterfly_rounds(me, h, count);
    workgroupBarrier();
  }
  if (h < end) {
    butterfly_round(me, h, count);
    workgroupBarrier();
  }
  here = first_position(me, run, lane);
  for (var t = me; t < count; t += 256u) {
    if (inside(here)) {
      var x = dense_sum(t, here.element);
      if (task.scale != 0u) {
        x = multiply(x, task.scale);
      }
      result[address(here)] = flip(task.after, here, x);
    }
    advance(&here, runs, elements);
  }
}
