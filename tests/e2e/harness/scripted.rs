//! An app that answers with bytes a test wrote, right or wrong, and goes on with the connection as if nothing were.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The connection is kept.
    Keep,
    /// It is closed.
    Close,
}

/// The app: `GET /N` gets the answer number N, any other target `200` with the target as its body.
pub struct Scripted {
    address: String,
    stopped: Arc<AtomicBool>,
}

impl Scripted {
    /// On a port the kernel picks.
    pub fn start(answers: Vec<(Vec<u8>, Then)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let stopped = Arc::new(AtomicBool::new(false));
        let (over, answers) = (Arc::clone(&stopped), Arc::new(answers));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let answers = Arc::clone(&answers);
                std::thread::spawn(move || serve(stream, &answers));
            }
        });
        Self { address, stopped }
    }

    /// As `--upstream` takes it.
    pub fn address(&self) -> String {
        self.address.clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(&self.address));
    }
}

fn serve(mut stream: TcpStream, answers: &[(Vec<u8>, Then)]) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            let mut piece = [0; 8192];
            match stream.read(&mut piece) {
                Ok(count) if count > 0 => buffer.extend_from_slice(&piece[..count]),
                _ => return,
            }
        };
        let head: Vec<u8> = buffer.drain(..end).collect();
        let target = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
        let number = target.trim_start_matches('/').parse::<usize>().ok();
        let (bytes, then) = match number.and_then(|number| answers.get(number)) {
            Some((bytes, then)) => (bytes.clone(), *then),
            None => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
                (head.into_bytes(), Then::Keep)
            }
        };
        if stream.write_all(&bytes).is_err() || then == Then::Close {
            return;
        }
    }
}
