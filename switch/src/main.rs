//! The `podswitch` binary: the library's command line.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    podswitch::cli::main()
}
