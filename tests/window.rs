//! The real window under Xvfb, driven by key and pointer events as a person's: a question to the embedded default is typed and
//! answered, stopped, answered anew, branched, and all of it outlives kill -9. What happened is read from the store, as a second
//! window would.
//!
//! Needs `Xvfb` and `xdotool` (`make test` installs them where it can); without them this fails, unless `ALLOW_NO_WINDOW=1`.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fathom::app::store::{FILE, SqliteStore, Store};
use fathom::app::{Chat, ChatId, Message, MessageState};
use fathom::text::Role;

/// Longer than anything here takes on two slow cores.
const PATIENCE: Duration = Duration::from_secs(150);
/// What a busy machine may take to show what a key did.
const SETTLE: Duration = Duration::from_secs(2);

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// A display of its own.
struct Display {
    server: Child,
    name: String,
}

impl Display {
    fn new() -> Self {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1280x900x24", "-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut number = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut number).unwrap();
        assert!(!number.trim().is_empty(), "Xvfb names no display");
        Self { server, name: format!(":{}", number.trim()) }
    }

    fn xdotool(&self, arguments: &[&str]) -> String {
        let output = Command::new("xdotool").args(arguments).env("DISPLAY", &self.name).output().unwrap();
        assert!(output.status.success(), "xdotool {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn keys(&self, keys: &[&str]) {
        self.xdotool(&[&["key", "--delay", "60"], keys].concat());
    }

    fn say(&self, text: &str) {
        self.xdotool(&["type", "--delay", "15", text]);
        self.keys(&["Return"]);
    }

    fn click(&self, x: i32, y: i32) {
        self.xdotool(&["mousemove", &x.to_string(), &y.to_string(), "sleep", "0.2", "click", "1"]);
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The program, with nothing of this machine's user in it.
struct Window<'a> {
    program: Child,
    display: &'a Display,
}

impl<'a> Window<'a> {
    fn open(display: &'a Display, data: &Path) -> Self {
        let begun = Instant::now();
        let program = Command::new(env!("CARGO_BIN_EXE_fathom"))
            .args(["app", "--data"])
            .arg(data)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("DISPLAY", &display.name)
            .env("HOME", data)
            .env("XDG_RUNTIME_DIR", data)
            .env_remove("WAYLAND_DISPLAY")
            .spawn()
            .unwrap();
        let mut window = Self { program, display };
        let id = wait("a window", || {
            assert_eq!(window.program.try_wait().unwrap(), None, "the program ended");
            let found =
                Command::new("xdotool").args(["search", "--onlyvisible", "--name", "^Fathom$"]).env("DISPLAY", &display.name).output();
            String::from_utf8(found.unwrap().stdout).unwrap().lines().next().map(str::to_string)
        });
        eprintln!("window after {:.2} s", begun.elapsed().as_secs_f64());
        display.xdotool(&["windowmove", &id, "0", "0", "windowfocus", "--sync", &id]);
        // A frame or two, so that the text field has the keyboard.
        std::thread::sleep(Duration::from_secs(2));
        window
    }

    /// kill -9
    fn kill(mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
    }

    fn is_running(&mut self) -> bool {
        self.program.try_wait().unwrap().is_none()
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            picture(self.display);
        }
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// What is on the display, for whoever looks into a failure; needs ImageMagick.
fn picture(display: &Display) {
    let path = std::env::temp_dir().join("fathom-window.png");
    let taken = Command::new("import").args(["-window", "root"]).arg(&path).env("DISPLAY", &display.name).status();
    if taken.is_ok_and(|status| status.success()) {
        eprintln!("the display is in {}", path.display());
    }
}

fn wait<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(found) = found() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} did not come within {} s", PATIENCE.as_secs());
}

/// The chats as a second window sees them.
struct Watcher(SqliteStore);

impl Watcher {
    fn new(data: &Path) -> Self {
        let path: PathBuf = data.join(FILE);
        Self(wait("the store", || path.exists().then(|| SqliteStore::open(&path).ok()?.0.into()).flatten()))
    }

    fn chat(&mut self, id: ChatId) -> Chat {
        self.0.chat(id).unwrap().expect("the chat")
    }

    /// The chat that begins with this question.
    fn chat_of(&mut self, question: &str) -> ChatId {
        wait("the chat", || {
            let ids: Vec<ChatId> = self.0.chats().ok()?.iter().map(|chat| chat.id).collect();
            ids.into_iter().find(|&id| self.chat(id).messages().first().is_some_and(|first| first.content == question))
        })
    }

    /// Until the last message shown is as wanted.
    fn leaf(&mut self, chat: ChatId, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        wait(what, || self.chat(chat).leaf().filter(|leaf| leaf.role == Role::Assistant && wanted(leaf)).cloned())
    }
}

fn is_over(message: &Message) -> bool {
    !message.is_streaming()
}

#[test]
fn a_person_chats_stops_branches_and_loses_nothing() {
    if let Some(missing) = ["Xvfb", "xdotool"].into_iter().find(|program| !is_installed(program)) {
        let allowed = std::env::var_os("ALLOW_NO_WINDOW").is_some_and(|value| value == "1");
        assert!(allowed, "{missing} is missing; ALLOW_NO_WINDOW=1 skips this test");
        return eprintln!("skipped: {missing} is missing");
    }
    let data = tempfile::tempdir().unwrap();
    let display = Display::new();
    let window = Window::open(&display, data.path());
    let mut watcher = Watcher::new(data.path());

    // A question is answered.
    let question = "What is the capital of France?";
    display.say(question);
    let chat = watcher.chat_of(question);
    let first = watcher.leaf(chat, "the first answer", is_over);
    assert_eq!(first.state, MessageState::Finished);
    assert!(first.content.contains("Paris") && first.stats.is_some_and(|stats| stats.new_tokens > 5), "{first:?}");

    // A long one is stopped and keeps what was written.
    display.say("Write a very long story about the sea.");
    let begun = watcher.leaf(chat, "text as it is written", |leaf| leaf.id != first.id && leaf.content.len() > 20);
    let pressed = Instant::now();
    display.keys(&["Escape"]);
    let stopped = watcher.leaf(chat, "the stop", is_over);
    eprintln!("stopped and stored {:.0} ms after the key", pressed.elapsed().as_secs_f64() * 1e3);
    assert_eq!(stopped.state, MessageState::Stopped);
    assert!(stopped.content.starts_with(&begun.content), "{:?} after {:?}", stopped.content, begun.content);

    // Another try is a sibling.
    display.keys(&["ctrl+r"]);
    let retried = watcher.leaf(chat, "another try", |leaf| leaf.id != stopped.id && leaf.content.len() > 20);
    assert_eq!(watcher.chat(chat).siblings(retried.id).1.len(), 2);
    display.keys(&["Escape"]);
    watcher.leaf(chat, "the second stop", is_over);

    // The question is put differently: another branch.
    display.keys(&["ctrl+e"]);
    std::thread::sleep(SETTLE);
    display.keys(&["ctrl+a"]);
    display.say("Say hello.");
    let branched = wait("the branch", || {
        let chat = watcher.chat(chat);
        let asked = chat.path_message(2).filter(|asked| asked.content == "Say hello.")?;
        assert_eq!(chat.siblings(asked.id).1.len(), 2);
        chat.leaf().filter(|leaf| leaf.role == Role::Assistant && is_over(leaf)).cloned()
    });
    assert_eq!(branched.state, MessageState::Finished);

    // A chat beside it, and back with the pointer.
    display.keys(&["ctrl+n"]);
    std::thread::sleep(SETTLE);
    let other_question = "Name a colour.";
    display.say(other_question);
    let other = watcher.chat_of(other_question);
    watcher.leaf(other, "the other answer", is_over);
    let in_front =
        |watcher: &mut Watcher| watcher.0.setting("settings").unwrap().unwrap_or_default().contains(&format!("\"last_chat\":{}", chat.0));
    assert!(!in_front(&mut watcher));
    for y in (110..500).step_by(30) {
        display.click(120, y);
        std::thread::sleep(Duration::from_millis(400));
        if in_front(&mut watcher) {
            break;
        }
    }
    assert!(in_front(&mut watcher), "a click on its line brings a chat to the front");

    // kill -9 within an answer: what was stored is there, and the chat goes on.
    display.xdotool(&["mousemove", "760", "840"]);
    display.keys(&["ctrl+comma", "Escape"]);
    display.click(760, 800);
    let before = watcher.chat(chat);
    display.say("Write a very long poem about winter.");
    let begun = watcher.leaf(chat, "a poem", |leaf| leaf.is_streaming() && leaf.content.len() > 20);
    window.kill();
    drop(watcher);
    let mut window = Window::open(&display, data.path());
    let mut watcher = Watcher::new(data.path());
    let after = watcher.chat(chat);
    for message in before.messages() {
        let kept = after.message(message.id).unwrap_or_else(|| panic!("{message:?} is lost"));
        assert_eq!((&kept.content, &kept.state), (&message.content, &message.state));
    }
    assert!(after.message(begun.id).unwrap().content.starts_with(&begun.content));
    display.say("Say goodbye.");
    watcher.leaf(chat, "words after the restart", |leaf| leaf.id != begun.id && leaf.content.len() > 20);
    display.keys(&["Escape"]);
    watcher.leaf(chat, "the last stop", is_over);
    assert_eq!(watcher.chat(chat).path().rev().nth(2).unwrap().id, begun.id, "it goes on below what was cut off");
    assert!(window.is_running());
}
