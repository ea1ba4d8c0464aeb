//! Any bytes as a request head: no panic, and what pingora's parser and our strict check let through is read in the same
//! way by a reader made of nothing but bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/properties/heads.rs"]
mod heads;

fuzz_target!(|bytes: &[u8]| {
    heads::agree(bytes);
});
