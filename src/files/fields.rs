//! The header fields of one answer, built once and copied from then on.
//!
//! A copy costs two allocations and hashes nothing. Only `Expires` changes from one second to the next; the copy
//! that is good for the running second is kept.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CONNECTION, DATE, EXPIRES};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The last second an HTTP date can name: 9999-12-31 23:59:59.
const LAST_SECOND: u64 = 253_402_300_799;

/// A field as it is sent.
pub(super) type Field = (HeaderName, HeaderValue);

/// See the module.
#[derive(Debug)]
pub(super) struct Fields {
    /// Seconds from `Date` to `Expires`, where that is ours to say.
    age: Option<u64>,
    /// As they are in this second; without `Expires` they are always the same.
    now: ArcSwap<(u64, HeaderMap)>,
}

impl Fields {
    pub(super) fn new(fields: Vec<Field>, age: Option<u64>) -> Self {
        // Room for `Expires` and for the two the writer sets: it overwrites these, and a copy need not grow.
        let mut map = HeaderMap::with_capacity(fields.len() + 3);
        for (name, value) in fields {
            map.append(name, value);
        }
        for name in age.map(|_| EXPIRES).into_iter().chain([DATE, CONNECTION]) {
            map.insert(name, HeaderValue::from_static(""));
        }
        // The copy is no larger than it must be.
        Self { age, now: ArcSwap::from_pointee((0, map.clone())) }
    }

    /// All of them at this time.
    pub(super) fn at(&self, now: SystemTime) -> HeaderMap {
        let kept = self.now.load();
        let Some(age) = self.age else { return kept.1.clone() };
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if kept.0 == second {
            return kept.1.clone();
        }
        let mut map = kept.1.clone();
        let expires = date(UNIX_EPOCH + Duration::from_secs(second.saturating_add(age).min(LAST_SECOND)));
        map.insert(EXPIRES, expires.unwrap_or(HeaderValue::from_static("0")));
        self.now.store(Arc::new((second, map.clone())));
        map
    }
}

pub(super) fn text(text: String) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

pub(super) fn date(time: SystemTime) -> Option<HeaderValue> {
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    if seconds > LAST_SECOND { None } else { text(httpdate::fmt_http_date(time)) }
}
