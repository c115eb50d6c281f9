//! Peers from DPDK: small C programs of this repository, compiled where DPDK's headers and libraries are.
//!
//! They are optional. Each is compiled when it is needed, for the CPU it runs on (DPDK's own flags ask for one of 2008), into a
//! folder that goes when it does. An environment abstraction layer is started only where a structure needs DPDK's heap, and then
//! over ordinary memory, so neither root nor reserved hugepages are needed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use crate::error::{Error, Result};

/// A compiled program.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    /// Of DPDK, such as `22.11.11`.
    pub version: String,
    /// Removed on drop.
    _folder: TempDir,
}

impl Program {
    /// Compiles a program of that name; `None` where there is no `pkg-config` or it knows of no DPDK.
    ///
    /// # Errors
    /// If the compiler is missing or refuses the source.
    pub fn build(name: &str, source: &str) -> Result<Option<Self>> {
        let Some(version) = package(&["--modversion"])? else { return Ok(None) };
        let Some((cflags, libs)) = package(&["--cflags"])?.zip(package(&["--libs"])?) else { return Ok(None) };
        let folder = TempDir::with_prefix("podswitch-bench-").map_err(Error::system("make a folder"))?;
        let (path, file) = (folder.path().join(name), folder.path().join(format!("{name}.c")));
        fs::write(&file, source).map_err(Error::system(format!("write {}", file.display())))?;
        let mut compiler = Command::new("cc");
        compiler.args(["-O3", "-pthread"]).args(cflags.split_whitespace()).arg("-march=native");
        output(compiler.arg(&file).arg("-o").arg(&path).arg("-Wl,--as-needed").args(libs.split_whitespace()))?;
        Ok(Some(Self { path, version, _folder: folder }))
    }

    /// Runs it and returns the number that it prints.
    pub fn figure(&self, arguments: &[&str]) -> Result<f64> {
        let mut command = Command::new(&self.path);
        let printed = output(command.args(arguments))?;
        printed.parse().map_err(|_| failed(&command, "no number", &printed))
    }

    /// Starts it, to be asked again and again.
    pub fn start(&self, arguments: &[&str]) -> Result<Running> {
        let mut command = Command::new(&self.path);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(Error::system(format!("run {}", self.path.display())))?;
        let (questions, answers) = child.stdin.take().zip(child.stdout.take()).expect("both are pipes");
        Ok(Running { command: format!("{command:?}"), child, questions, answers: BufReader::new(answers) })
    }
}

/// A program that answers questions until it is dropped.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Running {
    /// The number on the next line that it prints.
    pub fn figure(&mut self) -> Result<f64> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(Error::system(format!("hear from {}", self.command)))?;
        line.trim().parse().map_err(|_| Error::Program {
            command: self.command.clone(),
            status: "no number".to_owned(),
            output: line,
        })
    }

    /// Asks by a line of words and returns the number that it answers with.
    pub fn ask(&mut self, question: &str) -> Result<f64> {
        writeln!(self.questions, "{question}").map_err(Error::system(format!("ask {}", self.command)))?;
        self.figure()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be busy, and has nothing to tidy up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `pkg-config` says of DPDK; `None` where it is missing or knows nothing.
fn package(arguments: &[&str]) -> Result<Option<String>> {
    match output(Command::new("pkg-config").args(arguments).arg("libdpdk")) {
        Err(Error::System { .. } | Error::Program { .. }) => Ok(None),
        printed => printed.map(Some),
    }
}

fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(Error::system(format!("run {program}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(failed(command, &output.status.to_string(), &text(&output.stderr)))
    }
}

fn failed(command: &Command, status: &str, output: &str) -> Error {
    Error::Program { command: format!("{command:?}"), status: status.to_owned(), output: output.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
        #include <stdio.h>
        #include <rte_version.h>
        int main(int count, char **arguments) { return printf("%s.5\n", arguments[count - 1]) < 0 || count > 2; }
    "#;

    const ANSWERS: &str = r#"
        #include <stdio.h>
        int main(void) { double asked; while (scanf("%lf", &asked) == 1) { printf("%f\n", 2 * asked); fflush(stdout); } return 0; }
    "#;

    #[test]
    fn a_program_is_asked_again_and_again() {
        let Some(program) = Program::build("answers", ANSWERS).unwrap() else { return };
        let mut running = program.start(&[]).unwrap();
        assert_eq!([running.ask("2").unwrap(), running.ask("21").unwrap()], [4.0, 42.0]);
        assert!(matches!(running.ask("end"), Err(Error::Program { .. })));
    }

    #[test]
    fn a_program_is_compiled_and_says_a_number_or_dpdk_is_not_there() {
        let Some(program) = Program::build("echo", SOURCE).unwrap() else {
            assert_eq!(package(&["--modversion"]).unwrap(), None);
            eprintln!("1 skipped: no DPDK here, see `apt-get install libdpdk-dev pkg-config`");
            return;
        };
        assert!(program.version.starts_with(|first: char| first.is_ascii_digit()));
        assert_eq!(program.figure(&["2"]).unwrap(), 2.5);
        assert!(matches!(program.figure(&["x"]), Err(Error::Program { output, .. }) if output == "x.5"));
        assert!(matches!(program.figure(&["1", "2"]), Err(Error::Program { .. })));
    }
}
