//! What the tests of the built page share: the server over `web/dist`, and whether there is a browser to open it in.

use std::path::Path;

use super::chromium::has_chromium;
use super::server::Server;

/// The built page, with the tests' own files at `/test/` and what else is asked for; none where the environment allows to have no
/// browser.
pub fn serve(folders: &[(&str, &Path)]) -> Option<Server> {
    if !has_chromium() {
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dist = root.join("web/dist");
    assert!(dist.join("index.html").is_file(), "web/dist: expected the built page, found none; build it with `make web`");
    let mut all: Vec<_> = folders.iter().map(|(prefix, folder)| ((*prefix).to_string(), folder.to_path_buf())).collect();
    all.extend([("/test/".to_string(), root.join("tests/web")), ("/".to_string(), dist)]);
    Some(Server::start(0, all).unwrap())
}
