// Chooses each row's experts and their weights, every variant of DEEPSEEK.md §3.6; where the logits come from is the
// `logits_*` part's business.
//
// One workgroup per row. The best expert is found top_k times (a tie goes to the lower id); the chosen are written in
// ascending order of id, then `shared` experts that every row takes. The order of every sum is fixed.

struct Params {
    experts: u32,
    top_k: u32,
    groups: u32,            // 1: no groups
    top_groups: u32,
    is_sigmoid: u32,        // scores are sigmoids, else a softmax
    group_by_two: u32,      // a group counts the sum of its two best, else its best
    normalise: u32,         // weights are divided by their sum
    shared_experts: u32,    // experts after the routed ones, chosen with weight 1
    scaling: f32,           // routed_scaling_factor
    cols: u32,              // columns of the router's weight as stored, a multiple of 32
    norm_dim: u32,          // the norm's own columns
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// 1: x, the logits [rows, experts] or the rows they are made from [rows, cols / 4]
@group(0) @binding(2) var<storage, read> correction: array<f32>;         // [experts], for the choice alone
@group(0) @binding(3) var<storage, read_write> chosen: array<u32>;       // [rows, top_k + shared_experts]
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;      // [rows, top_k + shared_experts]

const OUT = -3e38;          // below every score: an expert of a group that was not kept
const TAKEN = -3.2e38;      // below that: one that was chosen already
const NOBODY = 65536.0;     // above every id

var<workgroup> scores: array<f32, MAX_EXPERTS>;
var<workgroup> choices: array<f32, MAX_EXPERTS>;
var<workgroup> group_scores: array<f32, MAX_EXPERTS>;
var<workgroup> picked: array<u32, MAX_EXPERTS>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_route(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    write_logits(group.x, at);
    workgroupBarrier();

    var largest = OUT;
    for (var e = at.lane; e < params.experts; e += WORKGROUP_SIZE) {
        largest = max(largest, scores[e]);
    }
    largest = lanes_max4(vec4<f32>(largest), at).x;
    var powers = 0.0;
    for (var e = at.lane; e < params.experts; e += WORKGROUP_SIZE) {
        let logit = scores[e];
        let power = exp(logit - largest);
        let sigmoid = 1.0 / (1.0 + exp(-clamp(logit, -80.0, 80.0)));
        scores[e] = select(power, sigmoid, params.is_sigmoid == 1u);
        powers += power;
    }
    powers = select(lanes_sum4(vec4<f32>(powers), at).x, 1.0, params.is_sigmoid == 1u);
    for (var e = at.lane; e < params.experts; e += WORKGROUP_SIZE) {
        let score = scores[e] / powers;
        scores[e] = score;
        // NaN counts as an expert of no group, so that ids stay within bounds whatever the logits are.
        let choice = score + correction[e];
        choices[e] = select(OUT, choice, choice > OUT);
    }
    workgroupBarrier();

    if bound(params.groups, group.x) > 1u {
        keep_groups(at.lane);
    }

    let top_k = bound(params.top_k, group.x);
    for (var k = 0u; k < top_k; k += 1u) {
        var best = TAKEN;
        var best_id = NOBODY;
        for (var e = at.lane; e < params.experts; e += WORKGROUP_SIZE) {
            let choice = choices[e];
            best_id = select(best_id, f32(e), choice > best);
            best = max(best, choice);
        }
        let most = lanes_max4(vec4<f32>(best), at).x;
        let id = u32(-lanes_max4(vec4<f32>(-select(NOBODY, best_id, best == most)), at).x);
        if at.lane == id % WORKGROUP_SIZE {
            choices[id] = TAKEN;
            picked[k] = id;
        }
    }
    workgroupBarrier();

    var total = 1.0;
    if bound(params.normalise, group.x) == 1u {
        total = 1e-20;
        for (var k = 0u; k < top_k; k += 1u) {
            total += scores[picked[k]];
        }
    }
    let slots = params.top_k + params.shared_experts;
    for (var k = at.lane; k < params.top_k; k += WORKGROUP_SIZE) {
        let id = picked[k];
        var slot = group.x * slots;
        for (var other = 0u; other < top_k; other += 1u) {
            slot += select(0u, 1u, picked[other] < id);
        }
        chosen[slot] = id;
        weights[slot] = scores[id] / total * params.scaling;
    }
    for (var k = at.lane; k < params.shared_experts; k += WORKGROUP_SIZE) {
        chosen[group.x * slots + params.top_k + k] = params.experts + k;
        weights[group.x * slots + params.top_k + k] = 1.0;
    }
}

// Leaves choices only in the best groups.
fn keep_groups(lane: u32) {
    let size = params.experts / params.groups;
    for (var g = lane; g < params.groups; g += WORKGROUP_SIZE) {
        var best = OUT;
        var second = OUT;
        for (var e = g * size; e < (g + 1u) * size; e += 1u) {
            let choice = choices[e];
            second = max(second, min(best, choice));
            best = max(best, choice);
        }
        group_scores[g] = select(best, best + second, params.group_by_two == 1u);
    }
    workgroupBarrier();
    for (var g = lane; g < params.groups; g += WORKGROUP_SIZE) {
        let mine = group_scores[g];
        var better = 0u;
        for (var other = 0u; other < params.groups; other += 1u) {
            let score = group_scores[other];
            better += select(0u, 1u, score > mine || (score == mine && other < g));
        }
        if better >= params.top_groups {
            for (var e = g * size; e < (g + 1u) * size; e += 1u) {
                choices[e] = OUT;
            }
        }
    }
    workgroupBarrier();
}
