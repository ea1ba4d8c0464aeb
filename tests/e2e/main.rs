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
mod attach;
mod balance;
mod bypass;
mod cli;
mod crowds;
mod death;
mod drain;
mod files;
mod forgery;
mod frameworks;
mod gunicorn;
mod headers;
mod hung;
mod launcher;
mod limits;
mod logs;
mod malformed;
mod observe;
mod oracle;
mod overload;
mod packed;
mod page;
mod printed;
mod proxying;
#[path = "../properties/readings.rs"]
mod readings;
mod recycle;
mod reload;
mod routing;
mod scale;
mod verbosity;
mod workers;
