//! A private machine for commands as they stand in a document: names, paths and settings are the default ones, and
//! nothing of the real machine changes.
//!
//! A shell in mount, network and process namespaces of its own. `/run`, `/usr/local` and `/etc` are copies in memory, the
//! repository is the working directory and cannot be written, `podswitch` is on the path and can be run by anybody. The
//! kernel ends every process in there with the shell.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use host::Namespace;

use crate::rig::PATIENCE;

/// The machine; it ends with this.
pub(crate) struct Stage {
    shell: Child,
    input: ChildStdin,
    output: Receiver<String>,
}

/// What a command said on both outputs, and its exit code.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) text: String,
    pub(crate) code: i32,
}

impl Stage {
    /// A node that forwards for IPv4 and IPv6, without a switch.
    pub(crate) fn new() -> Stage {
        // The stage also ends with a test that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare"]);
        command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["bash", "--noprofile", "--norc"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root").env("LC_ALL", "C");
        let mut shell = command.spawn().expect("unshare and bash are there");
        let (input, outlet) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        let (lines, output) = channel();
        thread::spawn(move || {
            let read = BufReader::new(outlet).split(b'\n').map_while(Result::ok);
            // The stage has ended before its processes.
            read.map(|line| String::from_utf8_lossy(&line).into_owned()).try_for_each(|line| lines.send(line)).ok();
        });
        let mut stage = Stage { shell, input, output };
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let names = format!("repository={} podswitch={}", repository.display(), env!("CARGO_BIN_EXE_podswitch"));
        writeln!(stage.input, "exec 2>&1").unwrap();
        stage.must(&names);
        SETUP.lines().for_each(|line| drop(stage.must(line)));
        stage
    }

    /// The machine's network.
    pub(crate) fn namespace(&self) -> Namespace {
        Namespace::open(format!("/proc/{}/ns/net", self.shell.id())).unwrap()
    }

    /// Runs one command of the shell's language; a job in the background goes on.
    #[track_caller]
    pub(crate) fn run(&mut self, command: &str) -> Ended {
        let quoted = command.replace('\'', r"'\''");
        writeln!(self.input, "eval '{quoted}' </dev/null; printf '\\n{MARK} %d\\n' $?").unwrap();
        let (start, mut said) = (Instant::now(), Vec::new());
        loop {
            let Ok(line) = self.output.recv_timeout(PATIENCE.saturating_sub(start.elapsed())) else {
                panic!("`{command}` did not end:\n{}", said.join("\n"));
            };
            if let Some(code) = line.strip_prefix(MARK) {
                return Ended { text: said.join("\n"), code: code.trim().parse().unwrap() };
            }
            said.push(line);
        }
    }

    /// The same for one that must succeed; what it said.
    #[track_caller]
    pub(crate) fn must(&mut self, command: &str) -> String {
        let Ended { text, code } = self.run(command);
        assert_eq!(code, 0, "`{command}`:\n{text}");
        text
    }

    /// Starts a switch with these arguments and waits until it answers.
    #[track_caller]
    pub(crate) fn start_switch(&mut self, arguments: &str) {
        self.start("podswitch", arguments);
    }

    /// The same where `podswitch` is run by other words.
    #[track_caller]
    pub(crate) fn start(&mut self, podswitch: &str, arguments: &str) {
        self.must(&format!("{podswitch} run {arguments} >>/run/stage/log 2>&1 &"));
        let answers = "podswitch show status >/dev/null 2>&1";
        let wait = format!("for _ in $(seq 100); do {answers} && break; sleep 0.05; done");
        self.must(&format!("{wait}; {answers} || {{ cat /run/stage/log; false; }}"));
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // unshare takes the shell with it, and that is process 1 of all others.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// The last mount of all hides nothing that later lines need.
const SETUP: &str = "\
mount -t tmpfs -o mode=755 none /run
mkdir -p /run/stage/bin /run/stage/etc /run/stage/repository /run/stage/target/release
cp -a /etc/. /run/stage/etc && mount --bind /run/stage/etc /etc
install $podswitch /run/stage/bin/podswitch && ln -s ../../bin/podswitch /run/stage/target/release/podswitch
for other in cni agent; do ! test -e $podswitch-$other || install $podswitch-$other /run/stage/target/release/podswitch-$other; done
mount --bind $repository /run/stage/repository && mount -o remount,bind,ro /run/stage/repository
mount -t tmpfs -o mode=755 none /usr/local
export PATH=/run/stage/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin CARGO_TARGET_DIR=/run/stage/target
cd /run/stage/repository
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward && echo 1 >/proc/sys/net/ipv6/conf/all/forwarding";
/// Begins the line that ends what a command said.
const MARK: &str = "@end-of-command@";
