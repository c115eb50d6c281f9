//! A container image made from Debian's static busybox, without a registry.
//!
//! One layer, as a "docker archive" (`manifest.json`, a configuration, a layer): both containerd and podman import it. It is
//! the workload and the sandbox in one; its default command sleeps.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Writes the image to `archive`.
pub(crate) fn write(archive: &Path) {
    let folder = TempDir::with_prefix("podswitch-image-").unwrap();
    let root = folder.path().join("root");
    for place in ["bin", "etc", "tmp", "www", "proc", "sys", "dev", "var", "run"] {
        fs::create_dir_all(root.join(place)).unwrap();
    }
    fs::copy(BUSYBOX, root.join("bin/busybox"))
        .unwrap_or_else(|error| panic!("{BUSYBOX}: {error}; `make deps` adds it"));
    for applet in ["sh", "sleep", "ping", "ping6", "nc", "httpd", "ip"] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    fs::write(root.join("www/index.html"), PAGE).unwrap();
    let layer = folder.path().join("layer.tar");
    pack(&root, &layer, ".");
    let digest: String = Sha256::digest(fs::read(&layer).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    let configuration = json!({
        "architecture": ARCHITECTURE, "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["sleep", "100000"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
    fs::write(folder.path().join("config.json"), configuration.to_string()).unwrap();
    fs::write(folder.path().join("manifest.json"), manifest.to_string()).unwrap();
    fs::remove_dir_all(root).unwrap();
    pack(folder.path(), archive, "manifest.json config.json layer.tar");
}

fn pack(folder: &Path, archive: &Path, what: &str) {
    let mut command = Command::new("tar");
    command.args(["--owner=0", "--group=0", "-C"]).arg(folder).arg("-cf").arg(archive).args(what.split(' '));
    assert!(command.stdin(Stdio::null()).status().unwrap().success());
}

pub(crate) const IMAGE: &str = "localhost/podswitch/busybox:1";
/// What its web server answers with.
pub(crate) const PAGE: &str = "a page of a pod\n";
const BUSYBOX: &str = "/bin/busybox";
/// The name container images have for it.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
