//! From a relative path to an open regular file beneath the application root, or why there is none.
//!
//! The kernel itself keeps the way inside (openat2 with `RESOLVE_BENEATH`); where it cannot, `walk` does. No path is
//! checked first and opened later: what is decided on is the descriptor that is served.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2};
use rustix::io::Errno;

use super::Absent;
use super::walk;

/// Reading never waits for a FIFO's writer and never makes a terminal ours.
pub(super) const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// A place in the tree without opening what is there: no device is touched, no FIFO's writer woken.
pub(super) const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A rename somewhere on the way makes openat2 answer EAGAIN; after so many the walk decides.
const RACES: usize = 8;

/// How often the configuration may be replaced during one look before the file counts as missing.
const REPLACED: usize = 4;

/// What tells one state of one file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    /// Length in bytes.
    pub(super) size: u64,
    /// Seconds and nanoseconds of the last change of the content, as told.
    pub(super) modified: (i64, u32),
    /// The same by the kernel's own clock, which no tool can set back.
    pub(super) changed: (i64, u32),
}

/// The application root, held open.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    mode: Resolver,
    never_served: Vec<PathBuf>,
}

/// Who keeps a path beneath the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolver {
    /// openat2.
    Kernel,
    /// Component by component, for kernels and sandboxes without openat2.
    Walk,
}

/// Why a file was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unopened {
    /// A rule says it is not there.
    Rule(&'static str),
    /// The kernel said no.
    Kernel(Errno),
}

impl Root {
    pub(super) fn open(path: &Path, never_served: &[PathBuf]) -> io::Result<Self> {
        let fd = open(path, PLACE | OFlags::DIRECTORY, Mode::empty())?;
        // Kernels before 5.6 say ENOSYS, seccomp profiles older than openat2 say EPERM.
        let mode = match beneath(&fd, ".", PLACE) {
            Ok(_) => Resolver::Kernel,
            Err(_) => Resolver::Walk,
        };
        Ok(Self { fd, mode, never_served: never_served.to_vec() })
    }

    #[cfg(test)]
    pub(super) fn with(mut self, mode: Resolver) -> Self {
        self.mode = mode;
        self
    }

    pub(super) fn never_served(&self) -> &[PathBuf] {
        &self.never_served
    }

    /// Whether it is the directory with this identity.
    pub(super) fn is(&self, stat: &Stat) -> bool {
        fstat(&self.fd).is_ok_and(|own| (own.st_dev, own.st_ino) == (stat.st_dev, stat.st_ino))
    }

    /// The state of the file that would be opened, without opening it.
    pub(super) fn stat(&self, rel: &str) -> Result<Stamp, Unopened> {
        let stamp = regular(&fstat(self.at(rel, PLACE)?)?)?;
        if self.config().contains(&Some((stamp.device, stamp.inode))) {
            return Err(Unopened::Rule("R-CONFIG"));
        }
        Ok(stamp)
    }

    /// Opens the file for reading.
    pub(super) fn read(&self, rel: &str) -> Result<(OwnedFd, Stamp), Unopened> {
        if !is_clean(rel) {
            return Err(Unopened::Rule("R-CLEANPATH"));
        }
        if self.never_served.iter().any(|name| name == Path::new(rel)) {
            return Err(Unopened::Rule("R-CONFIG"));
        }
        // The same file under another name (a link, a mount) is known by its identity, which changes when an
        // editor replaces it: a look counts only if the configuration was the same before and after.
        let mut before = self.config();
        for _ in 0..REPLACED {
            let (file, stamp) = self.read_once(rel)?;
            let after = self.config();
            if before.contains(&Some((stamp.device, stamp.inode))) {
                return Err(Unopened::Rule("R-CONFIG"));
            }
            if before == after {
                return Ok((file, stamp));
            }
            before = after;
        }
        Err(Unopened::Rule("R-CONFIG"))
    }

    fn read_once(&self, rel: &str) -> Result<(OwnedFd, Stamp), Unopened> {
        // First without opening: opening a FIFO or a device would already do something to it.
        regular(&fstat(self.at(rel, PLACE)?)?)?;
        let file = self.at(rel, READ)?;
        let stamp = regular(&fstat(&file)?)?;
        Ok((file, stamp))
    }

    fn at(&self, rel: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd, Unopened> {
        let rel = rel.as_ref();
        if self.mode == Resolver::Kernel {
            for _ in 0..RACES {
                match beneath(&self.fd, rel, flags) {
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    // A filter put in place after the start.
                    Err(Errno::NOSYS | Errno::PERM) => break,
                    result => return Ok(result?),
                }
            }
        }
        Ok(walk::open(self.fd.as_fd(), rel, flags)?)
    }

    /// Device and inode of each file that is never served, as they are now.
    fn config(&self) -> Vec<Option<(u64, u64)>> {
        let identity = |name: &PathBuf| {
            let stat = fstat(self.at(name, PLACE).ok()?).ok()?;
            Some((stat.st_dev, stat.st_ino))
        };
        self.never_served.iter().map(identity).collect()
    }
}

fn beneath(root: &OwnedFd, rel: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(root, rel.as_ref(), flags, Mode::empty(), resolve)
}

/// R-CLEANPATH once more: `route` has decided it already, but no mistake there may open a door here.
fn is_clean(rel: &str) -> bool {
    !rel.bytes().any(|byte| matches!(byte, 0 | b'\n' | b'\\'))
        && rel.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

fn regular(stat: &Stat) -> Result<Stamp, Unopened> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(Stamp::of(stat)),
        FileType::Directory => Err(Unopened::Rule("R-DIR404")),
        FileType::Symlink => Err(Unopened::Rule("R-LINK")),
        _ => Err(Unopened::Rule("R-MISSING")),
    }
}

impl Stamp {
    #[allow(clippy::unnecessary_cast, reason = "the widths differ between targets")]
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        }
    }
}

impl From<Errno> for Unopened {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

impl Unopened {
    /// It is our trouble, not the file's: nothing is to be concluded from it.
    pub(super) fn is_passing(self) -> bool {
        let Self::Kernel(errno) = self else { return false };
        matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO | Errno::INTR)
    }

    pub(super) fn absent(self) -> Absent {
        match self {
            Self::Rule(rule) => Absent::Missing(rule),
            _ if self.is_passing() => Absent::Unknown,
            // Out of the root (EXDEV), round in circles, or through a magic link (ELOOP).
            Self::Kernel(Errno::XDEV | Errno::LOOP) => Absent::Missing("R-LINK"),
            Self::Kernel(Errno::ISDIR) => Absent::Missing("R-DIR404"),
            Self::Kernel(
                Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::INVAL | Errno::NXIO | Errno::NODEV,
            ) => Absent::Missing("R-MISSING"),
            Self::Kernel(_) => Absent::Forbidden,
        }
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
