// Chooses each row's experts and their weights from the router's logits, every variant of DEEPSEEK.md §3.6.
//
// One workgroup per row. An expert is chosen when fewer than TOP_K others beat it (a tie goes to the lower id); the
// chosen are written in ascending order of id. The order of every sum is fixed. Loops around loops count for all lanes alike,
// a lane past the end repeating the last expert: llvmpipe runs a loop that no lane has entered to its iteration limit.

struct Params {
    experts: u32,
    top_k: u32,
    groups: u32,            // 1: no groups
    top_groups: u32,
    is_sigmoid: u32,        // scores are sigmoids, else a softmax
    group_by_two: u32,      // a group counts the sum of its two best, else its best
    normalise: u32,         // weights are divided by their sum
    scaling: f32,           // routed_scaling_factor
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;             // [rows, experts]
@group(0) @binding(2) var<storage, read> correction: array<f32>;         // [experts], for the choice alone
@group(0) @binding(3) var<storage, read_write> chosen: array<u32>;       // [rows, top_k]
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;      // [rows, top_k]

const OUT = -3e38;          // below every score: an expert of a group that was not kept

var<workgroup> scores: array<f32, MAX_EXPERTS>;
var<workgroup> choices: array<f32, MAX_EXPERTS>;
var<workgroup> group_scores: array<f32, MAX_EXPERTS>;
var<workgroup> is_chosen: array<u32, MAX_EXPERTS>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_route(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    let row = group.x;
    let begin = row * params.experts;

    let last = params.experts - 1u;
    var largest = OUT;
    for (var first = 0u; first < params.experts; first += WORKGROUP_SIZE) {
        largest = max(largest, logits[begin + min(first + at.lane, last)]);
    }
    largest = columns_max4(vec4<f32>(largest), at).x;
    var powers = 0.0;
    for (var first = 0u; first < params.experts; first += WORKGROUP_SIZE) {
        let e = min(first + at.lane, last);
        let logit = logits[begin + e];
        let power = exp(logit - largest);
        let sigmoid = 1.0 / (1.0 + exp(-clamp(logit, -80.0, 80.0)));
        if first + at.lane < params.experts {
            scores[e] = select(power, sigmoid, params.is_sigmoid == 1u);
            powers += power;
        }
    }
    powers = columns_sum4(vec4<f32>(powers), at).x;
    for (var first = 0u; first < params.experts; first += WORKGROUP_SIZE) {
        let e = min(first + at.lane, last);
        let score = scores[e] / select(powers, 1.0, params.is_sigmoid == 1u);
        if first + at.lane < params.experts {
            scores[e] = score;
            choices[e] = score + correction[e];
        }
    }
    workgroupBarrier();

    if params.groups > 1u {
        let size = params.experts / params.groups;
        for (var first = 0u; first < params.groups; first += WORKGROUP_SIZE) {
            let g = min(first + at.lane, params.groups - 1u);
            var best = OUT;
            var second = OUT;
            for (var e = g * size; e < (g + 1u) * size; e += 1u) {
                second = max(second, min(best, choices[e]));
                best = max(best, choices[e]);
            }
            if first + at.lane < params.groups {
                group_scores[g] = select(best, best + second, params.group_by_two == 1u);
            }
        }
        workgroupBarrier();
        for (var first = 0u; first < params.experts; first += WORKGROUP_SIZE) {
            let e = min(first + at.lane, last);
            let mine = e / size;
            var better = 0u;
            for (var g = 0u; g < params.groups; g += 1u) {
                let beats = group_scores[g] > group_scores[mine] || (group_scores[g] == group_scores[mine] && g < mine);
                better += select(0u, 1u, beats);
            }
            if first + at.lane < params.experts && better >= params.top_groups {
                choices[e] = OUT;
            }
        }
        workgroupBarrier();
    }

    for (var first = 0u; first < params.experts; first += WORKGROUP_SIZE) {
        let e = min(first + at.lane, last);
        let mine = choices[e];
        var better = 0u;
        for (var other = 0u; other < params.experts; other += 1u) {
            let beats = choices[other] > mine || (choices[other] == mine && other < e);
            better += select(0u, 1u, beats);
        }
        if first + at.lane < params.experts {
            is_chosen[e] = select(0u, 1u, better < params.top_k);
        }
    }
    workgroupBarrier();

    var total = 1.0;
    if params.normalise == 1u {
        total = 1e-20;
        for (var e = 0u; e < params.experts; e += 1u) {
            total += select(0.0, scores[e], is_chosen[e] == 1u);
        }
    }
    for (var first = 0u; first < params.experts; first += WORKGROUP_SIZE) {
        let e = min(first + at.lane, last);
        var slot = 0u;
        for (var other = 0u; other < e; other += 1u) {
            slot += is_chosen[other];
        }
        // NaN logits may choose more than top_k; the rest is dropped rather than written past the end.
        if first + at.lane < params.experts && is_chosen[e] == 1u && slot < params.top_k {
            chosen[row * params.top_k + slot] = e;
            weights[row * params.top_k + slot] = scores[e] / total * params.scaling;
        }
    }
}
