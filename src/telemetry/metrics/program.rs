//! The program itself: what was built, and what its process uses.

use std::sync::OnceLock;

use prometheus::core::Collector as _;

use super::maker::Maker;

/// What it was built for.
const TARGET: &str =
    match (cfg!(target_arch = "x86_64"), cfg!(target_arch = "aarch64"), cfg!(target_env = "musl")) {
        (true, _, false) => "x86_64-linux-gnu",
        (true, _, true) => "x86_64-linux-musl",
        (_, true, false) => "aarch64-linux-gnu",
        (_, true, true) => "aarch64-linux-musl",
        _ => std::env::consts::ARCH,
    };
/// Says once and for all what runs.
pub(super) fn announce(make: &Maker) -> prometheus::Result<()> {
    let labels = ["version", "revision", "target", "pingora"];
    let build = make.gauges("build_info", "the running program; always 1", &labels)?;
    let revision = option_env!("COMPAT_PROXY_REVISION").unwrap_or("unknown");
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), revision, TARGET, pingora_version()]).set(1);
    Ok(())
}

/// CPU, memory, descriptors and start time of this process under their standard names.
pub(super) fn process_families() -> Vec<prometheus::proto::MetricFamily> {
    static PROCESS: OnceLock<prometheus::process_collector::ProcessCollector> = OnceLock::new();
    PROCESS.get_or_init(prometheus::process_collector::ProcessCollector::for_self).collect()
}

/// The version of pingora this program is built with; kept true by a test that reads `Cargo.lock`.
const fn pingora_version() -> &'static str {
    "0.9.1"
}
