//! Putting the plugin and its configuration where runtimes look for them, and taking them away again.
//!
//! A file is written beside its place and renamed, so that a runtime finds an old one or a new one, whole. The program comes
//! before the configuration that names it, and goes after it. A configuration of another plugin is neither overwritten nor
//! removed.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::conflist::{Found, TYPE};

/// Where things go.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) programs: &'a Path,
    pub(crate) configurations: &'a Path,
}

/// Why a file was not written or removed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub(crate) enum Error {
    #[error("cannot {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is another plugin's configuration", path.display())]
    Foreign { path: PathBuf },
}

impl Place<'_> {
    /// Writes both; what was written.
    pub(crate) fn install(&self, conflist: &str) -> Result<[PathBuf; 2], Error> {
        let [program, configuration] = self.files();
        refuse_foreign(&configuration)?;
        let own = fs::read(OWN).map_err(|source| failed("read", Path::new(OWN), source))?;
        for folder in [self.programs, self.configurations] {
            fs::create_dir_all(folder).map_err(|source| failed("make", folder, source))?;
        }
        put(&program, &own, 0o755)?;
        put(&configuration, conflist.as_bytes(), 0o644)?;
        Ok([program, configuration])
    }

    /// Removes both; what was removed.
    pub(crate) fn uninstall(&self) -> Result<Vec<PathBuf>, Error> {
        let [program, configuration] = self.files();
        refuse_foreign(&configuration)?;
        let mut removed = Vec::new();
        for path in [configuration, program] {
            match fs::remove_file(&path) {
                Ok(()) => removed.push(path),
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(failed("remove", &path, source)),
            }
        }
        Ok(removed)
    }

    fn files(&self) -> [PathBuf; 2] {
        [self.programs.join(TYPE), self.configurations.join(CONFLIST)]
    }
}

fn refuse_foreign(path: &Path) -> Result<(), Error> {
    match fs::read(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed("read", path, source)),
        Ok(text) => {
            let is_ours = serde_json::from_slice::<Found>(&text).is_ok_and(|found| found.own().is_some());
            if is_ours { Ok(()) } else { Err(Error::Foreign { path: path.to_owned() }) }
        }
    }
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let written = fs::write(&beside, bytes)
        .and_then(|()| fs::set_permissions(&beside, fs::Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|source| {
        // It would be taken for nothing, and is only litter.
        let _ = fs::remove_file(&beside);
        failed("write", path, source)
    })
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source }
}

/// Lexically early: runtimes take the first configuration there is.
pub(crate) const CONFLIST: &str = "10-podswitch.conflist";
const OWN: &str = "/proc/self/exe";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_whole_and_goes_again() {
        let dir = tempfile::tempdir().unwrap();
        let (programs, configurations) = (dir.path().join("bin"), dir.path().join("net.d"));
        let place = Place { programs: &programs, configurations: &configurations };
        let conflist = r#"{"plugins": [{"type": "podswitch-cni"}]}"#;
        for _ in 0..2 {
            let [program, configuration] = place.install(conflist).unwrap();
            assert_eq!(fs::read(program).unwrap(), fs::read(OWN).unwrap());
            assert_eq!(fs::read_to_string(configuration).unwrap(), conflist);
        }
        assert_eq!(place.uninstall().unwrap().len(), 2);
        assert_eq!(fs::read_dir(programs).unwrap().chain(fs::read_dir(configurations).unwrap()).count(), 0);
    }

    #[test]
    fn another_plugins_configuration_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { programs: dir.path(), configurations: dir.path() };
        let path = dir.path().join(CONFLIST);
        for text in [r#"{"plugins": [{"type": "bridge"}]}"#, "{", ""] {
            fs::write(&path, text).unwrap();
            assert!(matches!(place.install("{}"), Err(Error::Foreign { .. })));
            assert!(matches!(place.uninstall(), Err(Error::Foreign { .. })));
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert!(!dir.path().join(TYPE).exists());
    }
}
