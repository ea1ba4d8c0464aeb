//! The real binary from outside: a folder, a command, bytes in, bytes out.
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test may panic and print")]

mod harness;

mod admin;
mod bypass;
mod cli;
mod files;
mod headers;
mod oracle;
mod proxying;
mod routing;
