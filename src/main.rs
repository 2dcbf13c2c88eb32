//! The program `fathom`: subcommands over the library. What a command line means is in `cli`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
