// Groups the slots of all live rows by expert: a counting sort, and the list of tiles of eight slots for grouped products.
// Every fourth tile of an expert also stands for a wide one, of up to thirty-two slots from its first on.
//
// One workgroup. Each lane owns every WORKGROUP_SIZE-th expert and goes through all slots, so slots keep their order.

struct Params {
    experts: u32,
    slots: u32,         // slots of a row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> chosen: array<u32>;             // [rows, slots]
@group(0) @binding(2) var<storage, read_write> order: array<u32>;        // [rows * slots]: slots by expert
@group(0) @binding(3) var<storage, read_write> tiles: array<vec4<u32>>;  // [tiles]: expert, first in order, slots, and of wide tiles
@group(0) @binding(4) var<uniform> step: vec4<u32>;                      // live rows first

var<workgroup> begins: array<u32, MAX_EXPERTS>;
var<workgroup> tile_begins: array<u32, MAX_EXPERTS>;
var<workgroup> counts: array<u32, MAX_EXPERTS>;
var<workgroup> tile_count: u32;

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_sort(@builtin(local_invocation_index) lane: u32) {
    let live = bound(step.x * params.slots, lane);
    let experts = bound(params.experts, lane);
    for (var first = 0u; first < experts; first += WORKGROUP_SIZE) {
        let e = min(first + lane, params.experts - 1u);
        var count = 0u;
        for (var slot = 0u; slot < live; slot += 1u) {
            count += select(0u, 1u, chosen[slot] == e);
        }
        if first + lane < params.experts {
            counts[e] = count;
        }
    }
    workgroupBarrier();
    if lane == 0u {
        var at = 0u;
        var tile = 0u;
        for (var e = 0u; e < experts; e += 1u) {
            begins[e] = at;
            tile_begins[e] = tile;
            at += counts[e];
            tile += (counts[e] + 7u) / 8u;
        }
        tile_count = tile;
    }
    workgroupBarrier();
    for (var first = 0u; first < experts; first += WORKGROUP_SIZE) {
        let e = min(first + lane, params.experts - 1u);
        let count = select(0u, counts[e], first + lane < params.experts);
        var at = begins[e];
        for (var slot = 0u; slot < select(0u, live, count > 0u); slot += 1u) {
            if chosen[slot] == e {
                order[at] = slot;
                at += 1u;
            }
        }
        for (var t = 0u; t * 8u < count; t += 1u) {
            let left = count - t * 8u;
            tiles[tile_begins[e] + t] = vec4<u32>(e, begins[e] + t * 8u, min(8u, left), select(0u, min(32u, left), t % 4u == 0u));
        }
    }
    for (var t = tile_count + lane; t < arrayLength(&tiles); t += WORKGROUP_SIZE) {
        tiles[t] = vec4<u32>(0u);
    }
}
