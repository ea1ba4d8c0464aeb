//! Any bytes as a request target: no panic, and nothing is let through that some reader could take for a protected page.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/properties/readings.rs"]
mod readings;
#[path = "../../tests/properties/targets.rs"]
mod targets;

fuzz_target!(|bytes: &[u8]| {
    // Longer ones have more readings than can be tried, and nothing new to tell.
    if bytes.len() <= 48 {
        targets::judge(bytes);
    }
});
