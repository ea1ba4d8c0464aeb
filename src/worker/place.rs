//! Where a worker is to listen: a private unix socket, or a port on the loopback.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::command::{Place, Template};

/// The longest path a socket address holds, without its closing NUL.
const LONGEST: usize = 107;
/// How often the kernel is asked again when it names a port that was just given to another worker.
const PORT_TRIES: usize = 16;

/// Gives out places. Owns the private directory and removes it in the end.
#[derive(Debug, Default)]
pub(super) struct Places {
    dir: Option<TempDir>,
    ports: BTreeSet<u16>,
}

impl Places {
    /// The private directory, made when the first socket needs it.
    pub(super) fn dir(&self) -> Option<&Path> {
        self.dir.as_ref().map(TempDir::path)
    }

    /// Makes the directory now if `template` will need it, so that a failure is told at the start.
    pub(super) fn prepare(&mut self, template: &Template) -> io::Result<()> {
        if template.uses_socket() && self.dir.is_none() {
            self.dir = Some(private_dir()?);
        }
        Ok(())
    }

    /// A place nobody else has. A name is never used twice, so a late predecessor cannot be mistaken for its heir.
    pub(super) fn allot(&mut self, template: &Template, worker: usize, generation: u64) -> io::Result<Place> {
        self.prepare(template)?;
        let socket = match self.dir() {
            Some(dir) if template.uses_socket() => Some(dir.join(format!("{worker}-{generation}.sock"))),
            _ => None,
        };
        let port = if socket.is_none() || template.uses_port() { Some(self.free_port()?) } else { None };
        Ok(Place { worker, port, socket })
    }

    /// Takes a place back when its process has ended.
    pub(super) fn release(&mut self, place: &Place) {
        if let Some(path) = &place.socket {
            // Often the process has removed it already.
            let _ = std::fs::remove_file(path);
        }
        if let Some(port) = place.port {
            self.ports.remove(&port);
        }
    }

    /// A port the kernel says is free. Another program may take it before the worker binds it: then the worker ends,
    /// and is started again with a fresh one.
    fn free_port(&mut self) -> io::Result<u16> {
        for _ in 0..PORT_TRIES {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            if self.ports.insert(port) {
                return Ok(port);
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port on the loopback"))
    }
}

/// A directory of ours alone, with a path short enough for the sockets in it.
fn private_dir() -> io::Result<TempDir> {
    let own = std::env::temp_dir();
    let mut last = None;
    for parent in [own.as_path(), Path::new("/tmp"), Path::new("/run"), Path::new("/dev/shm")] {
        // `/compat-proxy-XXXXXX/NNNN-NNNNNNNNNN.sock` must fit behind it.
        if parent.as_os_str().as_bytes().len() + 45 > LONGEST {
            continue;
        }
        let made = tempfile::Builder::new()
            .prefix("compat-proxy-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(parent);
        match made {
            Ok(dir) => return Ok(dir),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no place for a private directory")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_private_short_and_never_named_twice() {
        let template = Template::parse("serve {socket}").expect("valid command");
        let mut places = Places::default();
        let first = places.allot(&template, 1, 7).expect("a place");
        let second = places.allot(&template, 1, 8).expect("a place");
        assert_ne!(first.socket, second.socket);
        assert_eq!(first.port, None);

        let dir = places.dir().expect("a directory").to_owned();
        assert_eq!(dir.metadata().expect("it exists").permissions().mode() & 0o777, 0o700);
        assert!(first.socket.expect("a socket").as_os_str().len() <= LONGEST);
        drop(places);
        assert!(!dir.exists());
    }

    #[test]
    fn without_a_socket_each_worker_has_a_port_of_its_own() {
        let template = Template::parse("serve").expect("valid command");
        let mut places = Places::default();
        let ports: BTreeSet<_> =
            (0..20).map(|n| places.allot(&template, n, 0).expect("a place").port).collect();
        assert_eq!(ports.len(), 20);
        assert!(places.dir().is_none());
    }
}
