//! Model files in the browser, from a server that misbehaves on purpose: killed downloads resume, flipped bytes are found, full and
//! denied storage are told.
//!
//! Needs the built page (`make web`) and `chromium`; without the latter this fails, unless `ALLOW_NO_BROWSER=1`.

#[allow(dead_code)]
#[path = "support/chromium.rs"]
mod chromium;
#[path = "support/page.rs"]
#[allow(dead_code)]
mod page;
#[allow(dead_code)]
#[path = "../web/server.rs"]
mod server;
#[path = "support/tab.rs"]
mod tab;

use page::Page;
use serde_json::{Value, json};
use server::{Fault, Server};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// Five pieces of 4 MiB and a bit.
const BYTES: usize = (20 << 20) + 12_345;
const BIG: &str = "/files/big.gguf";

struct Stage {
    server: Server,
    folder: TempDir,
    profile: TempDir,
    sha256: String,
}

impl Stage {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        // No two of its pieces are alike.
        let mut bytes: Vec<u8> = (0..BYTES as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
        bytes[..4].copy_from_slice(b"GGUF");
        std::fs::write(folder.path().join("big.gguf"), &bytes).unwrap();
        let sha256 = hex(&bytes);
        let server = tab::serve(&[("/files/", folder.path())])?;
        Some(Self { server, folder, profile: tempfile::tempdir().unwrap(), sha256 })
    }

    fn page(&self) -> Page {
        self.page_with("")
    }

    fn page_with(&self, query: &str) -> Page {
        let mut page = Page::open(self.profile.path());
        page.visit(&self.server.url(&format!("test/files.html{query}")));
        page.wait("globalThis.ready || globalThis.broken", 60);
        page
    }

    fn big(&self) -> String {
        self.server.url(&BIG[1..])
    }

    /// What `open` says of the big file when all is well.
    fn whole(&self, path: &str) -> Value {
        json!({ "value": { "path": path, "name": "big.gguf", "files": [{ "name": "big.gguf", "bytes": BYTES, "sha256": self.sha256 }] } })
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn call(page: &mut Page, method: &str, args: &[Value]) -> Value {
    let args: Vec<String> = [json!(method)].iter().chain(args).map(Value::to_string).collect();
    page.eval(&format!("call({})", args.join(", ")))
}

#[track_caller]
fn refused(outcome: &Value, code: &str, words: &[&str]) {
    assert_eq!(outcome["error"]["code"], code, "{outcome}");
    let message = outcome["error"]["message"].as_str().unwrap();
    assert!(words.iter().all(|word| message.contains(word)) && !message.contains('\n'), "{message}");
}

#[test]
fn a_killed_download_resumes_and_is_there_without_network() {
    let Some(stage) = Stage::new() else { return };
    let url = stage.big();
    stage.server.set_fault(BIG, Fault { delay: Duration::from_millis(300), ..Fault::default() });
    let mut page = stage.page();
    page.eval(&format!("start('open', {})", json!(url)));
    page.wait("progress.some(({ done }) => done >= 8 << 20)", 60);
    page.kill();

    stage.server.set_fault(BIG, Fault::default());
    let before = stage.server.sent(BIG);
    let mut page = stage.page();
    assert_eq!(call(&mut page, "open", &[json!(url)]), stage.whole(&url));
    let again = stage.server.sent(BIG) - before;
    assert!(again <= BYTES as u64 - (8 << 20), "{again} bytes came again of {BYTES}, of which 8 MiB were there");
    page.kill();

    let mut page = stage.page();
    stage.server.set_off(true);
    assert_eq!(call(&mut page, "open", &[json!(url)]), stage.whole(&url));
    let listed = call(&mut page, "list", &[]);
    assert_eq!(listed["value"][0]["path"], json!(url), "{listed}");
    assert_eq!(call(&mut page, "remove", &[json!(url)]), json!({ "value": null }));
    refused(&call(&mut page, "open", &[json!(url)]), "offline", &[&url, "no connection"]);
}

#[test]
fn damaged_changed_and_cut_files_are_found() {
    let Some(stage) = Stage::new() else { return };
    let url = stage.big();
    let checked = format!("{url}#sha256={}", stage.sha256);
    let mut page = stage.page();

    stage.server.set_fault(BIG, Fault { flip: Some(9_000_000), ..Fault::default() });
    refused(&call(&mut page, "open", &[json!(checked)]), "checksum", &["expected sha256", &stage.sha256, "nothing of it was kept"]);
    assert_eq!(call(&mut page, "list", &[])["value"], json!([]));
    stage.server.set_fault(BIG, Fault::default());
    assert_eq!(call(&mut page, "open", &[json!(checked)]), stage.whole(&checked));
    call(&mut page, "remove", &[json!(checked)]);

    // Cut again and again, but a piece gets through; then a server that is busy twice.
    stage.server.set_fault(BIG, Fault { status: Some((503, 2)), ..Fault::default() });
    assert_eq!(call(&mut page, "open", &[json!(url)]), stage.whole(&url));
    call(&mut page, "remove", &[json!(url)]);
    stage.server.set_fault(BIG, Fault { cut_after: Some(1 << 20), ..Fault::default() });
    refused(&call(&mut page, "open", &[json!(url)]), "offline", &["no connection", "try again"]);
    stage.server.set_fault(BIG, Fault::default());
    assert_eq!(call(&mut page, "open", &[json!(url)]), stage.whole(&url));
    call(&mut page, "remove", &[json!(url)]);

    // A server without ranges, and one whose file is another one in the middle.
    stage.server.set_fault(BIG, Fault { no_ranges: true, ..Fault::default() });
    assert_eq!(call(&mut page, "open", &[json!(url)]), stage.whole(&url));
    call(&mut page, "remove", &[json!(url)]);
    stage.server.set_fault(BIG, Fault { delay: Duration::from_millis(200), ..Fault::default() });
    page.eval(&format!("progress.length = 0; start('open', {})", json!(url)));
    page.wait("progress.length >= 1", 60);
    stage.server.set_fault(BIG, Fault { etag: Some("another".into()), ..Fault::default() });
    assert_eq!(page.wait("outcome", 60), stage.whole(&url));
    call(&mut page, "remove", &[json!(url)]);

    // A page about the model in place of the model: nothing of it is kept, and no more than its beginning fetched.
    std::fs::write(stage.folder.path().join("page.gguf"), format!("<!doctype html>{}", " ".repeat(BYTES))).unwrap();
    let about = stage.server.url("files/page.gguf");
    refused(&call(&mut page, "open", &[json!(about)]), "not-a-model", &[&about, "expected a GGUF file", "<!do"]);
    assert!(stage.server.sent("/files/page.gguf") <= 4 << 20);
    assert_eq!(page.eval("kept()"), json!([]), "nothing is left behind");

    let absent = stage.server.url("files/absent.gguf");
    refused(&call(&mut page, "open", &[json!(absent)]), "http", &[&absent, "404"]);
    refused(&call(&mut page, "open", &[json!("picked/gone.gguf")]), "not-a-model", &["add the file again"]);
    refused(&call(&mut page, "open", &[json!(format!("{url}#sha256=12"))]), "checksum", &["64 hexadecimal digits", "12"]);

    stage.server.set_fault(BIG, Fault { delay: Duration::from_millis(300), ..Fault::default() });
    page.eval(&format!("start('open', {})", json!(url)));
    page.wait("progress.length >= 1", 60);
    page.eval("abort()");
    refused(&page.wait("outcome", 60), "cancelled", &[]);
}

#[test]
fn full_and_denied_storage_are_told() {
    let Some(stage) = Stage::new() else { return };
    let url = stage.big();
    let mut page = stage.page();
    let origin = format!("http://localhost:{}", stage.server.address.port());
    page.call("Storage.overrideQuotaForOrigin", json!({ "origin": origin, "quotaSize": 10 << 20 }));
    refused(&call(&mut page, "open", &[json!(url)]), "quota", &["room for 20 MiB", "found it full", "delete a model", "is kept"]);
    page.call("Storage.overrideQuotaForOrigin", json!({ "origin": origin }));
    assert_eq!(call(&mut page, "open", &[json!(url)]), stage.whole(&url));
    let space = call(&mut page, "space", &[]);
    assert!(space["value"]["usage_bytes"].as_u64().unwrap() >= BYTES as u64 && space["value"]["denied"].is_null(), "{space}");
    page.kill();

    let mut page = stage.page_with("?denied");
    let before = stage.server.sent(BIG);
    assert_eq!(call(&mut page, "open", &[json!(url)]), stage.whole(&url), "in memory");
    assert_eq!(call(&mut page, "open", &[json!(url)]), stage.whole(&url), "and not fetched again");
    assert_eq!(stage.server.sent(BIG) - before, BYTES as u64);
    let space = call(&mut page, "space", &[]);
    assert!(space["value"]["denied"].as_str().unwrap().contains("private window"), "{space}");
}

#[test]
fn folders_and_files_of_the_user_s_are_kept() {
    let Some(stage) = Stage::new() else { return };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v2lite");
    let folder = stage.folder.path().join("tiny");
    std::fs::create_dir(&folder).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden.join(name), folder.join(name)).unwrap();
    }
    let mut page = stage.page();
    let url = stage.server.url("files/tiny/");
    let outcome = call(&mut page, "open", &[json!(url)]);
    let names: Vec<&str> = outcome["value"]["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["config.json", "model.safetensors"], "{outcome}");
    let expected = hex(&std::fs::read(golden.join("model.safetensors")).unwrap());
    assert_eq!(outcome["value"]["files"][1]["sha256"], expected);
    let index = stage.folder.path().join("tiny/model.safetensors.index.json");
    std::fs::write(&index, r#"{"weight_map": {"a": "../../secret"}}"#).unwrap();
    refused(&call(&mut page, "open", &[json!(format!("{url}#again"))]), "not-a-model", &["secret"]);
    refused(&call(&mut page, "open", &[json!(stage.server.url("files/"))]), "not-a-model", &["config.json"]);

    let added = page.eval("call('add', 'picked/mine.gguf', [new File(['GGUF', new Uint8Array(5 << 20)], 'mine.gguf')])");
    assert_eq!(added["value"]["files"][0]["bytes"], 4 + (5 << 20), "{added}");
    page.kill();
    let mut page = stage.page();
    let listed = call(&mut page, "list", &[]);
    assert_eq!(listed["value"].as_array().map(Vec::len), Some(2), "{listed}");
    assert_eq!(call(&mut page, "open", &[json!("picked/mine.gguf")]), added);
}
