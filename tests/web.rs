//! The built page in a real browser, on software WebGPU: a chat with real keys, offline after the first visit, and the same ids as
//! natively.
//!
//! Needs the built page (`make web`) and `chromium`; without the latter this fails, unless `ALLOW_NO_BROWSER=1`.

#[allow(dead_code)]
#[path = "support/chromium.rs"]
mod chromium;
#[allow(dead_code)]
#[path = "support/page.rs"]
mod page;
#[allow(dead_code)]
#[path = "../web/server.rs"]
mod server;
#[path = "support/tab.rs"]
mod tab;

use fathom::engine::{Cancel, Engine, Input, OpenOptions, Request};
use fathom::kernels::CacheFormat;
use page::Page;
use pollster::block_on;
use serde_json::{Value, json};
use server::Server;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Pictures go where `FATHOM_WEB_PICTURES` says, to be looked at.
fn picture(page: &mut Page, name: &str) {
    let png = page.picture();
    assert!(png.starts_with(b"\x89PNG"), "{name}: a picture");
    if let Some(folder) = std::env::var_os("FATHOM_WEB_PICTURES") {
        std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), png).unwrap();
    }
}

/// The answer that is being written or was written last.
const ANSWER: &str = "fathomState.last.find(({ role }) => role == 'assistant')";

/// Types a question and sends it.
fn ask(page: &mut Page, question: &str) {
    page.type_text(question);
    page.wait(&format!("fathomState.draft == {}", json!(question)), 30);
    page.press("Enter", 13);
}

#[test]
fn a_chat_in_a_tab_goes_on_without_network() {
    let Some(server) = tab::serve(&[]) else { return };
    let profile = tempfile::tempdir().unwrap();
    let mut page = Page::open(profile.path());
    page.visit(&server.url("?prompt=not%20sent"));
    page.wait("document.getElementById('start').textContent == 'Start (94 MiB)'", 30);
    let gate = page.eval("document.getElementById('facts').innerText");
    assert!(["Graphics", "Model", "Storage"].iter().all(|word| gate.as_str().unwrap().contains(word)), "{gate}");
    picture(&mut page, "gate");
    page.eval("document.getElementById('start').click()");
    page.wait("globalThis.fathomState?.draft == 'not sent'", 60);
    let first_frame = page.eval("performance.getEntriesByName('fathom-shown')[0].startTime");
    page.wait("fathomState.model || fathomState.notices.length", 180);
    assert_eq!(page.eval("fathomState.notices"), json!([]));
    println!("first frame after {} ms, model: {}", first_frame, page.eval("fathomState.device"));

    for _ in 0..8 {
        page.press("Backspace", 8);
    }
    ask(&mut page, "What is the capital of France?");
    page.wait(&format!("fathomState.phase == 'writing' && {ANSWER}.text"), 180);
    page.wait("!fathomState.phase", 180);
    let answer = page.eval(ANSWER);
    assert!(answer["text"].as_str().unwrap().contains("Paris") && answer["state"] == "Finished", "{answer}");
    picture(&mut page, "answer");

    // Stopped while it is written, by a key.
    ask(&mut page, "Tell me a long story about the sea");
    page.wait(&format!("fathomState.phase == 'writing' && {ANSWER}.text.length > 8"), 180);
    page.press("Escape", 27);
    page.wait(&format!("!fathomState.phase && {ANSWER}.state == 'Stopped'"), 60);
    let messages = page.eval("fathomState.messages");
    page.kill();

    // The same browser without network: page, model and chat are there.
    server.set_off(true);
    let mut page = Page::open(profile.path());
    page.visit(&server.url(""));
    page.wait("globalThis.fathomState?.model", 180);
    page.wait("fathomState.chats == 1", 10);
    page.resize(360, 640, true);
    picture(&mut page, "phone");
    page.resize(1180, 760, false);
    // The chat of the last time is the first of the list.
    page.click(100.0, 132.0);
    page.wait(&format!("fathomState.messages == {messages}"), 30);
    page.click(700.0, 661.0);
    ask(&mut page, "What is the capital of Italy?");
    page.wait(
        &format!("fathomState.messages == 6 && !fathomState.phase && {ANSWER}?.state == 'Finished' && {ANSWER}.text.includes('Rome')"),
        240,
    );
    assert_eq!((messages, page.eval("fathomState.messages")), (json!(4), json!(6)));
    picture(&mut page, "offline");

    // A driver that breaks takes the window with it: it comes again, with the chat and a word about it.
    page.call("Browser.crashGpuProcess", json!({}));
    page.wait("globalThis.fathomState?.notices.some(notice => notice.startsWith('Rebuilt')) && fathomState.messages == 6", 60);
    picture(&mut page, "rebuilt");
}

/// Greedy ids of the native engine.
fn native(model: Option<PathBuf>, prompts: &[Vec<u32>], count: usize) -> Vec<Vec<u32>> {
    let options = OpenOptions { model, cache: CacheFormat::default(), context: Some(256), ..OpenOptions::default() };
    let mut engine = block_on(Engine::open(options, &mut |_| ())).unwrap();
    let mut answer = |ids: &Vec<u32>| {
        let request = Request { max_tokens: Some(count), ignore_eos: true, ..Request::new(Input::Ids(ids.clone())) };
        block_on(engine.run(request, &Cancel::default(), &mut |_| ())).unwrap().ids
    };
    prompts.iter().map(&mut answer).collect()
}

/// Greedy ids of the page's engine, by the developers' module; models are opened one after another on one device.
fn in_tab(page: &mut Page, model: &Value, prompts: &[Vec<u32>], count: usize) -> Vec<Vec<u32>> {
    let script = format!(
        "globalThis.outcome = null; (async () => {{
            const {{ Fathom }} = await import('/fathom.js');
            const options = {{ model: {model}, context: 256 }};
            globalThis.fathom ? await fathom.open(options) : globalThis.fathom = await Fathom.load(options);
            const all = [];
            for (const ids of {prompts}) {{
                for await (const {{ done }} of fathom.generate(ids, {{ maxTokens: {count}, ignoreEos: true, sampling: {{ temperature: 0 }} }})) if (done) all.push(done.ids);
            }}
            return all;
        }})().then(ids => (globalThis.outcome = {{ ids }}), error => (globalThis.outcome = {{ error: String(error) }})), true",
        prompts = json!(prompts)
    );
    page.eval(&script);
    let outcome = page.wait("outcome", 600);
    serde_json::from_value(outcome["ids"].clone()).unwrap_or_else(|_| panic!("{model}: {outcome}"))
}

/// A page of the same origin, and the server, with the golden checkpoints at `/golden/`.
fn beside_the_engine() -> Option<(Server, Page, tempfile::TempDir)> {
    let server = tab::serve(&[("/golden/", &golden())])?;
    let profile = tempfile::tempdir().unwrap();
    let mut page = Page::open(profile.path());
    page.visit(&server.url("test/files.html"));
    Some((server, page, profile))
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

#[test]
fn ids_are_the_native_engine_s() {
    let Some((server, mut page, _profile)) = beside_the_engine() else { return };
    for name in ["v2", "v2lite", "v3", "v3-fp8", "moonlight"] {
        let prompts = [(1..8).map(|i| i * 5 % 50).collect()];
        let tab = in_tab(&mut page, &json!(server.url(&format!("golden/{name}/"))), &prompts, 8);
        assert_eq!(tab, native(Some(golden().join(name)), &prompts, 8), "{name}");
        println!("{name}: {tab:?}");
    }
    a_lost_device_is_rebuilt(&mut page);
    compare_default_model(&mut page, &[(0, 22..34)]);
    // What cannot be opened leaves the model before.
    let gone = json!(server.url("golden/none.gguf"));
    page.eval(&format!(
        "fathom.open({{ model: {gone} }}).catch(error => (globalThis.refused = {{ why: error.message, model: fathom.model.name }})), true"
    ));
    let refused = page.wait("globalThis.refused", 60);
    assert!(refused["why"].as_str().unwrap().contains("none.gguf") && refused["model"].is_string(), "{refused}");
    assert_eq!(page.eval("fathom.unload(), fathom.model"), Value::Null);
}

/// The driver breaks while the last checkpoint answers: the ids are as if it had not.
fn a_lost_device_is_rebuilt(page: &mut Page) {
    page.eval(
        "globalThis.outcome = null; (async () => {
            const options = { maxTokens: 240, ignoreEos: true, sampling: { temperature: 0 } };
            for await (const { done, prefill } of fathom.generate([5, 10, 15, 20], options)) {
                if (prefill) globalThis.fed = prefill.done == prefill.total;
                if (done) return done.ids;
            }
        })().then(ids => (globalThis.outcome = { ids }), error => (globalThis.outcome = { error: String(error) })), true",
    );
    page.wait("globalThis.fed", 60);
    page.call("Browser.crashGpuProcess", json!({}));
    let outcome = page.wait("outcome", 120);
    assert_eq!(outcome["ids"], json!(native(Some(golden().join("moonlight")), &[vec![5, 10, 15, 20]], 240)[0]));
}

#[test]
#[ignore = "minutes on a software adapter"]
fn ids_of_more_prompts_are_the_native_engine_s() {
    let Some((_server, mut page, _profile)) = beside_the_engine() else { return };
    compare_default_model(&mut page, &[(1, 22..32), (0, 0..12)]);
}

/// Compares 24 ids after each of these cuts of the golden prompts.
fn compare_default_model(page: &mut Page, cuts: &[(usize, Range<usize>)]) {
    let golden: Value = serde_json::from_slice(&std::fs::read(golden().join("default_model.json")).unwrap()).unwrap();
    let ids = |text: usize| serde_json::from_value::<Vec<u32>>(golden[text]["input_ids"].clone()).unwrap();
    let prompts: Vec<Vec<u32>> = cuts.iter().map(|(text, cut)| ids(*text)[cut.clone()].to_vec()).collect();
    assert_eq!(in_tab(page, &Value::Null, &prompts, 24), native(None, &prompts, 24));
}
