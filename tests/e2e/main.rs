//! The real binary from outside: a folder, a command, bytes in, bytes out.
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

mod harness;

mod admin;
mod balance;
mod bypass;
mod cli;
mod drain;
mod files;
mod frameworks;
mod gunicorn;
mod headers;
mod launcher;
mod observe;
mod oracle;
mod proxying;
mod reload;
mod routing;
mod workers;
