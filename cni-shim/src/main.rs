//! `podswitch-cni`: a CNI plugin when a runtime calls it, a tool for its installation otherwise.

#![forbid(unsafe_code)]

use std::env;
use std::io::{self, Read, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    if env::var_os("CNI_COMMAND").is_none() {
        return cni::cli::main();
    }
    let input = || {
        let mut input = Vec::new();
        io::stdin().lock().read_to_end(&mut input).map(|_| input)
    };
    let (text, done) = match cni::answer(|variable| env::var(variable).ok(), input) {
        Ok(text) => (text, true),
        Err(text) => (text, false),
    };
    let written = io::stdout().lock().write_all(text.as_bytes());
    if done && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
