//! Opening beneath a directory without openat2: one component at a time, links read and followed here.
//!
//! Directories stay open on the way down, and `..` (only ever from a link) goes back to the one we came from, not
//! to whatever its parent is by now: so no rename during the walk can lead above the root.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::Errno;

use super::resolve::PLACE;

/// As many links as the kernel itself follows.
const LINKS: usize = 40;

/// How often what was seen may be swapped for something else before it is opened.
const RACES: usize = 8;

/// `rel` beneath `root`, links followed as long as they stay inside; `EXDEV` when they leave, as openat2 says.
pub(super) fn open(root: BorrowedFd<'_>, rel: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    for _ in 0..RACES {
        match walk(root, rel, flags) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::XDEV)
}

fn walk(root: BorrowedFd<'_>, rel: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    if rel.as_os_str().len() > 4095 {
        return Err(Errno::NAMETOOLONG);
    }
    let mut dirs: Vec<OwnedFd> = Vec::new();
    let mut rest: Vec<OsString> = Vec::new();
    push(&mut rest, rel.as_os_str())?;
    let mut links = 0;
    while let Some(name) = rest.pop() {
        // It says nothing but that what stands before it is a directory: a file with something behind it is refused below.
        if name == "." || name.is_empty() {
            continue;
        }
        if name == ".." {
            dirs.pop().ok_or(Errno::XDEV)?;
            continue;
        }
        let here = dirs.last().map_or(root, AsFd::as_fd);
        let place = openat(here, &name, PLACE | OFlags::NOFOLLOW, Mode::empty())?;
        let stat = fstat(&place)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > LINKS {
                    return Err(Errno::LOOP);
                }
                let target = readlinkat(&place, c"", Vec::new())?;
                push(&mut rest, OsStr::from_bytes(target.to_bytes()))?;
            }
            FileType::Directory => dirs.push(place),
            _ if !rest.is_empty() => return Err(Errno::NOTDIR),
            _ if flags.contains(OFlags::PATH) => return Ok(place),
            _ => {
                let file = match openat(here, &name, flags | OFlags::NOFOLLOW, Mode::empty()) {
                    // A link since we looked.
                    Err(Errno::LOOP) => return Err(Errno::AGAIN),
                    result => result?,
                };
                let opened = fstat(&file)?;
                let same = (opened.st_dev, opened.st_ino) == (stat.st_dev, stat.st_ino);
                return if same { Ok(file) } else { Err(Errno::AGAIN) };
            }
        }
    }
    // The way ended at a directory.
    if flags.contains(OFlags::PATH) { dirs.pop().ok_or(Errno::ISDIR) } else { Err(Errno::ISDIR) }
}

/// The components of `path` on top of `rest`, first one uppermost.
fn push(rest: &mut Vec<OsString>, path: &OsStr) -> Result<(), Errno> {
    let bytes = path.as_bytes();
    if bytes.first() == Some(&b'/') {
        return Err(Errno::XDEV);
    }
    let components = bytes.split(|&byte| byte == b'/').rev();
    rest.extend(components.map(|name| OsString::from_vec(name.to_vec())));
    Ok(())
}
