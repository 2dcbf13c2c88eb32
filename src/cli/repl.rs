//! The conversation in the terminal: lines in, answers out, commands that begin with a slash. Also takes lines from a pipe.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::anyhow;
use console::style;
use fathom::engine::{Cancel, Engine, Summary, user_data_dir};
use fathom::files::write_whole;
use fathom::sampler::Sampling;
use fathom::text::{Message, Role};
use rustyline::error::ReadlineError;
use rustyline::{Cmd, Config, DefaultEditor, KeyCode, KeyEvent, Modifiers};

use super::args::ChatArgs;
use super::chat::{Screen, conversation, headline, message, request, stats_line};

const HELP: &str = "\
/help         this list
/reset        forget the conversation
/system TEXT  set the instructions and begin anew; without TEXT, remove them
/save FILE    write the conversation as Markdown
/stats        numbers of the last answer, sampling and context
/exit         leave, as Ctrl-D does
Ctrl-C stops an answer; Alt-Enter begins a new line.";

/// What a line asks for.
#[derive(Debug, PartialEq)]
enum Line<'a> {
    Say(&'a str),
    Help,
    Reset,
    System(&'a str),
    Save(&'a str),
    Stats,
    Exit,
    Nothing,
    Unknown(&'a str),
}

fn parse(line: &str) -> Line<'_> {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let is_command = word.strip_prefix('/').is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic()));
    match word {
        "" => Line::Nothing,
        "/help" => Line::Help,
        "/reset" => Line::Reset,
        "/system" => Line::System(rest.trim()),
        "/save" => Line::Save(rest.trim()),
        "/stats" => Line::Stats,
        "/exit" | "/quit" => Line::Exit,
        _ if is_command => Line::Unknown(word),
        _ => Line::Say(line),
    }
}

/// Where lines come from.
enum Source {
    Terminal(Box<DefaultEditor>, Option<PathBuf>),
    Pipe,
}

enum Read {
    Line(String),
    Interrupted,
    End,
}

impl Source {
    fn open() -> anyhow::Result<Self> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return Ok(Self::Pipe);
        }
        let config = Config::builder().auto_add_history(true).max_history_size(1000)?.bracketed_paste(true).build();
        let mut editor = DefaultEditor::with_config(config)?;
        editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), Cmd::Newline);
        let history = user_data_dir().map(|dir| dir.join("chat-history.txt"));
        if let Some(file) = &history {
            // The first chat finds none.
            let _ = editor.load_history(file);
        }
        Ok(Self::Terminal(Box::new(editor), history))
    }

    fn read(&mut self) -> anyhow::Result<Read> {
        match self {
            Self::Terminal(editor, _) => match editor.readline("> ") {
                Ok(line) => Ok(Read::Line(line)),
                Err(ReadlineError::Interrupted) => Ok(Read::Interrupted),
                Err(ReadlineError::Eof) => Ok(Read::End),
                Err(error) => Err(error.into()),
            },
            Self::Pipe => {
                let mut line = String::new();
                Ok(if std::io::stdin().lock().read_line(&mut line)? == 0 { Read::End } else { Read::Line(line) })
            }
        }
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(..))
    }

    /// Keeps the history; a disk that refuses costs no chat.
    fn close(self) {
        if let Self::Terminal(mut editor, Some(file)) = self {
            let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
            if let Err(error) = folder.map_err(ReadlineError::from).and_then(|()| editor.save_history(&file)) {
                note(&format!("the history is not kept: {}: {error}", file.display()));
            }
        }
    }
}

fn note(text: &str) {
    eprintln!("{}", style(text).dim());
}

struct Chat<'a> {
    engine: &'a mut Engine,
    args: &'a ChatArgs,
    sampling: Sampling,
    system: Option<String>,
    turns: Vec<Message>,
    last: Option<Summary>,
    cancel: Cancel,
    answering: Arc<AtomicBool>,
}

/// Talks until the user leaves.
pub async fn run(engine: &mut Engine, args: &ChatArgs, sampling: Sampling) -> anyhow::Result<()> {
    let mut source = Source::open()?;
    let (cancel, answering) = (Cancel::default(), Arc::new(AtomicBool::new(false)));
    let (stop, busy) = (cancel.clone(), answering.clone());
    // The first Ctrl-C stops an answer; without one, or a second time, it ends the program.
    ctrlc::set_handler(move || {
        if !busy.load(Ordering::Relaxed) || stop.is_cancelled() {
            std::process::exit(130);
        }
        stop.cancel();
    })?;
    let system = args.system.clone();
    let mut chat = Chat { engine, args, sampling, system, turns: vec![], last: None, cancel, answering };
    if source.is_terminal() {
        note(&headline(chat.engine));
        note("/help lists commands, Ctrl-D leaves");
    }
    let result = chat.talk(&mut source).await;
    source.close();
    result
}

impl Chat<'_> {
    async fn talk(&mut self, source: &mut Source) -> anyhow::Result<()> {
        loop {
            let line = match source.read()? {
                Read::Line(line) => line,
                Read::Interrupted => {
                    note("Ctrl-D or /exit leaves");
                    continue;
                }
                Read::End => return Ok(()),
            };
            let done = match parse(&line) {
                Line::Nothing => Ok(()),
                Line::Exit => return Ok(()),
                Line::Say(text) => self.say(text, source.is_terminal()).await,
                Line::Save(file) => self.save(file),
                other => {
                    self.command(&other);
                    Ok(())
                }
            };
            // In a terminal the chat goes on; a script wants to know.
            match done {
                Err(error) if source.is_terminal() && self.engine.gpu().fault().is_ok() => super::report(&error.to_string()),
                done => done?,
            }
        }
    }

    async fn say(&mut self, text: &str, watched: bool) -> anyhow::Result<()> {
        self.turns.push(message(Role::User, text.to_string()));
        let messages = conversation(self.system.as_deref(), &self.turns);
        self.cancel.reset();
        self.answering.store(true, Ordering::Relaxed);
        let mut screen = Screen::new(self.cancel.clone(), watched);
        let wanted = request(self.args, messages, self.sampling);
        let result = self.engine.run(wanted, &self.cancel, &mut |event| screen.show(event)).await;
        self.answering.store(false, Ordering::Relaxed);
        screen.end(&result);
        let summary = match result {
            Ok(summary) => summary,
            Err(error) => {
                self.turns.pop();
                return Err(error.into());
            }
        };
        screen.written?;
        if watched {
            note(&stats_line(&summary));
        }
        self.turns.push(message(Role::Assistant, summary.text.clone()));
        self.last = Some(summary);
        Ok(())
    }

    fn command(&mut self, line: &Line<'_>) {
        match line {
            Line::Help => note(HELP),
            Line::Reset => {
                self.turns.clear();
                note("the conversation is forgotten");
            }
            Line::System(text) => {
                self.system = (!text.is_empty()).then(|| (*text).to_string());
                self.turns.clear();
                note(if text.is_empty() { "no instructions; the conversation begins anew" } else { "the conversation begins anew" });
            }
            Line::Stats => self.stats(),
            Line::Unknown(word) => note(&format!("{word} is no command; /help lists them")),
            Line::Say(_) | Line::Save(_) | Line::Exit | Line::Nothing => {}
        }
    }

    fn stats(&self) {
        match &self.last {
            Some(summary) => {
                note(&stats_line(summary));
                note(&format!("prompt at {:.1} tokens/s", summary.stats.prefill_tokens_per_sec()));
            }
            None => note("no answer yet"),
        }
        let Sampling { temperature, top_k, top_p, min_p, seed } = self.sampling;
        note(&format!("temperature {temperature} · top-k {top_k} · top-p {top_p} · min-p {min_p} · seed {seed}"));
        note(&headline(self.engine));
    }

    fn save(&self, file: &str) -> anyhow::Result<()> {
        if file.is_empty() {
            return Err(anyhow!("/save: expected a file name, found none"));
        }
        let messages = conversation(self.system.as_deref(), &self.turns);
        write_whole(Path::new(file), markdown(&messages).as_bytes()).map_err(anyhow::Error::msg)?;
        note(&format!("{} messages saved to {file}", messages.len()));
        Ok(())
    }
}

/// A heading for every turn.
fn markdown(messages: &[Message]) -> String {
    messages.iter().map(|turn| format!("## {}\n\n{}\n\n", turn.role.as_str(), turn.content.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_or_words() {
        assert_eq!(parse("  Hello there \n"), Line::Say("Hello there"));
        assert_eq!(parse("/system Be kind. "), Line::System("Be kind."));
        assert_eq!(parse("/system"), Line::System(""));
        assert_eq!(parse("/save a b.md"), Line::Save("a b.md"));
        assert_eq!(parse("/exit"), Line::Exit);
        assert_eq!(parse("/nope x"), Line::Unknown("/nope"));
        assert_eq!(parse("/etc/passwd is a file"), Line::Say("/etc/passwd is a file"));
        assert_eq!(parse("/ 2"), Line::Say("/ 2"));
        assert_eq!(parse("\n"), Line::Nothing);
        assert_eq!(parse("one\ntwo\n"), Line::Say("one\ntwo"));
    }

    #[test]
    fn saved_chats_have_a_heading_a_turn() {
        let turns = [message(Role::User, "Hi".into()), message(Role::Assistant, "Hello\n".into())];
        assert_eq!(markdown(&turns), "## user\n\nHi\n\n## assistant\n\nHello\n\n");
    }
}
