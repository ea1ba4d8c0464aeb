//! The real binary from outside: a folder, a command, bytes in, bytes out.
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

mod harness;
#[path = "../support/packages.rs"]
mod packages;

mod admin;
mod balance;
mod bypass;
mod cli;
mod death;
mod drain;
mod files;
mod frameworks;
mod headers;
mod hung;
mod launcher;
mod observe;
mod oracle;
mod overload;
mod packed;
mod proxying;
mod recycle;
mod reload;
mod routing;
mod workers;
