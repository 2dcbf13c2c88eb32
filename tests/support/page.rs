//! A real page in a headless Chromium, driven by the DevTools protocol: evaluates, types, clicks, takes pictures.

use serde_json::{Value, json};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};
use tungstenite::{Message, WebSocket};

use super::chromium::Browser;

/// WebGPU by SwiftShader, drawn pictures included.
const FLAGS: &[&str] =
    &["--use-vulkan=swiftshader", "--enable-features=Vulkan", "--use-angle=swiftshader", "--remote-debugging-port=0", "--hide-scrollbars"];

/// A browser with one tab.
pub struct Page {
    browser: Browser,
    socket: WebSocket<TcpStream>,
    session: Value,
    calls: u64,
    /// What the page and its workers said on the console, errors that nothing caught included.
    pub console: Vec<String>,
}

impl Page {
    /// Starts a browser with the profile in a folder, which may hold an earlier visit.
    pub fn open(profile: &Path) -> Self {
        let browser = Browser::start_in(profile, FLAGS, "about:blank").unwrap();
        let file = profile.join("DevToolsActivePort");
        let begun = Instant::now();
        let text = loop {
            match std::fs::read_to_string(&file) {
                Ok(text) if text.lines().count() >= 2 => break text,
                _ => assert!(begun.elapsed() < Duration::from_secs(60), "the browser gives no DevTools port{}", browser.last_words()),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let mut lines = text.lines();
        let (port, path) = (lines.next().unwrap(), lines.next().unwrap());
        let stream = TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream).unwrap();
        let mut page = Self { browser, socket, session: Value::Null, calls: 0, console: vec![] };
        let target = page.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached = page.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        page.session = attached["sessionId"].clone();
        for domain in ["Page", "Runtime", "Network"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.resize(1180, 760, false);
        page
    }

    /// Ends the browser at once, as a crash would.
    pub fn kill(self) {
        drop(self);
    }

    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.try_call(method, params).unwrap_or_else(|error| panic!("{method}: {error}{}", self.browser.last_words()))
    }

    fn try_call(&mut self, method: &str, params: Value) -> Result<Value, String> {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.socket.send(Message::text(message.to_string())).map_err(|error| error.to_string())?;
        loop {
            let Message::Text(text) = self.socket.read().map_err(|error| error.to_string())? else { continue };
            let mut answer: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            if answer["id"] == self.calls {
                return match answer.get("error") {
                    Some(error) => Err(error.to_string()),
                    None => Ok(answer["result"].take()),
                };
            }
            self.event(answer);
        }
    }

    fn event(&mut self, event: Value) {
        match event["method"].as_str() {
            Some("Runtime.consoleAPICalled") => {
                let words = event["params"]["args"].as_array().into_iter().flatten();
                let words: Vec<String> =
                    words.map(|word| word["value"].as_str().unwrap_or(word["description"].as_str().unwrap_or("")).to_string()).collect();
                self.console.push(format!("{}: {}", event["params"]["type"].as_str().unwrap_or(""), words.join(" ")));
            }
            Some("Runtime.exceptionThrown") => {
                let details = &event["params"]["exceptionDetails"];
                self.console.push(format!("uncaught: {} {}", details["text"], details["exception"]["description"]));
            }
            _ => {}
        }
    }

    /// Opens an address and waits until it has loaded.
    pub fn visit(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
        self.wait("document.readyState == 'complete' && location.href != 'about:blank'", 60);
    }

    /// What an expression gives, promises awaited.
    pub fn eval(&mut self, expression: &str) -> Value {
        self.try_eval(expression).unwrap_or_else(|error| panic!("{expression}: {error}\n{}", self.console.join("\n")))
    }

    /// # Errors
    /// What the expression threw.
    pub fn try_eval(&mut self, expression: &str) -> Result<Value, String> {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true });
        let mut result = self.try_call("Runtime.evaluate", params)?;
        match result.get("exceptionDetails") {
            Some(details) => Err(details["exception"]["description"].as_str().unwrap_or(&details.to_string()).to_string()),
            None => Ok(result["result"]["value"].take()),
        }
    }

    /// Waits until an expression is true or something else that counts as such, and gives it.
    pub fn wait(&mut self, expression: &str, secs: u64) -> Value {
        let begun = Instant::now();
        loop {
            // A page on its way to another one has no answer.
            let value = self.try_eval(expression).unwrap_or_default();
            if !matches!(value, Value::Null | Value::Bool(false)) && value != 0 && value != "" {
                return value;
            }
            if begun.elapsed() > Duration::from_secs(secs) {
                let state = self.try_eval("JSON.stringify(globalThis.fathomState ?? document.body?.innerText)");
                panic!(
                    "after {secs} s still not: {expression}\nstate: {state:?}\nconsole:\n{}{}",
                    self.console.join("\n"),
                    self.browser.last_words()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Presses the keys of a text, one after another.
    pub fn type_text(&mut self, text: &str) {
        for character in text.chars() {
            let text = character.to_string();
            let code = if character.is_ascii_alphabetic() { format!("Key{}", character.to_ascii_uppercase()) } else { String::new() };
            for kind in ["keyDown", "keyUp"] {
                let mut params = json!({ "type": kind, "key": text, "code": code });
                if kind == "keyDown" {
                    params["text"] = text.clone().into();
                }
                self.call("Input.dispatchKeyEvent", params);
            }
        }
    }

    /// Presses a key by its name, such as `Enter` or `Escape`.
    pub fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code }));
        }
    }

    pub fn click(&mut self, x: f64, y: f64) {
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            self.call("Input.dispatchMouseEvent", json!({ "type": kind, "x": x, "y": y, "button": button, "clickCount": 1 }));
        }
    }

    /// The picture of the page as PNG.
    pub fn picture(&mut self) -> Vec<u8> {
        let data = self.call("Page.captureScreenshot", json!({ "format": "png" }))["data"].take();
        decode_base64(data.as_str().unwrap_or_default())
    }

    /// The size of the tab, and whether it is a phone's.
    pub fn resize(&mut self, width: u32, height: u32, mobile: bool) {
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", params);
    }
}

/// RFC 4648.
fn decode_base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let bytes: Vec<u8> = text.bytes().filter(|&byte| byte != b'=').collect();
    let mut out = vec![];
    for group in bytes.chunks(4) {
        let word = group.iter().fold(0, |word, &byte| word << 6 | value(byte)) << (6 * (4 - group.len()));
        out.extend_from_slice(&word.to_be_bytes()[1..group.len()]);
    }
    out
}
