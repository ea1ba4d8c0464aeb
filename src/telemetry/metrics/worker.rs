//! What the processes of a worker use: one set of gauges for each slot, written by the supervisor once a second.

use prometheus::{CounterVec, GaugeVec, IntGaugeVec};

use super::maker::Maker;

/// The families.
#[derive(Debug, Clone)]
pub struct WorkerUsages {
    resident: IntGaugeVec,
    virtual_memory: IntGaugeVec,
    descriptors: IntGaugeVec,
    threads: IntGaugeVec,
    start_time: GaugeVec,
    cpu: CounterVec,
}

/// What the processes of one slot use at a moment; all 0 while there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WorkerUsage {
    /// Resident memory, bytes.
    pub resident: u64,
    /// Address space, bytes.
    pub virtual_memory: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// When the process was started, Unix seconds.
    pub start_time: f64,
}

impl WorkerUsages {
    pub(super) fn new(make: &Maker) -> prometheus::Result<Self> {
        let worker = &["worker"];
        Ok(Self {
            resident: make.gauges(
                "worker_resident_memory_bytes",
                "resident memory of the worker's processes; shared pages count for each of them",
                worker,
            )?,
            virtual_memory: make.gauges(
                "worker_virtual_memory_bytes",
                "address space of the worker's processes",
                worker,
            )?,
            descriptors: make.gauges(
                "worker_open_fds",
                "file descriptors open in the worker's processes",
                worker,
            )?,
            threads: make.gauges("worker_threads", "threads of the worker's processes", worker)?,
            start_time: make.float_gauges(
                "worker_start_time_seconds",
                "when the worker's process was started, Unix time; 0 while there is none",
                worker,
            )?,
            cpu: make.float_counters(
                "worker_cpu_seconds_total",
                "processor time used by the worker's processes",
                &["worker", "mode"],
            )?,
        })
    }

    /// Says what a slot uses now.
    pub fn set(&self, worker: usize, usage: &WorkerUsage) {
        let worker = worker.to_string();
        let whole = [
            (&self.resident, usage.resident),
            (&self.virtual_memory, usage.virtual_memory),
            (&self.descriptors, usage.descriptors),
            (&self.threads, usage.threads),
        ];
        for (gauges, value) in whole {
            gauges.with_label_values(&[&worker]).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.start_time.with_label_values(&[&worker]).set(usage.start_time);
    }

    /// Adds processor time used in user and in system mode, seconds.
    pub fn add_cpu(&self, worker: usize, user: f64, system: f64) {
        let worker = worker.to_string();
        for (mode, seconds) in [("user", user), ("system", system)] {
            self.cpu.with_label_values(&[worker.as_str(), mode]).inc_by(seconds.max(0.0));
        }
    }

    /// Takes the gauges of a slot away that is no more. Its processor time stays: counters do not vanish.
    pub(super) fn forget(&self, worker: &str) {
        for gauges in [&self.resident, &self.virtual_memory, &self.descriptors, &self.threads] {
            // What was never set is not there to be removed.
            let _ = gauges.remove_label_values(&[worker]);
        }
        let _ = self.start_time.remove_label_values(&[worker]);
    }
}
