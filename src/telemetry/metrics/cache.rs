//! The static files held in memory: how often a look found one there, and what they take.

use prometheus::{IntCounter, IntGauge};

use super::maker::Maker;

const RESULTS: [&str; 3] = ["hit", "miss", "absent"];

/// The families.
#[derive(Debug, Clone)]
pub struct StaticCache {
    requests: [IntCounter; RESULTS.len()],
    bytes: IntGauge,
    entries: IntGauge,
}

impl StaticCache {
    pub(super) fn new(make: &Maker) -> prometheus::Result<Self> {
        let requests = make.counters(
            "static_cache_requests_total",
            "looks for static files: known (hit), opened (miss), known not to be there (absent)",
            &["result"],
        )?;
        Ok(Self {
            requests: RESULTS.map(|result| requests.with_label_values(&[result])),
            bytes: make.gauge(
                "static_cache_bytes",
                "what static files and their packed copies held in memory count for",
            )?,
            entries: make.gauge("static_cache_entries", "static files held in memory or open")?,
        })
    }

    /// The counters of looks: known, opened, known not to be there.
    #[must_use]
    pub fn looks(&self) -> [IntCounter; RESULTS.len()] {
        self.requests.clone()
    }

    /// Says how full it is.
    pub fn set(&self, entries: u64, bytes: u64) {
        self.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
