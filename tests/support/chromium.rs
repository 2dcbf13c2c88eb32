//! Compiles WGSL in headless Chromium, whose compiler refuses what naga lets pass (barriers in non-uniform control flow, missing `enable`s).
//!
//! A page served on the loopback asks for a WebGPU device with the default (core) limits, compiles every program, builds the compute
//! pipelines of those that are to be built, and posts a verdict for each. What the verdicts mean for the project is `browser.rs`'s business.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// What the browser says of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// The compiler's messages, one a line.
    Refused(String),
    /// Not compiled: the browser's adapter lacks a feature that the program enables; names the feature.
    Skipped(String),
}

/// One verdict for each program, in the order given.
#[derive(Debug)]
pub struct Report {
    pub adapter: String,
    pub verdicts: Vec<(String, Verdict)>,
}

/// Longest wait for the next verdicts. SwiftShader takes 0.05 to 0.3 s for a pipeline, so no time for the whole is right.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Separate programs, and the records and fields of results; no WGSL and no compiler message holds them.
const RECORD: char = '\u{1e}';
const FIELD: char = '\u{1f}';

const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--enable-unsafe-webgpu",
    "--ignore-gpu-blocklist",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-quic",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    "--no-first-run",
    "--no-default-browser-check",
];

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>fathom</title><script type="module">
const RECORD = '\u001e', FIELD = '\u001f';
const post = (path, body) => fetch(path, { method: 'POST', body });
const features = { 'f16': 'shader-f16', 'subgroups': 'subgroups' };
try {
    if (!navigator.gpu) throw new Error('this browser has no WebGPU');
    const adapter = await navigator.gpu.requestAdapter();
    if (!adapter) throw new Error('WebGPU gave no adapter');
    const device = await adapter.requestDevice({
        requiredFeatures: Object.values(features).filter(name => adapter.features.has(name)),
    });
    device.lost.then(info => post('/failed', 'the device was lost: ' + info.message));

    const missing = code => {
        const bare = code.replace(/\/\/[^\n]*/g, '').replace(/\/\*[^]*?\*\//g, '');
        const enabled = [...bare.matchAll(/\benable\s+([^;]*);/g)].flatMap(found => found[1].split(',').map(name => name.trim()));
        return enabled.find(name => features[name] && !device.features.has(features[name]));
    };
    const verdict = async ([depth, code]) => {
        const lacking = missing(code);
        if (lacking) return ['skipped', lacking];
        device.pushErrorScope('validation');
        const module = device.createShaderModule({ code });
        const scope = device.popErrorScope();
        const messages = (await module.getCompilationInfo()).messages
            .filter(message => message.type != 'warning')
            .map(message => `${message.type} ${message.lineNum}:${message.linePos} ${message.message}`);
        const error = await scope;
        if (error) return ['refused', messages.join('\n') || error.message];
        if (depth == 'compile') return ['accepted', ''];
        try {
            await device.createComputePipelineAsync({ layout: 'auto', compute: { module } });
            return ['accepted', ''];
        } catch (error) {
            return ['refused', [...messages, error.message].join('\n')];
        }
    };

    const text = await (await fetch('/programs')).text();
    const programs = text.split(RECORD);
    const BATCH = 16;
    for (let first = 0; first < programs.length; first += BATCH) {
        const batch = programs.slice(first, first + BATCH).map(async (record, i) => [first + i, ...await verdict(record.split(FIELD))].join(FIELD));
        await post('/verdicts', (await Promise.all(batch)).join(RECORD));
    }
    const { vendor, architecture, device: model, description } = adapter.info;
    await post('/done', [vendor, architecture, model, description].filter(word => word).join(' '));
} catch (error) {
    await post('/failed', String(error));
}
</script>"#;

/// Compiles each `(label, wgsl)` in the browser, which includes its uniformity analysis; a program that `is_built` chooses, by its
/// index, must become a pipeline too, which takes up to 10 times as long. An error means that the browser could not be asked or did not answer for all of them.
pub fn compile_in_chromium(programs: &[(String, String)], is_built: impl Fn(usize) -> bool) -> Result<Report, String> {
    if programs.is_empty() {
        return Err("no programs given to the browser".into());
    }
    if let Some((label, _)) = programs.iter().find(|(_, wgsl)| wgsl.contains([RECORD, FIELD])) {
        return Err(format!("program `{label}`: its text holds a separator, U+001E or U+001F"));
    }
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("cannot listen on the loopback: {e}"))?;
    listener.set_nonblocking(true).map_err(|e| format!("cannot poll the listener: {e}"))?;
    let port = listener.local_addr().map_err(|e| format!("the listener has no address: {e}"))?.port();
    let depth = |i| if is_built(i) { "build" } else { "compile" };
    let text: Vec<_> = programs.iter().enumerate().map(|(i, (_, wgsl))| format!("{}{FIELD}{wgsl}", depth(i))).collect();
    let text: Arc<str> = text.join(&RECORD.to_string()).into();

    let mut browser = Browser::start(&format!("http://127.0.0.1:{port}/"))?;
    let mut verdicts: Vec<Option<Verdict>> = vec![None; programs.len()];
    let (sender, posts) = channel();
    let mut heard = Instant::now();
    loop {
        while let Ok((stream, _)) = listener.accept() {
            // A thread each: Chromium also opens connections on which it never asks for anything.
            let (text, sender) = (text.clone(), sender.clone());
            std::thread::spawn(move || answer(stream, &text, &sender));
        }
        match posts.recv_timeout(Duration::from_millis(10)) {
            Ok(Post::Verdicts(records)) => {
                heard = Instant::now();
                records.split(RECORD).try_for_each(|record| note(record, &mut verdicts))?;
            }
            Ok(Post::Failed(why)) => return Err(format!("the page failed: {why}{}", browser.last_words())),
            Ok(Post::Done(adapter)) => return report(adapter, programs, verdicts),
            Err(_) => {}
        }
        if let Some(status) = browser.ended() {
            return Err(format!("the browser ended before it answered ({status}){}", browser.last_words()));
        }
        if heard.elapsed() > TIMEOUT {
            let answered = verdicts.iter().flatten().count();
            let waiting = verdicts.iter().position(Option::is_none).map_or("", |i| programs[i].0.as_str());
            let seconds = TIMEOUT.as_secs();
            return Err(format!(
                "the browser gave {answered} of {} verdicts, then nothing for {seconds} s; the first that is missing: `{waiting}`{}",
                programs.len(),
                browser.last_words()
            ));
        }
    }
}

/// The browser to ask: `CHROMIUM` when set, else the first found on the `PATH` or in its usual place.
fn find_chromium() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("CHROMIUM").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome.exe"];
    let usual = ["/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = names.iter().flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)));
    on_path
        .chain(usual.iter().map(PathBuf::from))
        .find(|file| file.is_file())
        .ok_or_else(|| "no Chromium found: install `chromium`, or set CHROMIUM to the program".into())
}

/// Whether there is a browser to ask: none is a failure, unless the environment allows it.
pub fn has_chromium() -> bool {
    let found = find_chromium();
    if let Err(missing) = &found {
        assert!(std::env::var_os("ALLOW_NO_BROWSER").is_some_and(|value| value == "1"), "{missing}; ALLOW_NO_BROWSER=1 skips this test");
        eprintln!("skipped: {missing}");
    }
    found.is_ok()
}

fn note(record: &str, verdicts: &mut [Option<Verdict>]) -> Result<(), String> {
    let mut fields = record.splitn(3, FIELD);
    let (index, word, message) = (fields.next(), fields.next(), fields.next().unwrap_or_default());
    let slot = index.and_then(|index| index.parse().ok()).and_then(|index: usize| verdicts.get_mut(index));
    let verdict = match word {
        Some("accepted") => Some(Verdict::Accepted),
        Some("refused") => Some(Verdict::Refused(message.into())),
        Some("skipped") => Some(Verdict::Skipped(message.into())),
        _ => None,
    };
    match (slot, verdict) {
        (Some(slot @ None), Some(verdict)) => *slot = Some(verdict),
        _ => return Err(format!("the page sent a verdict that answers no program: {record:?}")),
    }
    Ok(())
}

fn report(adapter: String, programs: &[(String, String)], verdicts: Vec<Option<Verdict>>) -> Result<Report, String> {
    let answered = programs.iter().zip(verdicts).map(|((label, _), verdict)| {
        let verdict = verdict.ok_or_else(|| format!("the page ended without a verdict for `{label}`"))?;
        Ok((label.clone(), verdict))
    });
    Ok(Report { adapter, verdicts: answered.collect::<Result<_, String>>()? })
}

enum Post {
    Verdicts(String),
    Done(String),
    Failed(String),
}

/// Answers one request and closes. A connection that breaks is dropped: the page then fails or the deadline tells.
fn answer(stream: TcpStream, programs: &str, posts: &Sender<Post>) {
    let _ = try_answer(stream, programs, posts);
}

fn try_answer(mut stream: TcpStream, programs: &str, posts: &Sender<Post>) -> std::io::Result<()> {
    // BSDs and Windows hand the listener's mode on.
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut request = Vec::new();
    let mut buffer = [0; 16384];
    let mut receive = |request: &mut Vec<u8>| {
        let count = stream.read(&mut buffer)?;
        request.extend_from_slice(&buffer[..count]);
        if count == 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { std::io::Result::Ok(()) }
    };
    let head_len = loop {
        match request.windows(4).position(|end| end == b"\r\n\r\n") {
            Some(at) => break at + 4,
            None => receive(&mut request)?,
        }
    };
    let head = String::from_utf8_lossy(&request[..head_len]).into_owned();
    let body_len: usize = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0);
    while request.len() - head_len < body_len {
        receive(&mut request)?;
    }
    let body = String::from_utf8_lossy(&request[head_len..]).into_owned();

    let mut words = head.split_whitespace();
    let (status, kind, text) = match (words.next(), words.next()) {
        (Some("GET"), Some("/")) => ("200 OK", "text/html", PAGE),
        (Some("GET"), Some("/programs")) => ("200 OK", "text/plain", programs),
        (Some("POST"), Some("/verdicts")) => {
            let _ = posts.send(Post::Verdicts(body));
            ("200 OK", "text/plain", "")
        }
        (Some("POST"), Some("/done")) => {
            let _ = posts.send(Post::Done(body));
            ("200 OK", "text/plain", "")
        }
        (Some("POST"), Some("/failed")) => {
            let _ = posts.send(Post::Failed(body));
            ("200 OK", "text/plain", "")
        }
        _ => ("404 Not Found", "text/plain", ""),
    };
    let length = text.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}; charset=utf-8\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
    )
}

/// A browser of our own, ended when dropped; a profile of its own making is then removed.
pub struct Browser {
    process: Child,
    profile: PathBuf,
    is_ours: bool,
}

impl Browser {
    fn start(address: &str) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Not under `target/`: the profile holds a socket, whose path may have about a hundred bytes.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let profile = std::env::temp_dir().join(format!("fathom-chromium-{}-{number}", std::process::id()));
        let started = Self::start_in(&profile, &["--use-webgpu-adapter=swiftshader"], address);
        if started.is_err() {
            let _ = std::fs::remove_dir_all(&profile);
        }
        let mut browser = started?;
        browser.is_ours = true;
        Ok(browser)
    }

    /// Starts with a profile that stays.
    pub fn start_in(profile: &Path, flags: &[&str], address: &str) -> Result<Self, String> {
        let program = find_chromium()?;
        // What an earlier run left of its port would be taken for this one's.
        let _ = std::fs::remove_file(profile.join("DevToolsActivePort"));
        let process = launch(&program, profile, flags, address).map_err(|e| format!("cannot start `{}`: {e}", program.display()))?;
        Ok(Self { process, profile: profile.to_path_buf(), is_ours: false })
    }

    fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// The end of what the browser wrote to stderr, to close an error with.
    pub fn last_words(&self) -> String {
        let log = std::fs::read(self.profile.join("stderr.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].iter().fold(String::new(), |mut text, line| {
            let _ = write!(text, "\n  browser: {line}");
            text
        })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helper processes end by themselves when the pipes to it close; until then they may still write to the profile.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if !self.is_ours {
            return;
        }
        for _ in 0..50 {
            if std::fs::remove_dir_all(&self.profile).is_ok() || !self.profile.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn launch(program: &Path, profile: &Path, flags: &[&str], address: &str) -> std::io::Result<Child> {
    std::fs::create_dir_all(profile)?;
    let log = std::fs::File::create(profile.join("stderr.log"))?;
    let mut data_dir = OsString::from("--user-data-dir=");
    data_dir.push(profile);
    let mut command = Command::new(program);
    command.args(FLAGS).args(flags).arg(data_dir).arg(address);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    if cfg!(target_os = "linux") {
        // A killed browser leaves its singleton socket's folder behind: let it lie in what we remove.
        command.env("TMPDIR", profile);
    }
    command.spawn()
}
