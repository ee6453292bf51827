//! The program: parse, run, exit code.

use std::process::ExitCode;

/// Command line and output: the only place that prints.
mod cli;

fn main() -> ExitCode {
    match cli::run(cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
