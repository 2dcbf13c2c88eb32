//! Serves `web/dist` on this machine: `serve [PORT]`. One file for rustc, without crates.

#[allow(dead_code, reason = "tests let it misbehave; here it never does")]
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    let port = std::env::args().nth(1).map_or(Ok(8080), |port| port.parse());
    let Ok(port) = port else {
        eprintln!("error: port: expected a number up to 65535, found {:?}", std::env::args().nth(1).unwrap_or_default());
        return ExitCode::from(2);
    };
    match server::Server::start(port, vec![("/".into(), "web/dist".into())]) {
        Ok(server) => {
            println!("the page is at {} (Ctrl-C ends it)", server.url(""));
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            eprintln!("error: port {port} of this machine: {error}; try another: make web-serve PORT=8081");
            ExitCode::FAILURE
        }
    }
}
