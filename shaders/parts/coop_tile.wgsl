// A tile of rows of a weight against a tile of rows of x, in cooperative matrices: `tile_sums[slot * ROWS + row]`.
//
// A block of each row is decoded into workgroup memory in `Piece`s; every subgroup multiplies a strip of EDGE rows by two matrices of
// EDGE slots. The body says where the rows of the tile begin (`tile_row`, `x_begins`).
const STRIDE = 32u / PIECE + 4u;            // a row's pieces, and four that keep rows on a matrix's alignment and off each other's banks
const QUAD = 4u / PIECE;
const PAIRS = SLOTS / (2u * EDGE);

var<workgroup> tile_weight: array<Piece, ROWS * STRIDE>;
var<workgroup> tile_x: array<Piece, SLOTS * STRIDE>;
var<workgroup> tile_sums: array<f32, SLOTS * ROWS>;
var<workgroup> x_begins: array<u32, SLOTS>;
var<workgroup> x_scales: array<f32, SLOTS>;
var<workgroup> x_largest: array<f32, SLOTS>;
var<workgroup> goes_again: u32;

fn largest_of(x: Block) -> f32 {
    let quads = max(max(max(abs(x.a), abs(x.b)), max(abs(x.c), abs(x.d))), max(max(abs(x.e), abs(x.f)), max(abs(x.g), abs(x.h))));
    return max(max(quads.x, quads.y), max(quads.z, quads.w));
}

fn stage_weight(row: u32, tile: Tile, block: u32) {
    let w = load_block(weight_row(tile_row(tile, row)), block);
    let at = row * STRIDE;
    put_weight(at, w.a);
    put_weight(at + QUAD, w.b);
    put_weight(at + 2u * QUAD, w.c);
    put_weight(at + 3u * QUAD, w.d);
    put_weight(at + 4u * QUAD, w.e);
    put_weight(at + 5u * QUAD, w.f);
    put_weight(at + 6u * QUAD, w.g);
    put_weight(at + 7u * QUAD, w.h);
}

fn stage_x(slot: u32, block: u32, lane: u32) {
    let x = load_x(x_begins[slot] + block * 8u, lane);
    x_largest[slot] = max(x_largest[slot], largest_of(x));
    let scale = x_scales[slot];
    let at = slot * STRIDE;
    put_x(at, x.a * scale);
    put_x(at + QUAD, x.b * scale);
    put_x(at + 2u * QUAD, x.c * scale);
    put_x(at + 3u * QUAD, x.d * scale);
    put_x(at + 4u * QUAD, x.e * scale);
    put_x(at + 5u * QUAD, x.f * scale);
    put_x(at + 6u * QUAD, x.g * scale);
    put_x(at + 7u * QUAD, x.h * scale);
}

// A tile whose x fits its pieces is gone through once. Otherwise the rows that do not fit are scaled by powers of two, and it is gone
// through again: rows beside them come out with the same bits.
fn multiply_tile(tile: Tile, blocks: u32, lane: u32, subgroup: u32) {
    // naga lets no subgroup stand aside: where subgroups are smaller than they may be, the ones too many do what others do.
    let strip = subgroup / PAIRS % (ROWS / EDGE) * EDGE;
    let first_slot = subgroup % PAIRS * 2u * EDGE;
    for (var slot = lane; slot < SLOTS; slot += WORKGROUP_SIZE) {
        x_scales[slot] = 1.0;
    }
    for (var round = 0u; round < 2u; round += 1u) {
        for (var slot = lane; slot < SLOTS; slot += WORKGROUP_SIZE) {
            x_largest[slot] = 0.0;
        }
        goes_again = 0u;
        var low: SumMatrix;
        var high: SumMatrix;
        for (var block = 0u; block < blocks; block += 1u) {
            workgroupBarrier();
            // Each slot by the lane that scales it.
            for (var i = lane; i < SLOTS + ROWS; i += WORKGROUP_SIZE) {
                if i < SLOTS {
                    stage_x(i, block, lane);
                } else {
                    stage_weight(i - SLOTS, tile, block);
                }
            }
            workgroupBarrier();
            for (var col = 0u; col < 32u; col += EDGE) {
                let w = coopLoadT<WeightMatrix>(&tile_weight[strip * STRIDE + col / PIECE], STRIDE);
                low = coopMultiplyAdd(w, coopLoad<XMatrix>(&tile_x[first_slot * STRIDE + col / PIECE], STRIDE), low);
                high = coopMultiplyAdd(w, coopLoad<XMatrix>(&tile_x[(first_slot + EDGE) * STRIDE + col / PIECE], STRIDE), high);
            }
        }
        coopStore(low, &tile_sums[first_slot * ROWS + strip], ROWS);
        coopStore(high, &tile_sums[(first_slot + EDGE) * ROWS + strip], ROWS);
        for (var slot = lane; slot < SLOTS; slot += WORKGROUP_SIZE) {
            let scale = fitting_scale(x_largest[slot]);
            if scale != x_scales[slot] {
                x_scales[slot] = scale;
                goes_again = 1u;
            }
        }
        if workgroupUniformLoad(&goes_again) == 0u {
            break;
        }
    }
}

// Four sums of a slot, from row `row` of the tile on.
fn sums_at(slot: u32, row: u32) -> vec4<f32> {
    let at = slot * ROWS + row;
    return vec4<f32>(tile_sums[at], tile_sums[at + 1u], tile_sums[at + 2u], tile_sums[at + 3u]) / x_scales[slot];
}
