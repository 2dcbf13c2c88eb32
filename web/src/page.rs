//! What only the page's own script can do: `web/page/page.js`.

use js_sys::{Array, Function, Promise};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// The object that `page.js` makes.
    pub type Page;

    /// A new worker for the engine.
    #[wasm_bindgen(method)]
    pub fn spawn(this: &Page) -> web_sys::Worker;

    /// Lets the user choose files; gives the names they go by.
    #[wasm_bindgen(method)]
    pub fn pick(this: &Page, accept: &str, multiple: bool) -> Promise;

    /// The names of files dropped on the page go to `take`.
    #[wasm_bindgen(method, setter, js_name = onDrop)]
    pub fn on_drop(this: &Page, take: &Function);

    /// The chosen or dropped files of a name; none if there are none.
    #[wasm_bindgen(method)]
    pub fn files(this: &Page, name: &str) -> Option<Array>;

    /// A file's bytes, if they are no more than `most`.
    #[wasm_bindgen(method)]
    pub fn read(this: &Page, name: &str, most: f64) -> Promise;

    /// Saves bytes as the browser saves downloads.
    #[wasm_bindgen(method)]
    pub fn save(this: &Page, name: &str, bytes: &[u8]);

    /// Asks the browser to keep what is stored.
    #[wasm_bindgen(method)]
    pub fn persist(this: &Page) -> Promise;

    /// The window is there.
    #[wasm_bindgen(method)]
    pub fn shown(this: &Page);

    /// What a test or a screen reader may know, as JSON.
    #[wasm_bindgen(method)]
    pub fn state(this: &Page, json: &str);

    /// The chats as they were stored: pairs of key and row, both texts.
    #[wasm_bindgen(method)]
    pub fn chats(this: &Page) -> Array;

    /// Why chats cannot be stored, if so.
    #[wasm_bindgen(method, getter, js_name = chatsDenied)]
    pub fn chats_denied(this: &Page) -> Option<String>;

    /// Writes changes, all or none: `[{key, row}]`, where a row of null deletes.
    #[wasm_bindgen(method, js_name = keepChats)]
    pub fn keep_chats(this: &Page, json: &str);

    /// What another tab wrote goes to `take`; the reason why something could not be written to `failed`.
    #[wasm_bindgen(method, js_name = watchChats)]
    pub fn watch_chats(this: &Page, take: &Function, failed: &Function);
}

#[wasm_bindgen]
extern "C" {
    /// The device that drew the window is gone, and with it the window: the page begins anew.
    #[wasm_bindgen(js_namespace = globalThis, js_name = fathomLost)]
    pub fn lost(reason: &str);
}

/// An error of JavaScript in its own words.
pub fn words(error: &JsValue) -> String {
    let message = js_sys::Reflect::get(error, &"message".into()).ok().and_then(|message| message.as_string());
    message.or_else(|| error.as_string()).unwrap_or_else(|| format!("{error:?}"))
}
