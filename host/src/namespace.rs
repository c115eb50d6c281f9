//! Network namespaces: open, enter, make, delete.
//!
//! A [`Namespace`] is an open descriptor, so it stays the same namespace when its path is deleted or reused. There are two ways
//! in: [`Namespace::run`] starts a thread that enters, does one thing, and ends; [`Namespace::visit`] has the calling thread
//! enter and come back, for what is short and waited for, since a new thread may have to wait milliseconds for a CPU. What is opened
//! there (a socket, a TAP) may be carried out and stays bound to that namespace.
//!
//! Named namespaces are those of ip-netns(8): a bind mount of a namespace file on `/run/netns/NAME`, on a mount point
//! whose mounts are shared, so that other mount namespaces see them come and go. [`TemporaryNamespace`] is one that
//! goes when its owner does, also by a panic.
//!
//! Source: setns(2), ip-netns(8), Linux `Documentation/filesystems/sharedsubtree.rst`.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{panic, process, thread};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::makedev;
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use crate::{Error, LinkChange, Netlink, ioctl};

/// An open network namespace.
#[derive(Debug)]
pub struct Namespace {
    descriptor: OwnedFd,
    path: PathBuf,
    identity: Identity,
}

/// What tells namespaces apart while both live: two paths with the same identity are one namespace. After a
/// namespace has died, the kernel may give its number to a new one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// Device of the namespace file system.
    pub device: u64,
    /// Inode on it, as `readlink /proc/PID/ns/net` shows.
    pub inode: u64,
}

impl Namespace {
    /// Opens the namespace at `path`, such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// [`Error::NamespaceMissing`] when nothing is there, [`Error::NotNetworkNamespace`] when it is something else
    /// (an ordinary file, a namespace of another kind), [`Error::Call`] when it may not be opened.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path) {
            Ok(file) => file,
            Err(source) if matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH)) => {
                return Err(Error::NamespaceMissing { path, source });
            }
            Err(source) => return Err(Error::call("open", path.display(), source)),
        };
        Self::of(file, path)
    }

    /// The namespace behind an open descriptor of it; `path` is where it was opened, by whomever.
    ///
    /// # Errors
    /// [`Error::NotNetworkNamespace`] when it is something else.
    pub fn of(descriptor: impl Into<OwnedFd>, path: impl Into<PathBuf>) -> Result<Self, Error> {
        let (file, path) = (File::from(descriptor.into()), path.into());
        let status = fstatfs(&file).map_err(|errno| Error::call("fstatfs", path.display(), errno))?;
        if status.filesystem_type() != NSFS_MAGIC
            || ioctl::namespace_kind(file.as_fd()).ok() != Some(libc::CLONE_NEWNET)
        {
            return Err(Error::NotNetworkNamespace { path });
        }
        let data = file.metadata().map_err(|source| Error::call("fstat", path.display(), source))?;
        let identity = Identity { device: data.dev(), inode: data.ino() };
        Ok(Namespace { descriptor: file.into(), path, identity })
    }

    /// The calling thread's namespace.
    pub fn current() -> Result<Self, Error> {
        Self::open(CURRENT)
    }

    /// Opens `/run/netns/NAME`.
    pub fn named(name: &str) -> Result<Self, Error> {
        Self::open(named_path(name)?)
    }

    /// Makes a namespace named `name`, as `ip netns add` does; its loopback is down. EEXIST when the name is taken.
    pub fn create_named(name: &str) -> Result<Self, Error> {
        let path = named_path(name)?;
        share_directory().map_err(|(call, source)| Error::call(call, DIRECTORY, source))?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o000).open(&path);
        file.map_err(|source| Error::call("create", path.display(), source))?;
        let made = on_fresh_thread(&path, || pin_fresh(&path)).flatten().and_then(|()| Self::open(&path));
        made.inspect_err(|_| {
            // The error at hand is the one to tell.
            let _ = unpin(&path);
        })
    }

    /// Removes the name, as `ip netns delete` does. The namespace itself lives on while a process, a descriptor or
    /// another mount holds it.
    pub fn delete_named(name: &str) -> Result<(), Error> {
        unpin(&named_path(name)?)
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells it from others.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Runs `action` on a new thread inside the namespace and waits for it; a panic of `action` goes on in the caller.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let enter = || setns(&self.descriptor, CloneFlags::CLONE_NEWNET).map(|()| action());
        let ended = on_fresh_thread(&self.path, enter)?;
        ended.map_err(|errno| Error::call("setns", self.path.display(), errno))
    }

    /// Runs `action` on the calling thread inside the namespace, and comes back, also from a panic.
    ///
    /// # Panics
    /// If the thread cannot come back: it must not go on where it is.
    pub fn visit<T>(&self, action: impl FnOnce() -> T) -> Result<T, Error> {
        let home = File::open(CURRENT).map_err(|source| Error::call("open", CURRENT, source))?;
        setns(&self.descriptor, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::call("setns", self.path.display(), errno))?;
        let _back = Back(home);
        Ok(action())
    }

    /// Sets the loopback interface up.
    pub fn loopback_up(&self) -> Result<(), Error> {
        let mut netlink = Netlink::open_in(self)?;
        let loopback = netlink.link("lo")?.index;
        netlink.change_link(loopback, &LinkChange { up: Some(true), ..LinkChange::default() })
    }
}

impl Identity {
    /// True when `path` leads to this namespace.
    pub fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|data| data.dev() == self.device && data.ino() == self.inode)
    }

    /// The namespaces in which a process lives, or which a mount holds that is seen from here. Those that only a
    /// descriptor holds are not found.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn inhabited() -> io::Result<HashSet<Identity>> {
        let mounts = fs::read("/proc/self/mountinfo")?;
        let mounts = String::from_utf8_lossy(&mounts);
        let mounted = mounts.lines().filter_map(mounted_namespace);
        let is_process = |name: &OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        let processes = fs::read_dir("/proc")?.flatten().filter(|entry| is_process(&entry.file_name()));
        let lived_in = processes.filter_map(|entry| fs::metadata(entry.path().join("ns/net")).ok());
        let lived_in = lived_in.map(|data| Identity { device: data.dev(), inode: data.ino() });
        Ok(mounted.chain(lived_in).collect())
    }
}

/// The network namespace a line of `/proc/PID/mountinfo` mounts, if it does (proc_pid_mountinfo(5)):
/// `29 23 0:4 net:[4026532246] /run/netns/a rw shared:1 - nsfs nsfs rw`.
fn mounted_namespace(line: &str) -> Option<Identity> {
    let [_, _, device, root] = line.splitn(5, ' ').take(4).collect::<Vec<_>>().try_into().ok()?;
    let inode = root.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()?;
    let (major, minor) = device.split_once(':')?;
    Some(Identity { device: makedev(major.parse().ok()?, minor.parse().ok()?), inode })
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// The way back of a visitor.
struct Back(File);

impl Drop for Back {
    fn drop(&mut self) {
        let came = setns(&self.0, CloneFlags::CLONE_NEWNET);
        assert!(came.is_ok(), "a thread that could enter a namespace can leave it: {came:?}");
    }
}

/// A namespace of our own with the loopback up, deleted on drop.
#[derive(Debug)]
pub struct TemporaryNamespace {
    namespace: Namespace,
    name: String,
}

impl TemporaryNamespace {
    /// Makes a namespace named `prefix-PID-N`, which no other call of any process makes at the same time.
    pub fn new(prefix: &str) -> Result<Self, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Relaxed: only uniqueness matters, nothing is published by it.
        let name = format!("{prefix}-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let namespace = match Namespace::create_named(&name) {
            // Left by a killed process of the same number.
            Err(error) if error.is_exists() => return Self::new(prefix),
            made => made?,
        };
        let temporary = TemporaryNamespace { namespace, name };
        temporary.loopback_up()?;
        Ok(temporary)
    }

    /// The name below `/run/netns`, as `ip netns exec` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Deref for TemporaryNamespace {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

impl Drop for TemporaryNamespace {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the only likely one is that somebody deleted it before us.
        let _ = Namespace::delete_named(&self.name);
    }
}

fn named_path(name: &str) -> Result<PathBuf, Error> {
    let plain = !name.is_empty() && name.len() <= 255 && name != "." && name != ".." && !name.contains(['/', '\0']);
    if plain {
        return Ok(Path::new(DIRECTORY).join(name));
    }
    let rule = "1 to 255 bytes, no slash, neither '.' nor '..'";
    Err(Error::Illegal { what: "namespace name", value: name.to_owned(), rule })
}

/// Runs `action` on a thread that ends with it, so that what it does to its own thread concerns nobody else.
fn on_fresh_thread<T: Send>(path: &Path, action: impl FnOnce() -> T + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, action);
        let thread = thread.map_err(|source| Error::call("clone", path.display(), source))?;
        Ok(thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
    })
}

/// Puts the calling thread into a new namespace and mounts that on `path`. The thread must end afterwards.
fn pin_fresh(path: &Path) -> Result<(), Error> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error::call("unshare", path.display(), errno))?;
    mount(Some(CURRENT), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|errno| Error::call("mount", path.display(), errno))
}

fn unpin(path: &Path) -> Result<(), Error> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // EINVAL: a plain file, left by a creation that was cut short.
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(errno) => return Err(Error::call("umount", path.display(), errno)),
    }
    fs::remove_file(path).map_err(|source| Error::call("unlink", path.display(), source))
}

/// Makes `/run/netns` a mount point whose mounts are shared. A lock keeps two processes from mounting it twice, the
/// second mount hiding what the first one got meanwhile.
fn share_directory() -> Result<(), (&'static str, io::Error)> {
    DirBuilder::new().recursive(true).mode(0o755).create(DIRECTORY).map_err(|source| ("mkdir", source))?;
    let directory = File::open(DIRECTORY).map_err(|source| ("open", source))?;
    directory.lock().map_err(|source| ("flock", source))?;
    let nothing = None::<&str>;
    let share = || mount(nothing, DIRECTORY, nothing, MsFlags::MS_SHARED | MsFlags::MS_REC, nothing);
    let shared = match share() {
        // EINVAL: not a mount point yet.
        Err(Errno::EINVAL) => mount(Some(DIRECTORY), DIRECTORY, nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing)
            .and_then(|()| share()),
        result => result,
    };
    shared.map_err(|errno| ("mount", errno.into()))
}

/// Where ip-netns(8) keeps names.
const DIRECTORY: &str = "/run/netns";
const CURRENT: &str = "/proc/thread-self/ns/net";
