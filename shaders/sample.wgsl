// The next token of each output row: the largest logit, or a draw after temperature, top-k, top-p and min-p (DEEPSEEK.md §9.3).
//
// One workgroup per output. Logits are compared as ordered integers; the cut of top-k and of top-p is found bit by bit, from
// the highest down, which needs no sorting and always ends. Sums run in a fixed order: the same seed gives the same token.

struct Params {
    stride: u32,        // logits from output to output
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;             // [outputs, stride]
@group(0) @binding(2) var<storage, read> sampling: array<Sampling>;      // [sequences]
@group(0) @binding(3) var<storage, read> listed: array<u32>;             // [outputs]: row of the step
@group(0) @binding(4) var<storage, read_write> sampled: array<u32>;      // [sequences]
@group(0) @binding(5) var<uniform> step: vec4<u32>;                      // live rows, live outputs

var<workgroup> lane_tokens: array<u32, WORKGROUP_SIZE>;
var<workgroup> lane_keys: array<u32, WORKGROUP_SIZE>;
var<workgroup> lane_sums: array<f32, WORKGROUP_SIZE>;
var<workgroup> answer: u32;

// A uniform number in [0, 1) from seed and position (PCG, O'Neill 2014).
fn pcg(value: u32) -> u32 {
    let state = value * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

fn draw(low: u32, high: u32, position: u32) -> f32 {
    return f32(pcg(pcg(pcg(position) ^ low) ^ high) >> 8u) / 16777216.0;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn sample(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    if group.x >= step.y {
        return;
    }
    let row = batch[listed[group.x]];
    let s = sampling[row.sequence];
    let begin = group.x * params.stride;
    // Each lane owns a run of neighbouring tokens, so that lanes in order are tokens in order.
    let run = (s.tokens + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
    let first = min(at.lane * run, s.tokens);
    let last = min(first + run, s.tokens);

    var best = first;
    var best_key = 0u;
    for (var i = first; i < last; i += 1u) {
        let key = order_key(logits[begin + i]);
        if key > best_key {
            best_key = key;
            best = i;
        }
    }
    lane_tokens[at.lane] = best;
    lane_keys[at.lane] = best_key;
    workgroupBarrier();
    for (var i = 0u; i < WORKGROUP_SIZE; i += 1u) {
        if lane_keys[i] > best_key || (lane_keys[i] == best_key && lane_tokens[i] < best) {
            best_key = lane_keys[i];
            best = lane_tokens[i];
        }
    }
    if at.lane == 0u {
        answer = best;
    }
    let best_token = workgroupUniformLoad(&answer);

    if s.temperature > 0.0 {
        let largest = logits[begin + best_token];
        var cut = 1u;
        // top-k: the largest key that at least top_k tokens reach.
        if s.top_k > 0u && s.top_k < s.tokens {
            var reach = 0u;
            for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
                var count = 0.0;
                for (var i = first; i < last; i += 1u) {
                    count += select(0.0, 1.0, order_key(logits[begin + i]) >= (reach | bit));
                }
                if lanes_sum4(vec4<f32>(count), at).x >= f32(s.top_k) {
                    reach |= bit;
                }
            }
            cut = max(cut, reach);
        }
        // top-p: the largest key whose tokens together reach top_p of what top-k left.
        if s.top_p < 1.0 {
            var mass = 0.0;
            for (var i = first; i < last; i += 1u) {
                let logit = logits[begin + i];
                mass += select(0.0, exp((logit - largest) / s.temperature), order_key(logit) >= cut);
            }
            let wanted = s.top_p * lanes_sum4(vec4<f32>(mass), at).x;
            var reach = 0u;
            for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
                mass = 0.0;
                for (var i = first; i < last; i += 1u) {
                    let logit = logits[begin + i];
                    mass += select(0.0, exp((logit - largest) / s.temperature), order_key(logit) >= max(cut, reach | bit));
                }
                if lanes_sum4(vec4<f32>(mass), at).x >= wanted {
                    reach |= bit;
                }
            }
            cut = max(cut, reach);
        }
        // min-p: a token must have min_p times the best one's share.
        if s.min_p > 0.0 {
            cut = max(cut, order_key(largest + log(s.min_p) * s.temperature));
        }
        // The best token always stays.
        cut = min(cut, order_key(largest));

        var mass = 0.0;
        for (var i = first; i < last; i += 1u) {
            let logit = logits[begin + i];
            mass += select(0.0, exp((logit - largest) / s.temperature), order_key(logit) >= cut);
        }
        lane_sums[at.lane] = mass;
        workgroupBarrier();
        var before = 0.0;
        var total = 0.0;
        for (var i = 0u; i < WORKGROUP_SIZE; i += 1u) {
            if i == at.lane {
                before = total;
            }
            total += lane_sums[i];
        }
        let target_mass = draw(s.seed_low, s.seed_high, row.position) * total;
        let is_mine = target_mass >= before && target_mass < before + mass;
        var reached = before;
        var token = best_token;
        for (var i = first; i < select(first, last, is_mine); i += 1u) {
            let logit = logits[begin + i];
            if reached <= target_mass && order_key(logit) >= cut {
                token = i;
                reached += exp((logit - largest) / s.temperature);
            }
        }
        if is_mine {
            answer = token;
        }
    }
    let token = workgroupUniformLoad(&answer);
    if at.lane == 0u {
        sampled[row.sequence] = token;
    }
}
