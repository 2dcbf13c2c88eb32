//! The command line front end: arguments, exit codes, one line for every error. Each subcommand has its file; what they show
//! comes from the library's `Engine`.

mod app;
mod args;
mod bench;
mod bench_kernels;
mod chat;
mod commands;
mod doctor;
mod load;
mod plan;
mod repl;
mod table;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use args::{AppArgs, BenchCommand, ChatArgs, Cli, Command};
use clap::{CommandFactory, Parser};

/// A wrong command line that clap cannot see: exit code 2 instead of 1.
#[derive(thiserror::Error, Debug)]
#[error("{0}")]
pub struct WrongUsage(pub String);

/// Runs the program.
pub fn main() -> ExitCode {
    quiet_drivers();
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("something unexpected");
        let place = panic.location().map(|at| format!(" at {at}")).unwrap_or_default();
        report(&format!("internal: {text}{place}; please report this"));
    }));
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("FATHOM_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            // Help and version. A reader that went away is no error.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            report(&usage_line(&error.to_string()));
            return ExitCode::from(2);
        }
    };
    let run = std::panic::AssertUnwindSafe(|| pollster::block_on(run(cli)));
    match std::panic::catch_unwind(run) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            report(&error.to_string());
            ExitCode::from(if error.is::<WrongUsage>() { 2 } else { 1 })
        }
        // The hook has told.
        Err(_) => ExitCode::FAILURE,
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let device = cli.device;
    match cli.command {
        Some(Command::App(args)) => app::run(args, &device),
        Some(Command::Chat(args)) => chat::run(args, &device).await,
        Some(Command::Generate(args)) => commands::generate(args, &device).await,
        Some(Command::Logits(args)) => commands::logits(args, &device).await,
        Some(Command::Plan(args)) => plan::run(args, &device).await,
        Some(Command::Wgsl(args)) => commands::wgsl(args),
        Some(Command::Doctor(args)) => doctor::run(args, &device).await,
        Some(Command::Bench(BenchCommand::Kernels(args))) => bench_kernels::run(args, &device).await,
        Some(Command::Bench(BenchCommand::Model(args))) => bench::run(args, &device).await,
        None if app::has_display() => app::run(AppArgs::default(), &device),
        None if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() => chat::run(ChatArgs::default(), &device).await,
        None => Ok(write!(std::io::stdout(), "{}", Cli::command().render_long_help())?),
    }
}

/// One line on stderr.
fn report(text: &str) {
    let line: Vec<&str> = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
    // Nobody to tell is no reason to fail twice.
    let _ = writeln!(std::io::stderr(), "error: {}", line.join(" "));
}

/// clap's paragraphs as one line: the first says what is wrong, tips and the way to the help follow.
fn usage_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let paragraphs = text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let kept = paragraphs.filter(|part| !part.is_empty() && !part.starts_with("Usage:") && !part.starts_with("For more information"));
    format!("{}; see --help", kept.collect::<Vec<_>>().join("; "))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe))
}

/// Mesa's drivers complain on stderr where XDG_RUNTIME_DIR is not set, as in containers.
fn quiet_drivers() {
    #[cfg(target_os = "linux")]
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the first thing `main` does; no other thread exists yet.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_usage_is_one_line() {
        for arguments in [vec!["fathom", "generate"], vec!["fathom", "chta"], vec!["fathom", "chat", "--temperature", "-1"]] {
            let error = Cli::try_parse_from(arguments).unwrap_err().to_string();
            let line = usage_line(&error);
            assert!(!line.contains('\n') && line.ends_with("; see --help") && !line.contains("Usage:"), "{line}");
        }
    }
}
