//! The window's main states, as pictures show them.

use fathom::app::worker::{Job, Report};
use fathom::app::{Command, Fit, Language, ModelEntry, ModelHeader, ModelRef, Theme, Thinking};
use fathom::engine::{Event, StopReason};
use fathom::gpu::KernelTime;

use crate::stage::{Dice, STATS, Stage, model, token};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

pub const TIDES: &str = "Tides are the slow rise and fall of the sea, and they come from **gravity that is not the same everywhere**.\n\n\
The Moon pulls the near side of the Earth a little harder than its centre, and the far side a little less. The difference \
stretches the oceans into two bulges:\n\n\
1. one towards the Moon, where the pull is strongest,\n\
2. one on the opposite side, where the Earth is pulled away from the water.\n\n\
As the Earth turns below these bulges, most coasts see *two high tides* in about 24 hours and 50 minutes.\n\n\
> When Sun and Moon pull along one line, at new and full moon, their effects add up to a spring tide.";

pub const MIXED: &str = "The softmax turns scores $s_i$ into probabilities. With a temperature $T$ it is\n\n\
$$p_i = \\frac{e^{s_i / T}}{\\sum_{j=1}^{n} e^{s_j / T}}, \\qquad \\lim_{T \\to 0} p_i = \\begin{cases} 1 & i = \\arg\\max_j s_j \\\\ 0 & \\text{otherwise} \\end{cases}$$\n\n\
Subtracting \\(m = \\max_j s_j\\) first keeps every exponent at or below $0$, so nothing overflows:\n\n\
```python\nimport numpy as np\n\ndef softmax(scores, temperature=1.0):\n    # The largest exponent becomes zero.\n    shifted = (scores - scores.max()) / temperature\n    weights = np.exp(shifted)\n    return weights / weights.sum()\n```\n\n\
| Temperature | Effect | Entropy |\n|---|---|---:|\n| $T \\to 0$ | always the likeliest token | $0$ |\n| $T = 1$ | the model's own distribution | $H(p)$ |\n| $T \\to \\infty$ | every token alike | $\\log n$ |\n\n\
See `sampling.wgsl` and the [original paper](https://example.org/softmax) for more.";

/// The chats that the sidebar shows.
fn history(stage: &mut Stage) {
    for (ago, question) in [
        (40 * DAY_MS, "Reading list about the deep sea"),
        (12 * DAY_MS, "Compare Rust's async runtimes"),
        (5 * DAY_MS, "A birthday poem for Grace"),
        (3 * DAY_MS, "Why is the sky dark at night?"),
        (DAY_MS, "Regular expression for ISO dates"),
        (DAY_MS - 2 * HOUR_MS, "Plan a week of simple dinners"),
        (3 * HOUR_MS, "Translate a letter into French"),
    ] {
        stage.past_chat(ago, question, "…");
    }
    let pinned = stage.app.chats.iter().find(|chat| chat.title.starts_with("Compare")).map(|chat| chat.id);
    stage.app.apply(Command::PinChat(pinned.expect("it was just made"), true));
    stage.app.apply(Command::NewChat);
}

fn stage(theme: Theme) -> Stage {
    let mut stage = Stage::with_model(theme);
    history(&mut stage);
    stage
}

pub fn empty(theme: Theme) -> Stage {
    stage(theme)
}

pub fn streaming(theme: Theme) -> Stage {
    let mut stage = stage(theme);
    stage.ask("How do tides work? Keep it short.");
    let (ticket, _) = stage.script.next_answer().expect("asked");
    stage.script.event(ticket, Event::Prefill { done: 24, total: 24 });
    stage.script.text(ticket, &TIDES[..TIDES.find("As the Earth").expect("there") + 60]);
    stage.script.event(ticket, Event::Stats(STATS));
    stage.app.poll();
    stage
}

pub fn thinking(theme: Theme) -> Stage {
    let mut stage = stage(theme);
    let settings = stage.app.chat().head.settings.clone();
    stage.app.apply(Command::SetChatSettings(fathom::app::ChatSettings { thinking: Thinking::On, ..settings }));
    stage.ask("A bat and a ball cost 1.10 together. The bat costs 1 more than the ball. What does the ball cost?");
    let (ticket, _) = stage.script.next_answer().expect("asked");
    stage.script.reasoning(ticket, "The quick answer is 0.10, but then the bat would cost 1.10 and both together 1.20.\n\nLet the ball cost $x$. Then the bat costs $x + 1$, and $2x + 1 = 1.10$, so $x = 0.05$.");
    stage.app.poll();
    stage.later(6400);
    stage.script.text(ticket, "The ball costs **0.05**.\n\nThe bat then costs 1.05, which is exactly 1 more, and together they cost 1.10.");
    stage.script.done(ticket, StopReason::Eos, STATS);
    stage.app.poll();
    stage.count();
    stage.app.apply(Command::ShowReasoning(true));
    stage
}

pub fn mixed(theme: Theme) -> Stage {
    let mut stage = stage(theme);
    stage.exchange("Explain softmax with temperature: formula, code and a small table", MIXED);
    stage
}

pub fn branches(theme: Theme) -> Stage {
    let mut stage = stage(theme);
    stage.exchange("Write a haiku about rain", "Grey morning softens\non the roof a thousand hands\ncount the quiet hours");
    for answer in [
        "Soft drops on the glass  \ndraw slow rivers to the sill –  \nthe garden listens.",
        "Rain taps the window,  \nan old friend with small stories;  \nI let the tea cool.",
    ] {
        let last = stage.app.chat().leaf().expect("an answer").id;
        stage.app.apply(Command::Regenerate(last));
        stage.answer(answer);
    }
    let last = stage.app.chat().leaf().expect("an answer").id;
    stage.app.apply(Command::StepBranch(last, -1));
    stage.exchange(
        "Now one about the sea at night",
        "Black water breathing,  \nthe lighthouse turns a slow page  \nof stars and salt wind.",
    );
    stage
}

pub fn inside(theme: Theme) -> Stage {
    let mut stage = stage(theme);
    stage.set(|settings| settings.inside = true);
    stage.app.poll();
    stage.ask("How do tides work? Keep it short.");
    let (ticket, request) = stage.script.next_answer().expect("asked");
    assert!(request.watch, "an open inside view watches");
    let shape = model().inside;
    let mut dice = Dice(7);
    let mut end = 0;
    for word in TIDES.split_inclusive(' ') {
        end += word.len();
        stage.script.text(ticket, word);
        stage.script.event(ticket, token(&mut dice, &shape, word, end));
    }
    stage.script.event(ticket, Event::Stats(STATS));
    stage.script.done(ticket, StopReason::Eos, STATS);
    stage.app.poll();
    let kernels = [
        ("matvec", 82, 3.1e-3),
        ("ffn_up", 27, 2.4e-3),
        ("ffn_down", 27, 1.5e-3),
        ("mla_attention", 27, 0.9e-3),
        ("mla_enter", 27, 0.6e-3),
        ("moe_route", 26, 0.3e-3),
        ("sample", 1, 0.1e-3),
    ];
    stage.app.kernel_times =
        Some(kernels.map(|(kernel, dispatches, secs)| KernelTime { kernel: kernel.into(), dispatches, secs }).to_vec());
    stage
}

/// What a scan of this machine found.
pub fn models(stage: &mut Stage) {
    let entry = |name: &str, architecture: &str, layout: &'static str, formats: &str, mib: u64, experts| {
        let header = ModelHeader {
            architecture: architecture.to_owned(),
            layout: layout.into(),
            formats: formats.to_owned(),
            weight_bytes: mib << 20,
            cache_bytes_per_token: 60 << 10,
            max_positions: 32768,
            layers: 27,
            experts,
        };
        let path = std::path::PathBuf::from("/home/ada/models").join(name);
        ModelEntry { model: ModelRef::Path(path.clone()), path, name: name.to_owned(), header: Ok(header) }
    };
    let mut broken = entry("half-a-download", "", "GGUF", "", 0, None);
    broken.header =
        Err("half-a-download.gguf: tensor `blk.3.ffn_up.weight` ends at byte 812,646,400, but the file has 409,993,216".to_owned());
    let mut default = entry("SmolLM2-135M-Instruct", "llama", "GGUF", "Q4_1", 94, None);
    default.model = ModelRef::Default;
    let running = model();
    let mut open = entry(&running.name, "deepseek_v2", "safetensors", "affine 4", 8400, Some((64, 6)));
    open.path = running.path;
    let models = vec![
        default,
        open,
        entry("Moonlight-16B-A3B-Instruct", "deepseek_v3", "safetensors", "affine 4", 15_900, Some((64, 6))),
        entry("DeepSeek-V3.1", "deepseek_v3", "safetensors", "fp8", 655_000, Some((256, 8))),
        broken,
    ];
    assert_eq!(
        match &models[0].header {
            Ok(header) => header.fit(Some(16 << 30)),
            Err(_) => Fit::Unknown,
        },
        Fit::Fits
    );
    stage.app.poll();
    while let Some(ticket) = stage.script.take(|job| if let Job::Scan { ticket, .. } = job { Some(*ticket) } else { None }) {
        stage.script.report(Report::Models { ticket, models: models.clone() });
    }
    stage.app.poll();
}

pub fn error(theme: Theme) -> Stage {
    let mut stage = stage(theme);
    stage.exchange("How do tides work? Keep it short.", TIDES);
    stage.ask("And why are there neap tides?");
    let (ticket, _) = stage.script.next_answer().expect("asked");
    stage.script.text(ticket, "At the first and last quarter of the Moon, the Sun pulls at a right angle to it, so the two effects");
    stage.script.report(Report::Broken {
        ticket: Some(ticket),
        reason: "the device was lost: the driver was reset after 2.1 s in `ffn_up`".to_owned(),
    });
    stage.app.poll();
    stage
}

pub fn chinese(theme: Theme) -> Stage {
    let mut stage = stage(theme);
    stage.set(|settings| settings.language = Language::Chinese);
    stage.exchange(
        "请用简单的话解释一下注意力机制 🙂",
        "**注意力机制**让模型在读每个词时，决定应该“看”哪些别的词。\n\n对每个词，模型算出三个向量：查询 $q$、键 $k$ 和值 $v$，然后\n\n$$\\text{Attention}(Q, K, V) = \\text{softmax}\\!\\left(\\frac{QK^\\top}{\\sqrt{d}}\\right)V$$\n\n- **查询**：我在找什么？\n- **键**：我有什么可以被找到？\n- **值**：找到之后，我提供什么内容？\n\n| 名称 | 缓存大小 |\n|---|---:|\n| 完整的键和值 | 大 |\n| 潜在向量（MLA） | 小得多 |",
    );
    stage
}
