//! What the steps of one request cost, in time: `cargo bench`, or `cargo bench -- route` for some of it. README.md tells
//! how to read the figures; what is promised of them is kept by `tests/cost.rs` and `tests/e2e/scale.rs`.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot begin should stop")]

mod balance;
mod files;
mod headers;
mod route;

fn main() {
    divan::main();
}
