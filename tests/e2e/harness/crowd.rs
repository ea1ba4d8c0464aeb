//! Clients that mean no good, or are merely slow, by the hundred, on one thread: heads and bodies that come drop by drop,
//! answers that are hardly taken. Those that are turned away come back.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Between two drops.
const DROP: Duration = Duration::from_millis(100);

/// What a client does.
#[derive(Clone, Debug)]
pub enum Manner {
    /// A byte of a head that never ends.
    Head,
    /// A byte of a body of this length.
    Body(usize),
    /// Takes a little of the answer to a GET of this target.
    Reader(String),
}

/// A crowd at work; goes home when dropped.
pub struct Crowd {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Times that one was turned away and came back.
    pub returned: Arc<AtomicUsize>,
}

struct Member {
    manner: Manner,
    stream: Option<TcpStream>,
}

impl Crowd {
    /// So many clients of each manner.
    pub fn gather(address: SocketAddr, manners: &[(usize, Manner)]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let returned = Arc::new(AtomicUsize::new(0));
        let mut members: Vec<Member> = manners
            .iter()
            .flat_map(|(count, manner)| (0..*count).map(|_| Member { manner: manner.clone(), stream: None }))
            .collect();
        for member in &mut members {
            member.come(address);
        }
        let (stop, back) = (Arc::clone(&over), Arc::clone(&returned));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                for member in &mut members {
                    if !member.goes_on() {
                        member.come(address);
                        back.fetch_add(1, Ordering::SeqCst);
                    }
                }
                std::thread::sleep(DROP);
            }
        });
        Self { over, thread: Some(thread), returned }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Member {
    fn come(&mut self, address: SocketAddr) {
        let start = match &self.manner {
            Manner::Head => "GET /head HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".to_owned(),
            Manner::Body(length) => {
                format!("POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
            }
            Manner::Reader(target) => format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        };
        self.stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok();
        if let Some(stream) = &mut self.stream {
            let _ = stream.write_all(start.as_bytes());
            let _ = stream.set_nonblocking(true);
        }
    }

    /// One drop; false when it was turned away.
    fn goes_on(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let mut piece = [0; 100];
        let took = match stream.read(&mut piece) {
            // An answer before all was sent turns it away.
            Ok(count) => matches!(self.manner, Manner::Reader(_)) && count > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        let gave =
            matches!(self.manner, Manner::Reader(_)) || stream.write(b"x").is_ok_and(|count| count > 0);
        took && gave
    }
}

/// Raises the limit of open files of this process as far as it goes; how far that is.
pub fn open_files() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// A size of a process from `/proc/PID/smaps_rollup`, in bytes: `Rss`, `Pss`.
pub fn memory(pid: i32, what: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).expect("a size");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}

/// The processor time a process has used, all its threads together.
pub fn processor_time(pid: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let rest = stat.rsplit(')').next().expect("fields");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    // Linux counts a hundred a second for user space, whatever the kernel's own tick.
    Duration::from_millis(ticks * 10)
}

/// Descriptors a process has open.
pub fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
