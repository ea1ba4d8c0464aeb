//! compat-proxy runs App Engine Standard apps anywhere: a reverse proxy that enforces `app.yaml`, serves its
//! static handlers, and starts and supervises the app behind it.
//!
//! The rooms, from the ground up; a module imports from lower floors only (`tests/house.rs` keeps it so):
//!
//! | floor | rooms |
//! |---|---|
//! | 7 | `cli`: the commands, the only place that talks to a person |
//! | 6 | `run`: builds all of it, ends all of it |
//! | 5 | `admin`: probes, metrics, the status page |
//! | 4 | `proxy`: one request through; `reload`: old configuration to new |
//! | 3½ | `plan`: what the workers must be; `explain`: a URL's fate, told; `export`: what runs the app elsewhere |
//! | 3 | `site`: all a request needs, frozen; `worker`: processes; `upstream`: connections to them |
//! |   | `door`: connections of clients |
//! | 2 | `route`, `files`, `headers`, `balance`, `drain`: the mechanisms |
//! | 1 | `appyaml`, `settings`, `telemetry`, `listen`: the words |
//! | 0 | `pattern`: Python's regular expressions; `secrets`: what must not be shown |

pub mod admin;
pub mod appyaml;
pub mod balance;
pub mod cli;
pub mod door;
pub mod drain;
pub mod explain;
pub mod export;
pub mod files;
pub mod headers;
pub mod listen;
pub mod pattern;
pub mod plan;
pub mod proxy;
pub mod reload;
pub mod route;
pub mod run;
pub mod secrets;
pub mod settings;
pub mod site;
pub mod telemetry;
pub mod upstream;
pub mod worker;
