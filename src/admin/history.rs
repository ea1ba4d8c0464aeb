//! The last five minutes, for the charts: what was answered, noted every two seconds by the control thread, which
//! serves nobody. In memory only, of a fixed size; who wants more asks Prometheus.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use crate::telemetry::metrics::{Metrics, Totals};

/// Between two samples.
const EVERY: Duration = Duration::from_secs(2);
/// Samples kept: as many as [`SPAN`] holds, and one to begin with.
const KEPT: usize = 151;
/// How far back the samples go.
pub(super) const SPAN: Duration = Duration::from_secs(300);
/// Samples that one point looks back over: ten seconds, for a rate of two would jump about.
const WINDOW: usize = 5;

/// What was answered by when.
#[derive(Debug)]
pub struct History {
    metrics: Arc<Metrics>,
    samples: Mutex<VecDeque<(Instant, Totals)>>,
}

/// The ten seconds before a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// Its age.
    pub(super) age: Duration,
    /// Requests a second.
    pub(super) requests: f64,
    /// Those of them that were answered with a 5xx.
    pub(super) server_errors: f64,
    /// Half of the requests took no longer, seconds; none without a request.
    pub(super) p50: Option<f64>,
    /// 95 of 100 took no longer.
    pub(super) p95: Option<f64>,
}

impl History {
    /// Empty but for now.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let history = Self { metrics, samples: Mutex::default() };
        history.note(Instant::now());
        history
    }

    /// Notes what was answered, for ever.
    pub async fn keep(&self) -> Infallible {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one is at once.
        tick.tick().await;
        loop {
            tick.tick().await;
            self.note(Instant::now());
        }
    }

    fn note(&self, now: Instant) {
        let totals = self.metrics.totals();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        while samples.len() >= KEPT {
            samples.pop_front();
        }
        samples.push_back((now, totals));
    }

    /// What was answered over the last five minutes, the oldest first.
    pub(super) fn points(&self, now: Instant) -> Vec<Point> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let point = |end: usize| {
            let (from, before) = samples.get(end.saturating_sub(WINDOW))?;
            let (to, totals) = samples.get(end)?;
            let seconds = to.duration_since(*from).as_secs_f64();
            let came = totals.since(before);
            #[allow(clippy::cast_precision_loss, reason = "no rate is that high")]
            let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
            Some(Point {
                age: now.duration_since(*to),
                requests: rate(came.requests),
                server_errors: rate(came.server_errors),
                p50: came.quantile(0.5),
                p95: came.quantile(0.95),
            })
        };
        (1..samples.len()).filter_map(point).filter(|point| point.age <= SPAN).collect()
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::telemetry::metrics::{Answered, HandlerKind};

    #[test]
    fn a_point_is_the_rate_of_the_ten_seconds_before_it() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let handler = metrics.handler("/a", HandlerKind::Script);
        let history = History::new(Arc::clone(&metrics));
        let start = history.samples.lock().unwrap()[0].0;
        assert!(history.points(start).is_empty());
        for second in 1..=20_u64 {
            for number in 0..6 {
                let status = if number == 0 { 500 } else { 200 };
                let method = &Method::GET;
                handler.answered(&Answered { method, status, seconds: 0.02, bytes_in: 0, bytes_out: 0 });
            }
            history.note(start + Duration::from_secs(second * 2));
        }
        let points = history.points(start + Duration::from_secs(40));
        assert_eq!(points.len(), 20);
        for point in points {
            assert!(
                (point.requests - 3.0).abs() < 1e-9 && (point.server_errors - 0.5).abs() < 1e-9,
                "{point:?}"
            );
            assert!(point.p50 < point.p95 && point.p95 <= Some(0.025), "{point:?}");
        }
    }

    #[test]
    fn it_does_not_grow_and_forgets_what_is_older_than_five_minutes() {
        let history = History::new(Arc::new(Metrics::new().unwrap()));
        let start = history.samples.lock().unwrap()[0].0;
        for number in 1..=1000_u32 {
            history.note(start + EVERY * number);
        }
        assert_eq!(history.samples.lock().unwrap().len(), KEPT);
        let points = history.points(start + EVERY * 1000);
        assert_eq!((points.len(), points[0].age), (KEPT - 1, SPAN - EVERY));
        assert!(history.points(start + EVERY * 1000 + SPAN * 2).is_empty());
    }
}
