//! `fathom chat`: one answer on stdout, or a conversation (`repl`). Both show an answer through [`Screen`].

use std::io::{IsTerminal, Read, Write};

use console::style;
use fathom::engine::{Cancel, Engine, EngineError, Event, Input, Request, Stats, StopReason, Summary};
use fathom::sampler::Sampling;
use fathom::text::{Message, Role};

use super::args::{ChatArgs, DeviceArgs};
use super::load::{LateBar, open};
use super::{repl, table};

/// A chat that fits in memory is never longer.
const PROMPT_LIMIT_BYTES: u64 = 64 << 20;

pub async fn run(args: ChatArgs, device: &DeviceArgs) -> anyhow::Result<()> {
    let prompt = match args.prompt.as_deref() {
        Some("-") => Some(read_stdin()?),
        prompt => prompt.map(str::to_string),
    };
    let mut engine = open(args.model.clone(), device).await?;
    let sampling = args.sampling.over(engine.default_sampling(), any_seed);
    let Some(prompt) = prompt else {
        return repl::run(&mut engine, &args, sampling).await;
    };
    let messages = conversation(args.system.as_deref(), &[message(Role::User, prompt)]);
    let cancel = Cancel::default();
    // The answer alone goes to stdout; numbers and reasoning are for somebody who watches.
    let mut screen = Screen::new(cancel.clone(), std::io::stderr().is_terminal());
    let result = engine.run(request(&args, messages, sampling), &cancel, &mut |event| screen.show(event)).await;
    screen.end(&result);
    screen.written?;
    let summary = result?;
    if std::io::stderr().is_terminal() {
        eprintln!("{}", style(stats_line(&summary)).dim());
    }
    Ok(())
}

fn read_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().take(PROMPT_LIMIT_BYTES).read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_string())
}

/// A seed for chats that ask for none.
fn any_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

pub fn message(role: Role, content: String) -> Message {
    Message { role, content }
}

/// The instructions, if any, and the turns.
pub fn conversation(system: Option<&str>, turns: &[Message]) -> Vec<Message> {
    let system = system.map(|text| message(Role::System, text.to_string()));
    system.into_iter().chain(turns.iter().cloned()).collect()
}

pub fn request(args: &ChatArgs, messages: Vec<Message>, sampling: Sampling) -> Request {
    Request {
        input: Input::Chat(messages),
        sampling,
        max_tokens: args.max_tokens,
        stop: args.stop.clone(),
        ignore_eos: args.ignore_eos,
        thinking: args.thinking,
        begun: None,
        watch: false,
    }
}

/// Shows an answer as it comes: text on stdout, reasoning dimmed on stderr, a bar for a long prompt.
pub struct Screen {
    cancel: Cancel,
    /// Somebody watches stderr.
    watched: bool,
    bar: Option<LateBar>,
    reasoning: bool,
    /// The answer so far ends within a line.
    within_line: bool,
    /// The first failure to write, which also stops the answer.
    pub written: std::io::Result<()>,
}

impl Screen {
    pub fn new(cancel: Cancel, watched: bool) -> Self {
        let bar = watched.then(|| LateBar::new("reading {wide_bar} {pos}/{len} tokens"));
        Self { cancel, watched, bar, reasoning: false, within_line: false, written: Ok(()) }
    }

    pub fn show(&mut self, event: Event) {
        match event {
            Event::Prefill { done, total } => {
                if let Some(bar) = &mut self.bar {
                    bar.at(done as u64, total as u64);
                }
            }
            Event::Reasoning(text) if self.watched => {
                self.clear_bar();
                self.reasoning = true;
                eprint!("{}", style(text).dim());
            }
            Event::Text(text) => {
                self.clear_bar();
                if std::mem::take(&mut self.reasoning) {
                    eprintln!();
                }
                self.within_line = !text.ends_with('\n');
                self.write(&text);
            }
            Event::Token(_) | Event::Done(_) | Event::Failed(_) => self.clear_bar(),
            Event::Reasoning(_) | Event::Inside(_) | Event::Rebuild(_) | Event::Stats(_) => {}
        }
    }

    fn clear_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.clear();
        }
    }

    fn write(&mut self, text: &str) {
        if self.written.is_ok() {
            let mut out = std::io::stdout().lock();
            self.written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            if self.written.is_err() {
                self.cancel.cancel();
            }
        }
    }

    /// Ends the answer's last line; an answer without text is an empty line.
    pub fn end(&mut self, result: &Result<Summary, EngineError>) {
        self.clear_bar();
        let is_empty = result.as_ref().is_ok_and(|summary| summary.text.is_empty());
        if self.within_line || is_empty {
            self.write("\n");
        }
    }
}

/// `12.3 tokens/s · first token 0.41 s · 87 new tokens · prompt 43, 20 reused`.
pub fn stats_line(summary: &Summary) -> String {
    let Stats { prompt_tokens, reused_tokens, new_tokens, first_token_secs, .. } = summary.stats;
    let mut line = String::new();
    if new_tokens > 1 {
        line += &format!("{:.1} tokens/s · ", summary.stats.decode_tokens_per_sec());
    }
    line += &format!("first token {} · {new_tokens} new tokens · prompt {prompt_tokens}", table::secs(first_token_secs));
    if reused_tokens > 0 {
        line += &format!(", {reused_tokens} reused");
    }
    match summary.stop {
        StopReason::Length => line + " · cut at the length limit",
        StopReason::Cancelled => line + " · stopped",
        StopReason::Eos | StopReason::Stop(_) => line,
    }
}

/// What the engine runs on, for the head of a conversation.
pub fn headline(engine: &Engine) -> String {
    let name = engine.path().file_stem().map_or_else(|| engine.path().display().to_string(), |name| name.to_string_lossy().into_owned());
    format!("{name} on {} · context {} tokens", engine.gpu().caps(), engine.context())
}
