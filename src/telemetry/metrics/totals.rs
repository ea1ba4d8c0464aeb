//! What was answered so far, over all handlers: the few numbers that a rate and a latency are worked out from.

use prometheus::core::Collector;

use super::Metrics;
use super::buckets::REQUEST_SECONDS;

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests answered.
    pub requests: u64,
    /// Those answered with a 5xx.
    pub server_errors: u64,
    /// Requests by the time they took: in bucket `n` those within [`Totals::BOUNDS`]`[n]` and not within the bound
    /// before, in the last one all that took longer.
    pub buckets: [u64; REQUEST_SECONDS.len() + 1],
}

impl Totals {
    /// The upper bounds of the buckets but the last, seconds.
    pub const BOUNDS: &'static [f64] = REQUEST_SECONDS;

    /// What came since `before`. The series of a handler that is gone are gone with it: then less may be there.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            server_errors: self.server_errors.saturating_sub(before.server_errors),
            buckets: std::array::from_fn(|at| self.buckets[at].saturating_sub(before.buckets[at])),
        }
    }

    /// The time within which this share of the requests was answered, as Prometheus's `histogram_quantile` estimates
    /// it: evenly spread within a bucket, and never above the highest bound. None without a request.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a count of 2^52 requests is not exact to the request")]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.buckets.iter().sum();
        if all == 0 {
            return None;
        }
        let rank = share * all as f64;
        let (mut below, mut from) = (0_u64, 0.0);
        for (count, bound) in self.buckets.iter().zip(Self::BOUNDS) {
            if (below + count) as f64 >= rank && *count > 0 {
                return Some(from + (bound - from) * ((rank - below as f64) / *count as f64).clamp(0.0, 1.0));
            }
            below += count;
            from = *bound;
        }
        Some(from)
    }
}

impl Metrics {
    /// What was answered so far. Reads what a scrape reads, of one family.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for family in self.duration.collect() {
            for series in family.get_metric() {
                let histogram = series.get_histogram();
                let count = histogram.get_sample_count();
                totals.requests += count;
                if series
                    .get_label()
                    .iter()
                    .any(|label| label.value() == "5xx" && label.name() == "code_class")
                {
                    totals.server_errors += count;
                }
                let mut below = 0;
                for (total, bucket) in totals.buckets.iter_mut().zip(histogram.get_bucket()) {
                    *total += bucket.cumulative_count().saturating_sub(below);
                    below = bucket.cumulative_count();
                }
                if let Some(last) = totals.buckets.last_mut() {
                    *last += count.saturating_sub(below);
                }
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::{Answered, HandlerKind};
    use super::*;

    fn answer(metrics: &Metrics, label: &str, status: u16, seconds: f64) {
        let handler = metrics.handler(label, HandlerKind::Script);
        handler.answered(&Answered { method: &Method::GET, status, seconds, bytes_in: 0, bytes_out: 0 });
    }

    #[test]
    fn what_was_answered_is_summed_over_all_handlers() {
        let metrics = Metrics::new().unwrap();
        assert_eq!(metrics.totals(), Totals::default());
        for (label, status, seconds) in
            [("/a", 200, 0.001), ("/a", 503, 0.3), ("/b", 404, 0.3), ("/b", 500, 99.0)]
        {
            answer(&metrics, label, status, seconds);
        }
        let totals = metrics.totals();
        assert_eq!((totals.requests, totals.server_errors), (4, 2));
        assert_eq!((totals.buckets[0], totals.buckets[7], totals.buckets.last()), (1, 2, Some(&1)));
        assert_eq!(totals.buckets.iter().sum::<u64>(), 4);
    }

    #[test]
    fn a_quantile_lies_within_its_bucket_and_never_above_the_highest_bound() {
        let metrics = Metrics::new().unwrap();
        assert_eq!(metrics.totals().quantile(0.5), None);
        for _ in 0..90 {
            answer(&metrics, "/a", 200, 0.03);
        }
        let before = metrics.totals();
        let half = before.quantile(0.5).unwrap();
        assert!((0.025..=0.05).contains(&half), "{half}");
        for _ in 0..10 {
            answer(&metrics, "/a", 200, 200.0);
        }
        assert_eq!(metrics.totals().quantile(0.99), Some(60.0));
        assert_eq!(metrics.totals().since(&before).quantile(0.5), Some(60.0));
        assert_eq!(before.since(&metrics.totals()), Totals::default());
    }
}
