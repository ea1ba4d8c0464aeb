//! What headers mean at this border: which requests can be read in one way only, who the client is, what no
//! client may say, what the app is told, and what every response carries.
//!
//! 1. `line`: the request line as it came. `strict`: framing, target, Host and method, or a [`strict::Refusal`].
//! 2. `trust`: the client behind trusted proxies.
//! 3. `trace`: ids of the request and its trace.
//! 4. `send`: from the client's request head to the one the app gets.
//! 5. `finish`: what a response loses and gains.
//!
//! Only heads are looked at; nothing here reads or writes a socket.

pub mod finish;
pub mod line;
pub mod send;
pub mod strict;
pub mod trace;
pub mod trust;
