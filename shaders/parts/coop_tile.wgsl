// A tile of rows of a weight against a tile of rows of x, in cooperative matrices: `tile_sums[slot * ROWS + row]`.
//
// A block of each row is decoded into workgroup memory in `Piece`s, slots first; every subgroup multiplies a strip of EDGE rows by two
// matrices of EDGE slots. The body says which rows these are (`Tile`, `x_begins`).
const STRIDE = 32u / PIECE + 4u;            // a row's pieces, and four that keep rows on a matrix's alignment and off each other's banks
const QUAD = 4u / PIECE;
const PAIRS = SLOTS / (2u * EDGE);

var<workgroup> staged: array<Piece, (SLOTS + ROWS) * STRIDE>;
var<workgroup> tile_sums: array<f32, SLOTS * ROWS>;
var<workgroup> x_begins: array<u32, SLOTS>;
var<workgroup> x_scales: array<f32, SLOTS>;
var<workgroup> x_largest: array<f32, SLOTS>;
var<workgroup> goes_again: u32;

// Of matrices that lie one after another, `taken` rows each.
struct Tile {
    begin: u32,         // where the first matrix begins in the slab
    rows: u32,          // of a matrix
    first: u32,         // row taken of each
    taken: u32,
}

// Rows past a matrix's last repeat it.
fn tile_row(tile: Tile, i: u32) -> u32 {
    return tile.begin + i / tile.taken * tile.rows + min(tile.first + i % tile.taken, tile.rows - 1u);
}

fn largest_of(x: Block) -> f32 {
    let quads = max(max(max(abs(x.a), abs(x.b)), max(abs(x.c), abs(x.d))), max(max(abs(x.e), abs(x.f)), max(abs(x.g), abs(x.h))));
    return max(max(quads.x, quads.y), max(quads.z, quads.w));
}

fn scaled(x: Block, scale: f32) -> Block {
    return Block(x.a * scale, x.b * scale, x.c * scale, x.d * scale, x.e * scale, x.f * scale, x.g * scale, x.h * scale);
}

fn stage(row: u32, block: Block) {
    let at = row * STRIDE;
    put_quad(at, block.a);
    put_quad(at + QUAD, block.b);
    put_quad(at + 2u * QUAD, block.c);
    put_quad(at + 3u * QUAD, block.d);
    put_quad(at + 4u * QUAD, block.e);
    put_quad(at + 5u * QUAD, block.f);
    put_quad(at + 6u * QUAD, block.g);
    put_quad(at + 7u * QUAD, block.h);
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
                    let x = load_x(x_begins[i] + block * 8u, lane);
                    x_largest[i] = max(x_largest[i], largest_of(x));
                    stage(i, scaled(x, x_scales[i]));
                } else {
                    stage(i, load_block(weight_row(tile_row(tile, i - SLOTS)), block));
                }
            }
            workgroupBarrier();
            for (var col = 0u; col < 32u; col += EDGE) {
                let w = coopLoadT<WeightMatrix>(&staged[(SLOTS + strip) * STRIDE + col / PIECE], STRIDE);
                low = coopMultiplyAdd(w, coopLoad<XMatrix>(&staged[first_slot * STRIDE + col / PIECE], STRIDE), low);
                high = coopMultiplyAdd(w, coopLoad<XMatrix>(&staged[(first_slot + EDGE) * STRIDE + col / PIECE], STRIDE), high);
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
