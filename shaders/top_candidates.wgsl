// The likeliest tokens of each output row with their probabilities, and the probability of the token that was sampled: a softmax
// at temperature 1 over the ids that the tokenizer knows, whatever the sampling settings say.
//
// One workgroup per output. Each lane keeps the best of its tokens in order; then the best of all lanes' heads is taken, again
// and again.

struct Params {
    stride: u32,        // logits from output to output
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;             // [outputs, stride]
@group(0) @binding(2) var<storage, read> sampling: array<Sampling>;      // [sequences]
@group(0) @binding(3) var<storage, read> listed: array<u32>;             // [outputs]: row of the step
@group(0) @binding(4) var<storage, read> sampled: array<u32>;            // [sequences]
@group(0) @binding(5) var<storage, read_write> ids: array<u32>;          // [outputs, CANDIDATES]: best first, NONE where no more
@group(0) @binding(6) var<storage, read_write> shares: array<f32>;       // [outputs, 1 + CANDIDATES]: the sampled token's, then theirs
@group(0) @binding(7) var<uniform> step: vec4<u32>;                      // live rows, live outputs

const NONE = 0xffffffffu;

var<workgroup> lane_keys: array<u32, WORKGROUP_SIZE>;
var<workgroup> lane_tokens: array<u32, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn top_candidates(at: Invocation, @builtin(workgroup_id) group: vec3<u32>) {
    if group.x >= step.y {
        return;
    }
    let sequence = batch[listed[group.x]].sequence;
    let tokens = sampling[sequence].tokens;
    let begin = group.x * params.stride;

    // The lane's best, falling; of equals the first.
    var keys: array<u32, CANDIDATES>;
    var held: array<u32, CANDIDATES>;
    for (var slot = 0u; slot < CANDIDATES; slot += 1u) {
        keys[slot] = 0u;
        held[slot] = NONE;
    }
    for (var i = at.lane; i < tokens; i += WORKGROUP_SIZE) {
        var key = order_key(logits[begin + i]);
        if key > keys[CANDIDATES - 1u] {
            var token = i;
            for (var slot = 0u; slot < CANDIDATES; slot += 1u) {
                let here = keys[slot];
                let token_here = held[slot];
                let is_better = key > here;
                keys[slot] = select(here, key, is_better);
                held[slot] = select(token_here, token, is_better);
                token = select(token, token_here, is_better);
                key = select(key, here, is_better);
            }
        }
    }

    var best: array<u32, CANDIDATES>;
    var head = 0u;
    for (var rank = 0u; rank < CANDIDATES; rank += 1u) {
        workgroupBarrier();
        lane_keys[at.lane] = select(0u, keys[min(head, CANDIDATES - 1u)], head < CANDIDATES);
        lane_tokens[at.lane] = select(NONE, held[min(head, CANDIDATES - 1u)], head < CANDIDATES);
        workgroupBarrier();
        var best_key = 0u;
        var best_token = NONE;
        for (var i = 0u; i < WORKGROUP_SIZE; i += 1u) {
            if lane_keys[i] > best_key || (lane_keys[i] == best_key && lane_tokens[i] < best_token) {
                best_key = lane_keys[i];
                best_token = lane_tokens[i];
            }
        }
        best[rank] = best_token;
        head += select(0u, 1u, best_token != NONE && best_token % WORKGROUP_SIZE == at.lane);
    }

    // Where every logit is NaN there is no best one, and all shares are zero.
    let has_best = best[0] != NONE;
    let largest = logits[begin + select(0u, best[0], has_best)];
    var sum = 0.0;
    for (var i = at.lane; i < tokens; i += WORKGROUP_SIZE) {
        sum += weight_of(logits[begin + i], largest);
    }
    let total = lanes_sum4(vec4<f32>(sum), at).x;
    let scale = select(0.0, 1.0 / total, has_best);

    if at.lane == 0u {
        let token = min(sampled[sequence], tokens - 1u);
        shares[group.x * (1u + CANDIDATES)] = weight_of(logits[begin + token], largest) * scale;
        for (var rank = 0u; rank < CANDIDATES; rank += 1u) {
            let candidate = best[rank];
            let exists = candidate != NONE;
            let weight = weight_of(logits[begin + select(0u, candidate, exists)], largest);
            ids[group.x * CANDIDATES + rank] = candidate;
            shares[group.x * (1u + CANDIDATES) + 1u + rank] = select(0.0, weight * scale, exists);
        }
    }
}

// exp(logit − largest): 1 for the largest, infinite ones too, and 0 for NaN.
fn weight_of(logit: f32, largest: f32) -> f32 {
    let key = order_key(logit);
    if key == 0u {
        return 0.0;
    }
    return select(exp(logit - largest), 1.0, key == order_key(largest));
}
