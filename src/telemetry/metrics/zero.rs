//! What stands at zero from the first scrape on, so that `rate()` and alerts see the first event of a kind; and what
//! is taken away again when the handler or the slot it belongs to is gone.

use std::collections::{HashMap, HashSet};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};

use super::{CLASSES, Metrics, WORKER_STATES, WorkerUsage};

/// How a process may end, as far as it is foreseen: others appear with the first of their kind.
const EXITS: [[&str; 2]; 6] = [
    ["exit", "0"],
    ["exit", "1"],
    ["exit", "not_started"],
    ["signal", "SIGTERM"],
    ["signal", "SIGKILL"],
    ["oom", "SIGKILL"],
];

impl Metrics {
    /// So that `rate()` and alerts work from the first scrape.
    pub(super) fn start_at_zero(&self) {
        for state in WORKER_STATES {
            self.workers.with_label_values(&[state]).set(0);
        }
        for reason in ["full", "timeout", "draining"] {
            self.queue_rejected.with_label_values(&[reason]);
        }
        for result in ["success", "failure"] {
            self.config_reloads.with_label_values(&[result]);
        }
        for result in ["ok", "failed"] {
            for reason in ["connect_error", "reset"] {
                self.upstream_retries.with_label_values(&[reason, result]);
            }
        }
        self.upstream_retries.with_label_values(&["reset", "over_budget"]);
        for severity in ["warning", "note"] {
            self.config_warnings.with_label_values(&[severity]).set(0);
        }
        for stream in ["access", "events", "workers"] {
            self.log_dropped.with_label_values(&[stream]);
        }
        self.lifecycle("starting");
    }

    /// A slot's series at zero. `reasons` are those for which a process may be started; none for an attached upstream.
    pub fn begin_worker(&self, slot: usize, reasons: &[&str]) {
        let worker = slot.to_string();
        for class in CLASSES {
            self.worker_requests.with_label_values(&[worker.as_str(), class]);
        }
        let failures: &[&str] = if reasons.is_empty() { &["lost"] } else { &["refused", "timeout", "hung"] };
        for result in failures.iter().chain(&["ok"]) {
            self.worker_health_checks.with_label_values(&[worker.as_str(), result]);
        }
        self.worker_ready.with_label_values(&[&worker]);
        self.worker_in_flight.with_label_values(&[&worker]);
        for reason in reasons {
            self.worker_starts.with_label_values(&[worker.as_str(), reason]);
        }
        if !reasons.is_empty() {
            for [kind, status] in EXITS {
                self.worker_exits.with_label_values(&[worker.as_str(), kind, status]);
            }
            self.worker_usage.set(slot, &WorkerUsage::default());
            self.worker_usage.add_cpu(slot, 0.0, 0.0);
        }
    }

    /// Takes the gauges of a slot away that is no more. What was counted for it stays.
    pub fn forget_worker(&self, slot: usize) {
        let worker = slot.to_string();
        for gauges in [&self.worker_ready, &self.worker_in_flight] {
            // What was never set is not there to be removed.
            let _ = gauges.remove_label_values(&[&worker]);
        }
        self.worker_usage.forget(&worker);
    }

    /// Takes the series of handlers away that are not in `kept`: a proxy that is reloaded for years must not grow.
    pub fn keep_handlers(&self, kept: &HashSet<&str>) {
        retain(&self.requests, kept);
        retain(&self.duration, kept);
        retain(&self.last_request, kept);
        retain(&self.login_blocked, kept);
        retain(&self.static_requests, kept);
    }
}

fn retain<T: MetricVecBuilder>(family: &MetricVec<T>, kept: &HashSet<&str>) {
    for metric in family.collect().iter().flat_map(|family| family.get_metric()) {
        let labels: HashMap<&str, &str> =
            metric.get_label().iter().map(|label| (label.name(), label.value())).collect();
        if labels.get("handler").is_some_and(|handler| !handler.starts_with('_') && !kept.contains(handler)) {
            // Nobody else removes any.
            let _ = family.remove(&labels);
        }
    }
}
