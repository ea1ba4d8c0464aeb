//! The header fields of a file under one set of handler options, built once and copied from then on.
//!
//! Only `Expires` changes from one second to the next; its text is kept for the second it is good for.
//! `http_headers` win over every field of ours.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED,
};
use http::{HeaderName, HeaderValue};

use crate::appyaml::StaticOptions;

use super::conditional::Validators;
use super::entry::Entry;

/// The last second an HTTP date can name: 9999-12-31 23:59:59.
const LAST_SECOND: u64 = 253_402_300_799;

/// A field as it is sent.
type Field = (HeaderName, HeaderValue);

/// See the module.
#[derive(Debug)]
pub(super) struct Head {
    options: StaticOptions,
    whole: Vec<Field>,
    not_modified: Vec<Field>,
    expires: Option<Expires>,
    /// What conditions are compared with: what is sent, wherever it comes from.
    pub(super) validators: Validators,
    /// Whether a range may be asked for.
    pub(super) ranges: bool,
}

impl Head {
    /// `tag` is the entry's own, when it is known.
    pub(super) fn build(entry: &Entry, tag: Option<&HeaderValue>, options: &StaticOptions) -> Self {
        let given: Vec<Field> = options.http_headers.iter().filter_map(field).collect();
        let find = |name| given.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone());

        let etag = find(&ETAG).or_else(|| tag.cloned());
        let modified = find(&LAST_MODIFIED).or_else(|| date(entry.modified?));
        let accepts = find(&ACCEPT_RANGES).unwrap_or(HeaderValue::from_static("bytes"));
        // Either of the two given means that the app speaks about caching itself.
        let ours = find(&CACHE_CONTROL).is_none() && find(&EXPIRES).is_none();
        let age = options.expiration.as_secs();
        let control = if ours { text(format!("public, max-age={age}")) } else { find(&CACHE_CONTROL) };

        let named = [CONTENT_TYPE, ETAG, LAST_MODIFIED, ACCEPT_RANGES, CACHE_CONTROL];
        let rest = || given.iter().filter(|(name, _)| !named.contains(name)).cloned();
        let with = |name: HeaderName, value: &Option<HeaderValue>| value.clone().map(|value| (name, value));

        let media = find(&CONTENT_TYPE).or_else(|| options.mime_type.as_deref().and_then(value));
        let media = media.unwrap_or(HeaderValue::from_static(entry.media));
        let mut whole = vec![(CONTENT_TYPE, media), (CONTENT_LENGTH, HeaderValue::from(entry.length()))];
        whole.extend(with(ETAG, &etag));
        whole.extend(with(LAST_MODIFIED, &modified));
        whole.push((ACCEPT_RANGES, accepts.clone()));
        whole.extend(with(CACHE_CONTROL, &control));
        whole.extend(rest());

        // RFC 9110, section 15.4.5: nothing about the content that the tag does not say already.
        let mut not_modified = Vec::with_capacity(given.len() + 2);
        not_modified.extend(with(ETAG, &etag).or_else(|| with(LAST_MODIFIED, &modified)));
        not_modified.extend(with(CACHE_CONTROL, &control));
        not_modified.extend(rest());

        let dated = modified.as_ref().and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
        Self {
            options: options.clone(),
            whole,
            not_modified,
            expires: ours.then(|| Expires::new(age)),
            validators: Validators { tag: etag, modified: dated },
            ranges: !accepts.as_bytes().eq_ignore_ascii_case(b"none"),
        }
    }

    /// Whether it was built for options that say the same.
    pub(super) fn is_for(&self, options: &StaticOptions) -> bool {
        self.options.expiration == options.expiration
            && self.options.mime_type == options.mime_type
            && self.options.http_headers == options.http_headers
    }

    /// The fields of a 200.
    pub(super) fn whole(&self, now: SystemTime) -> Vec<Field> {
        self.with_expires(&self.whole, now)
    }

    /// The fields of a 206 with the bytes from `first` to `last`.
    pub(super) fn part(&self, now: SystemTime, first: u64, last: u64, length: u64) -> Vec<Field> {
        let mut fields = self.with_expires(&self.whole, now);
        if let Some((_, value)) = fields.iter_mut().find(|(name, _)| *name == CONTENT_LENGTH) {
            *value = HeaderValue::from(last + 1 - first);
        }
        let range = text(format!("bytes {first}-{last}/{length}"));
        fields.extend(range.map(|range| (CONTENT_RANGE, range)));
        fields
    }

    /// The fields of a 304.
    pub(super) fn not_modified(&self, now: SystemTime) -> Vec<Field> {
        self.with_expires(&self.not_modified, now)
    }

    fn with_expires(&self, fields: &[Field], now: SystemTime) -> Vec<Field> {
        // Room for `Expires` and for the one field of a part.
        let mut all = Vec::with_capacity(fields.len() + 2);
        all.extend_from_slice(fields);
        if let Some(expires) = &self.expires {
            all.push((EXPIRES, expires.at(now)));
        }
        all
    }
}

/// `Expires: Date + age`, good for a second.
#[derive(Debug)]
struct Expires {
    age: u64,
    text: ArcSwap<(u64, HeaderValue)>,
}

impl Expires {
    fn new(age: u64) -> Self {
        Self { age, text: ArcSwap::from_pointee((u64::MAX, HeaderValue::from_static("0"))) }
    }

    fn at(&self, now: SystemTime) -> HeaderValue {
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let kept = self.text.load();
        if kept.0 == second {
            return kept.1.clone();
        }
        let then = second.saturating_add(self.age).min(LAST_SECOND);
        let value = date(UNIX_EPOCH + Duration::from_secs(then)).unwrap_or(HeaderValue::from_static("0"));
        self.text.store(std::sync::Arc::new((second, value.clone())));
        value
    }
}

/// A header of `http_headers`; the application is only loaded when all of them are sound.
fn field((name, text): &(String, String)) -> Option<Field> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let ours = [CONTENT_LENGTH, CONTENT_RANGE].contains(&name);
    if ours { None } else { Some((name, value(text)?)) }
}

fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

fn text(text: String) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

fn date(time: SystemTime) -> Option<HeaderValue> {
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    if seconds > LAST_SECOND { None } else { text(httpdate::fmt_http_date(time)) }
}
