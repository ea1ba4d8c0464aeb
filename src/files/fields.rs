//! The header fields of one answer, built once and copied from then on.
//!
//! A copy costs two allocations and hashes nothing. Only `Expires` changes from one second to the next; the copy
//! that is good for the running second is kept.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
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
    fields: Vec<Field>,
    /// Seconds from `Date` to `Expires`, where that is ours to say.
    age: Option<u64>,
    /// For the second it was built in; for ever without `Expires`.
    built: ArcSwapOption<(u64, HeaderMap)>,
}

impl Fields {
    pub(super) fn new(fields: Vec<Field>, age: Option<u64>) -> Self {
        Self { fields, age, built: ArcSwapOption::empty() }
    }

    /// All of them at this time.
    pub(super) fn at(&self, now: SystemTime) -> HeaderMap {
        let second = match self.age {
            Some(_) => now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            None => 0,
        };
        if let Some(built) = &*self.built.load()
            && built.0 == second
        {
            return built.1.clone();
        }
        let map = self.build(second);
        self.built.store(Some(Arc::new((second, map.clone()))));
        map
    }

    fn build(&self, second: u64) -> HeaderMap {
        // Room for two more, and the two the writer sets anyway: it overwrites these, and the copy need not grow.
        let mut map = HeaderMap::with_capacity(self.fields.len() + 3);
        for (name, value) in &self.fields {
            map.append(name, value.clone());
        }
        if let Some(age) = self.age {
            let then = second.saturating_add(age).min(LAST_SECOND);
            let value = date(UNIX_EPOCH + Duration::from_secs(then));
            map.insert(EXPIRES, value.unwrap_or(HeaderValue::from_static("0")));
        }
        map.insert(DATE, HeaderValue::from_static(""));
        map.insert(CONNECTION, HeaderValue::from_static(""));
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
