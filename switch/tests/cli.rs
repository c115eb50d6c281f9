//! The binary as a user calls it, without a switch: help, usage, and errors that say what to do.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;

/// Runs `podswitch`, its surroundings cut off; standard output, standard error and the exit code.
fn podswitch(arguments: &[&str]) -> (String, String, i32) {
    let mut command = Command::cargo_bin("podswitch").unwrap();
    command.env_remove("PODSWITCH_SOCKET").env_remove("PODSWITCH_LOG").args(arguments);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(stdout), text(stderr), status.code().unwrap())
}

/// Fails with `code`, prints nothing on standard output, and says every one of `named`.
fn fails(arguments: &[&str], code: i32, named: &[&str]) {
    let (stdout, stderr, status) = podswitch(arguments);
    assert_eq!((stdout.as_str(), status), ("", code), "{arguments:?}: {stderr}");
    for name in named {
        assert!(stderr.contains(name), "{arguments:?}: '{name}' is not in\n{stderr}");
    }
}

#[test]
fn every_command_has_a_help_text_with_an_example() {
    for command in [
        &[][..],
        &["run"],
        &["attach"],
        &["detach"],
        &["route", "add"],
        &["route", "del"],
        &["neighbor", "add"],
        &["neighbor", "delete"],
        &["neighbor", "list"],
        &["show"],
        &["trace"],
        &["doctor"],
        &["stop"],
        &["purge"],
        &["completions"],
        &["man"],
    ] {
        let (stdout, stderr, code) = podswitch(&[command, &["--help"]].concat());
        assert_eq!((stderr.as_str(), code), ("", 0), "{command:?}");
        let example = ["podswitch", &command.join(" ")].join(" ");
        assert!(stdout.contains("Example") && stdout.contains(example.trim()), "{stdout}");
        assert!(stdout.lines().all(|line| line.chars().count() <= 120), "{stdout}");
    }
}

#[test]
fn run_has_a_flag_for_every_key() {
    let (stdout, ..) = podswitch(&["run", "--help"]);
    for flag in [
        "--pod-range",
        "--router-address",
        "--mtu",
        "--host-port",
        "--state-dir",
        "--socket",
        "--poll",
        "--spin-us",
        "--worker-cpu",
        "--strict-mac",
        "--metrics-address",
        "--underlay-address",
        "--tunnel",
        "--vxlan-vni",
        "--vxlan-port",
        "--vtep-mac",
        "--udp-port",
    ] {
        assert!(stdout.contains(flag), "{flag} is not in\n{stdout}");
    }
}

#[test]
fn without_a_switch_every_call_says_how_to_start_one() {
    let socket = ["--socket", "/nonexistent/control.sock"];
    for command in [
        &["show", "ports"][..],
        &["show", "status", "--json"],
        &["show", "workers"],
        &["show", "config", "--json"],
        &["attach", "web-0", "--netns", "web", "--address", "10.244.0.2/24"],
        &["detach", "web-0"],
        &["route", "add", "10.0.0.0/8", "--to", "host"],
        &["route", "del", "10.0.0.0/8"],
        &["neighbor", "add", "--subnet", "10.244.1.0/24", "--via", "192.0.2.2", "--backend", "host-gw"],
        &["neighbor", "add", "--file", "/dev/null"],
        &["neighbor", "delete", "--subnet", "10.244.1.0/24", "--force"],
        &["neighbor", "list", "--json"],
        &["show", "stations"],
        &["trace", "--filter", "tcp and dst 10.1.2.3", "--json"],
        &["stop"],
    ] {
        let named =
            ["error: no switch is running at /nonexistent/control.sock\n", "hint: start it with `podswitch run`\n"];
        fails(&[command, &socket].concat(), 1, &named);
    }
}

#[test]
fn wrong_values_are_usage_errors_that_name_the_value() {
    let attach = ["attach", "web-0", "--netns", "web", "--address"];
    let with = |more: &[&'static str]| [&attach[..], more].concat();
    fails(&["attach", "-x"], 2, &["-x"]);
    fails(&["attach", "a/b", "--netns", "web", "--address", "10.244.0.2"], 2, &["'a/b'", "letters, digits"]);
    fails(&["attach", "web-0", "--netns", "web"], 2, &["--address"]);
    fails(&["attach", "web-0", "--netns", "./web", "--address", "10.244.0.2"], 2, &["./web", "ip netns"]);
    fails(&with(&["10.244.0"]), 2, &["10.244.0"]);
    fails(&with(&["127.0.0.1"]), 2, &["127.0.0.1", "loopback"]);
    fails(&with(&["10.244.0.2", "--mtu", "80"]), 2, &["80", "576"]);
    fails(&with(&["10.244.0.2", "--mac", "nonsense"]), 2, &["nonsense", "hex digits"]);
    fails(&with(&["10.244.0.2", "--ifname", "much-too-long-for-linux"]), 2, &["much-too-long-for-linux", "15"]);
    fails(&["route", "add", "10.0.0.1/8", "--to", "host"], 2, &["10.0.0.1/8", "10.0.0.0/8"]);
    fails(&["route", "add", "10.0.0.0/8", "--to", "nowhere"], 2, &["nowhere", "endpoint:NAME"]);
    let neighbor = ["neighbor", "add", "--subnet", "10.244.1.0/24"];
    let via = |more: &[&'static str]| [&neighbor[..], &["--via", "192.0.2.2"], more].concat();
    fails(&neighbor, 2, &["--via"]);
    fails(&via(&["--backend", "gre"]), 2, &["'gre'", "vxlan, udp, ipip, host-gw"]);
    fails(&via(&["--file", "-"]), 2, &["--file", "--subnet"]);
    fails(&["neighbor", "add", "--file", "/nonexistent.json"], 1, &["/nonexistent.json", "No such"]);
    fails(&["run", "--vxlan-vni", "16777216"], 2, &["16777216", "0 to 16777215"]);
    fails(&["run", "--udp-port", "0"], 2, &["'0'", "--udp-port"]);
    fails(&["show", "everything"], 2, &["everything", "neighbors"]);
    fails(&["trace", "--filter", "tcp prt 80"], 2, &["has 'prt' at character 5", "'and', 'or' or its end"]);
    fails(&["trace", "--filter", "port http"], 2, &["'http' at character 6", "0 to 65535"]);
    fails(&["trace", "--filter", "host web-1 or arp"], 2, &["'web-1' at character 6", "an IPv4 or IPv6 address"]);
    fails(&["trace", "--filter", "(udp"], 2, &["ends at character 5", "')'"]);
    fails(&["trace", "--count", "0"], 2, &["0"]);
    fails(&["trace", "--seconds", "3601"], 2, &["3600"]);
    fails(&["run", "--poll", "fast"], 2, &["fast", "adaptive"]);
    fails(&["show", "ports", "--watch=0"], 2, &["'0'", "--watch"]);
    fails(&["show", "ports", "--watch", "--json"], 2, &["--watch", "--json"]);
    fails(&["show", "drops", "--watch"], 1, &["--watch", "hint: say `podswitch show ports --watch`"]);
    fails(&["--log-level", "loud", "stop"], 2, &["'loud'", "--log-level", "off, error, warn, info, debug, trace"]);
    fails(&["run", "--metrics-address", "localhost:9470"], 2, &["localhost:9470", "--metrics-address"]);
}

#[test]
fn a_configuration_is_refused_by_file_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    let path = file.to_str().unwrap();
    let run = ["run", "--config", path];
    fails(
        &["run", "--config", "/nonexistent.toml"],
        1,
        &["error: cannot read the configuration /nonexistent.toml: No such"],
    );
    fails(&["run"], 1, &["error: pod_ranges is missing\n", "hint: give --pod-range "]);
    fs::write(&file, "pod_ranges = [\"10.244.0.0/24\"]\nmtuu = 1400\n").unwrap();
    fails(
        &run,
        1,
        &[&format!("error: {path}:2: 'mtuu' is no key of the configuration\n"), "hint: did you mean 'mtu'?\n"],
    );
    fs::write(&file, "pod_ranges = [\"10.244.0.0/24\"]\nmtu = 40\n").unwrap();
    fails(&run, 1, &[&format!("error: {path}:2: mtu: '40' is no MTU")]);
    fs::write(&file, "pod_ranges = [\"10.244.0.0/24\"]\n").unwrap();
    fails(&[&run[..], &["--router-address", "10.9.0.1"]].concat(), 1, &["10.9.0.1", "10.244.0.0/24"]);
    let everywhere = ["--metrics-address", "0.0.0.0:9470"];
    fails(
        &[&run[..], &everywhere].concat(),
        1,
        &["0.0.0.0:9470 is not a loopback address", "hint: give 127.0.0.1:9470"],
    );
}

#[test]
fn a_purge_removes_what_it_was_allowed_to() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("state");
    // In a network namespace of its own, so that no switch of this machine loses its routes.
    let purge = |more: &[&str]| {
        let binary = assert_cmd::cargo::cargo_bin("podswitch");
        let mut command = Command::new("unshare");
        command.arg("--net").arg(binary).args(["purge", "--state-dir", state_dir.to_str().unwrap()]).args(more);
        let Output { status, stdout, stderr } = command.output().unwrap();
        (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), status.code().unwrap())
    };
    assert_eq!(purge(&["--yes"]), ("there was nothing to remove\n".to_owned(), String::new(), 0));
    fs::create_dir(&state_dir).unwrap();
    fs::set_permissions(&state_dir, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(state_dir.join("state.journal"), "damaged").unwrap();
    let (stdout, stderr, code) = purge(&[]);
    assert_eq!((stdout.as_str(), code), ("", 1), "{stderr}");
    assert!(stderr.contains("not confirmed") && stderr.ends_with("hint: give --yes\n"), "{stderr}");
    assert!(state_dir.join("state.journal").exists());
    let (stdout, stderr, code) = purge(&["--yes"]);
    assert_eq!((stderr.as_str(), code), ("", 0));
    assert!(stdout.contains(state_dir.to_str().unwrap()), "{stdout}");
    assert!(!state_dir.exists());
}

#[test]
fn the_doctor_speaks_json_and_names_a_cure_for_each_lack() {
    let (stdout, _, code) = podswitch(&["doctor", "--json"]);
    let findings: Vec<serde_json::Value> = serde_json::from_str(&stdout).unwrap();
    assert!(findings.len() >= 25, "{stdout}");
    let with = |status: &str| findings.iter().filter(|finding| finding["status"] == status).collect::<Vec<_>>();
    assert_eq!(with("ok").len() + with("lack").len() + with("note").len(), findings.len(), "{stdout}");
    assert!(with("ok").iter().all(|finding| finding["cure"].is_null()), "{stdout}");
    assert!(with("lack").iter().all(|finding| finding["cure"].is_string()), "{stdout}");
    assert_eq!(code == 0, with("lack").is_empty(), "only a lack is a failure: {stdout}");
    let (table, stderr, code) = podswitch(&["doctor"]);
    assert!(findings.iter().all(|finding| table.contains(finding["subject"].as_str().unwrap())), "{table}");
    assert_eq!(code == 0, stderr.is_empty(), "{stderr}");
}

#[test]
fn completions_and_manual_pages_come_out_whole() {
    for shell in ["bash", "zsh", "fish"] {
        let (stdout, stderr, code) = podswitch(&["completions", shell]);
        assert_eq!((stderr.as_str(), code), ("", 0));
        assert!(stdout.contains("podswitch") && stdout.contains("purge"));
    }
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    assert_eq!(podswitch(&["man", pages.to_str().unwrap()]).2, 0);
    let page = |name: &str| fs::read_to_string(Path::new(&pages).join(name)).unwrap();
    assert!(page("podswitch.1").contains(".TH"));
    assert!(page("podswitch-run.1").contains("pod\\-range"));
}
