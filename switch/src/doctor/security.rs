//! Whoever else has a say: AppArmor, SELinux, seccomp, and what they refused.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc::O_NONBLOCK;

use super::{Finding, field, found, lacking, note, text};

/// Looks at the three as they hold the process with this folder of proc, and for refusals that name the switch.
pub(super) fn findings(process: &str) -> Vec<Finding> {
    vec![apparmor(process), selinux(process), seccomp(process), denials()]
}

fn apparmor(process: &str) -> Finding {
    let subject = "AppArmor";
    // Other security modules answer in the same file.
    if text("/sys/module/apparmor/parameters/enabled").as_deref() != Some("Y") {
        return found(subject, "off");
    }
    let current = |file| text(&format!("{process}/attr/{file}"));
    match current("apparmor/current").or_else(|| current("current")).as_deref() {
        None => note(subject, format!("not examined: {process}/attr/current cannot be read")),
        Some("" | "unconfined") => found(subject, "unconfined"),
        Some(profile) => note(subject, format!("profile {profile}")).cured("aa-complain, should it refuse something"),
    }
}

fn selinux(process: &str) -> Finding {
    let subject = "SELinux";
    match text("/sys/fs/selinux/enforce").as_deref() {
        None => found(subject, "off"),
        Some("0") => found(subject, "permissive"),
        Some(_) => {
            let context = text(&format!("{process}/attr/current")).unwrap_or_default();
            note(subject, format!("enforcing, as {}", context.trim_end_matches('\0')))
                .cured("ausearch -m avc -c podswitch")
        }
    }
}

fn seccomp(process: &str) -> Finding {
    let subject = "seccomp";
    match field(&text(&format!("{process}/status")).unwrap_or_default(), "Seccomp") {
        Some("0") | None => found(subject, "off"),
        Some(_) => note(subject, "a filter is on: it may refuse setns, bpf or real-time priority"),
    }
}

fn denials() -> Finding {
    let subject = "refusals by security modules";
    let (kernel, audit) = (kernel_log(), audit_log());
    if kernel.is_none() && audit.is_none() {
        return note(subject, "not examined: neither the kernel's log nor the audit log can be read");
    }
    let logs = [kernel, audit].map(Option::unwrap_or_default).concat();
    let refused: Vec<&str> = logs.lines().filter(|line| is_refusal(line)).collect();
    match refused.last() {
        None => found(subject, "none that name podswitch"),
        Some(last) => lacking(
            subject,
            format!("{}, the last: {last}", refused.len()),
            "allow it in the profile or policy it names",
        ),
    }
}

fn is_refusal(line: &str) -> bool {
    (line.contains("apparmor=\"DENIED\"") || (line.contains("avc:") && line.contains("denied")))
        && line.contains("podswitch")
}

/// What the kernel still has in mind, a record for each read (Linux `Documentation/ABI/testing/dev-kmsg`).
fn kernel_log() -> Option<String> {
    let mut file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open("/dev/kmsg").ok()?;
    let (mut log, mut record) = (String::new(), [0; RECORD_LEN_MAX]);
    for _ in 0..RECORDS_MAX {
        match file.read(&mut record) {
            Ok(length) => log.push_str(&String::from_utf8_lossy(&record[..length])),
            // Overwritten while it was being read: the next is there.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(_) => break,
        }
    }
    Some(log)
}

/// The end of what auditd(8) wrote.
fn audit_log() -> Option<String> {
    let path = "/var/log/audit/audit.log";
    let begin = fs::metadata(path).ok()?.len().saturating_sub(AUDIT_LEN_MAX);
    let mut file = File::open(path).ok()?;
    file.seek(SeekFrom::Start(begin)).ok()?;
    let mut bytes = Vec::new();
    file.take(AUDIT_LEN_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// `CONSOLE_EXT_LOG_MAX` of the kernel.
const RECORD_LEN_MAX: usize = 8192;
const RECORDS_MAX: usize = 100_000;
const AUDIT_LEN_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_that_names_the_switch() {
        assert!(is_refusal(
            r#"audit: type=1400 apparmor="DENIED" operation="open" profile="podswitch" name="/dev/net/tun""#
        ));
        assert!(is_refusal(
            r#"type=AVC msg=audit(1:2): avc:  denied  { create } for  pid=7 comm="podswitch" tclass=tun_socket"#
        ));
        assert!(!is_refusal(r#"audit: apparmor="ALLOWED" profile="podswitch""#));
        assert!(!is_refusal(r#"audit: apparmor="DENIED" profile="cupsd""#));
    }
}
