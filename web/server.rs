//! A small static server for the loopback: what `make web-serve` runs, and what tests let misbehave. Its own code, since no crate
//! for servers cuts a connection in the middle on purpose.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What goes wrong with a file, for as long as it is set.
#[derive(Clone, Default, Debug)]
pub struct Fault {
    /// Answers with this status so many times.
    pub status: Option<(u16, u64)>,
    /// Cuts every connection after so many bytes of the body.
    pub cut_after: Option<u64>,
    /// Flips a bit of the byte at this place of the file.
    pub flip: Option<u64>,
    /// Sends all of it, whatever range is asked for.
    pub no_ranges: bool,
    /// Another version's tag.
    pub etag: Option<String>,
    /// Waits before each answer.
    pub delay: Duration,
}

/// Folders by the path they are served under, and how it goes.
pub struct Server {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    folders: Vec<(String, PathBuf)>,
    faults: Mutex<HashMap<String, Fault>>,
    /// Bytes of bodies sent, by path.
    sent: Mutex<HashMap<String, u64>>,
    is_off: AtomicBool,
}

impl Server {
    /// Serves on a port of the loopback; 0 lets the system choose.
    ///
    /// # Errors
    /// A port that is taken.
    pub fn start(port: u16, folders: Vec<(String, PathBuf)>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { folders, faults: Mutex::default(), sent: Mutex::default(), is_off: AtomicBool::new(false) });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                // A connection that breaks is the client's affair.
                std::thread::spawn(move || drop(answer(&stream, &state)));
            }
        });
        Ok(Self { address, state })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://localhost:{}/{path}", self.address.port())
    }

    /// Lets something go wrong with a path such as `/models/x.gguf`; the default lets it go well again.
    pub fn set_fault(&self, path: &str, fault: Fault) {
        locked(&self.state.faults).insert(path.to_string(), fault);
    }

    /// Off: every connection is closed at once.
    pub fn set_off(&self, is_off: bool) {
        self.state.is_off.store(is_off, Ordering::SeqCst);
    }

    /// Bytes of a path's bodies that were sent so far.
    pub fn sent(&self, path: &str) -> u64 {
        locked(&self.state.sent).get(path).copied().unwrap_or_default()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(stream: &TcpStream, state: &State) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = BufReader::new(stream);
    // Several requests may come over one connection.
    while !state.is_off.load(Ordering::SeqCst) {
        let mut head = vec![];
        loop {
            let mut line = String::new();
            if (&mut reader).take(16 << 10).read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_string()),
            }
        }
        if state.is_off.load(Ordering::SeqCst) || !respond(stream, state, &head)? {
            break;
        }
    }
    Ok(())
}

/// Answers one request; whether the connection goes on.
fn respond(mut stream: &TcpStream, state: &State, head: &[String]) -> io::Result<bool> {
    let mut words = head.first().map(String::as_str).unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = decoded(target.split(['?', '#']).next().unwrap_or_default());
    let fault = {
        let mut faults = locked(&state.faults);
        let fault = faults.get(&path).cloned().unwrap_or_default();
        if let Some(Fault { status: Some((_, times)), .. }) = faults.get_mut(&path) {
            *times = times.saturating_sub(1);
        }
        fault
    };
    std::thread::sleep(fault.delay);
    let empty = |mut stream: &TcpStream, status: &str| {
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\naccess-control-allow-origin: *\r\n\r\n").map(|()| true)
    };
    if let Some((status, 1..)) = fault.status {
        return empty(stream, &format!("{status} On purpose"));
    }
    if method != "GET" && method != "HEAD" {
        return empty(stream, "405 Method Not Allowed");
    }
    let Some(file_path) = find(state, &path) else { return empty(stream, "404 Not Found") };
    let mut file = File::open(&file_path)?;
    let size = file.metadata()?.len();
    let range = head.iter().find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("range")));
    let range = range.filter(|_| !fault.no_ranges).and_then(|(_, range)| parse_range(range.trim(), size));
    let (status, begin, end) = match range {
        Some((begin, end)) if begin < size => ("206 Partial Content", begin, end),
        Some(_) => return empty(stream, "416 Range Not Satisfiable"),
        None => ("200 OK", 0, size),
    };
    let etag = fault.etag.clone().unwrap_or_else(|| format!("{size:x}"));
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {}\r\ncontent-length: {}\r\netag: \"{etag}\"\r\ncache-control: no-cache\r\naccess-control-allow-origin: *\r\naccess-control-expose-headers: etag, content-range\r\n",
        kind(&file_path),
        end - begin
    )?;
    if range.is_some() {
        write!(stream, "content-range: bytes {begin}-{}/{size}\r\n", end - 1)?;
    } else if !fault.no_ranges {
        write!(stream, "accept-ranges: bytes\r\n")?;
    }
    write!(stream, "\r\n")?;
    if method == "HEAD" {
        return Ok(true);
    }
    file.seek(SeekFrom::Start(begin))?;
    let mut buffer = vec![0; 64 << 10];
    let mut at = begin;
    while at < end {
        let left = fault.cut_after.map_or(u64::MAX, |most| most.saturating_sub(at - begin));
        if left == 0 || state.is_off.load(Ordering::SeqCst) {
            return Ok(false);
        }
        let count = (end - at).min(left).min(buffer.len() as u64) as usize;
        file.read_exact(&mut buffer[..count])?;
        if let Some(flip) = fault.flip.filter(|flip| (at..at + count as u64).contains(flip)) {
            buffer[(flip - at) as usize] ^= 1;
        }
        stream.write_all(&buffer[..count])?;
        at += count as u64;
        *locked(&state.sent).entry(path.clone()).or_default() += count as u64;
    }
    Ok(true)
}

/// The file that a path names, if it lies in a served folder.
fn find(state: &State, path: &str) -> Option<PathBuf> {
    let inside = |rest: &str| !rest.split('/').any(|part| part == ".." || part.contains(['\\', ':']));
    let (rest, folder) = state.folders.iter().find_map(|(prefix, folder)| Some((path.strip_prefix(prefix.as_str())?, folder)))?;
    let file = folder.join(if rest.is_empty() { "index.html" } else { rest });
    (inside(rest) && file.is_file()).then_some(file)
}

/// First byte and the one after the last; only what begins with a number, as downloads ask.
fn parse_range(range: &str, size: u64) -> Option<(u64, u64)> {
    let (begin, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let end = if end.is_empty() { size } else { end.parse::<u64>().ok()?.checked_add(1)?.min(size) };
    Some((begin.parse().ok()?, end))
}

fn decoded(path: &str) -> String {
    let mut bytes = vec![];
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code =
            (byte == b'%').then(|| after.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok())).flatten();
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn kind(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}
