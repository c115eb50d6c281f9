//! `podswitch-agent`: the node agent.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::cli::main()
}
