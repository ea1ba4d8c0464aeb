//! Makes metric families, registers them and notes what each is, so that none is made and forgotten.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::family::{Family, Kind};

/// Before every name of ours.
pub(super) const PREFIX: &str = "compat_proxy";

/// Makes families and registers them.
pub(super) struct Maker {
    registry: Registry,
    made: RefCell<Vec<Family>>,
}

impl Maker {
    pub(super) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some(PREFIX.to_owned()), None)?;
        Ok(Self { registry, made: RefCell::default() })
    }

    /// The registry with all that was made, and the list of it.
    pub(super) fn done(self) -> (Registry, Vec<Family>) {
        let mut made = self.made.into_inner();
        made.sort_by(|one, other| one.name.cmp(&other.name));
        (self.registry, made)
    }

    fn add<C: Collector + Clone + 'static>(&self, kind: Kind, family: C) -> prometheus::Result<C> {
        self.registry.register(Box::new(family.clone()))?;
        self.made.borrow_mut().extend(family.desc().into_iter().map(|desc| Family {
            name: format!("{PREFIX}_{}", desc.fq_name),
            kind,
            help: desc.help.clone(),
            labels: desc.variable_labels.clone(),
        }));
        Ok(family)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(Kind::Counter, IntCounter::new(name, help)?)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.add(Kind::Counter, IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn float_counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<CounterVec> {
        self.add(Kind::Counter, CounterVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(Kind::Gauge, IntGauge::new(name, help)?)
    }

    pub(super) fn float_gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.add(Kind::Gauge, Gauge::new(name, help)?)
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.add(Kind::Gauge, IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn float_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<GaugeVec> {
        self.add(Kind::Gauge, GaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(Kind::Histogram, Histogram::with_opts(options)?)
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(Kind::Histogram, HistogramVec::new(options, labels)?)
    }
}
