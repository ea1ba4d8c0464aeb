//! What is said of a file under one set of handler options: the header fields of each answer, the tags, and the
//! codings on offer. `http_headers` win over every field of ours.
//!
//! The tag of a packed copy is the file's own with the coding's name, and weak: copies that replicas made with
//! different versions or processors unpack to the same bytes and need not be the same. It is known before the copy.

use std::time::SystemTime;

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    EXPIRES, LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::appyaml::StaticOptions;

use super::coding::Coding;
use super::conditional::Validators;
use super::entry::Entry;
use super::fields::{Field, Fields, date, text};
use super::media;
use super::pack::Pack;

/// See the module.
#[derive(Debug)]
pub(super) struct Head {
    options: StaticOptions,
    /// By coding; there is always one for identity.
    faces: [Option<Face>; 3],
    /// Whether a range may be asked for.
    pub(super) ranges: bool,
    /// Whether gzip is to be made where there is no sibling.
    pub(super) make: bool,
}

/// One representation.
#[derive(Debug)]
pub(super) struct Face {
    /// What conditions are compared with: what is sent, wherever it comes from.
    pub(super) validators: Validators,
    /// Of a 200; none as long as the packed copy is not known.
    whole: Option<Fields>,
    not_modified: Fields,
}

/// What of a head is the same for all faces.
struct Common {
    given: Vec<Field>,
    media: HeaderValue,
    modified: Option<HeaderValue>,
    control: Option<HeaderValue>,
    accepts: HeaderValue,
    varies: bool,
    /// Of `Expires`, where that is ours to say.
    age: Option<u64>,
}

impl Head {
    /// `tag` is the entry's own, when it is known.
    pub(super) fn build(entry: &Entry, tag: Option<&HeaderValue>, options: &StaticOptions) -> Self {
        let given: Vec<Field> = options.http_headers.iter().filter_map(field).collect();
        let find = |name| given.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone());
        // Either of the two given means that the app speaks about caching itself.
        let ours = find(&CACHE_CONTROL).is_none() && find(&EXPIRES).is_none();
        let seconds = options.expiration.as_secs();
        let media = find(&CONTENT_TYPE).or_else(|| options.mime_type.as_deref().and_then(value));
        let media = media.unwrap_or(HeaderValue::from_static(entry.media));
        let control = if ours { text(format!("public, max-age={seconds}")) } else { find(&CACHE_CONTROL) };
        let own_tag = find(&ETAG);
        let text = entry.packable && media.to_str().is_ok_and(media::is_text);
        let pairs = may_pack(&own_tag, &find(&CONTENT_ENCODING), &control) && tag.is_some();
        let common = Common {
            media,
            modified: find(&LAST_MODIFIED).or_else(|| date(entry.modified?)),
            control,
            accepts: find(&ACCEPT_RANGES).unwrap_or(HeaderValue::from_static("bytes")),
            varies: pairs && (text || entry.siblings.iter().any(Option::is_some)),
            age: ours.then_some(seconds),
            given,
        };
        let ranges = !common.accepts.as_bytes().eq_ignore_ascii_case(b"none");
        let faces = Coding::ALL.map(|coding| {
            let made = coding == Coding::Gzip && text;
            let offered = pairs && (made || entry.siblings[coding as usize].is_some());
            match (coding, entry.pack(coding)) {
                (Coding::Identity, _) => {
                    let tag = own_tag.clone().or_else(|| tag.cloned());
                    Some(common.face(coding, tag, Some(entry.length())))
                }
                (_, Pack::Ready(_, length)) if offered => {
                    Some(common.face(coding, packed_tag(tag, coding), Some(*length)))
                }
                (_, Pack::Unknown) if offered => Some(common.face(coding, packed_tag(tag, coding), None)),
                _ => None,
            }
        });
        Self { options: options.clone(), faces, ranges, make: pairs && text }
    }

    /// Whether it was built for options that say the same.
    pub(super) fn is_for(&self, options: &StaticOptions) -> bool {
        self.options.expiration == options.expiration
            && self.options.mime_type == options.mime_type
            && self.options.http_headers == options.http_headers
    }

    /// Whether there is a choice.
    pub(super) fn is_negotiated(&self) -> bool {
        self.faces[1].is_some() || self.faces[2].is_some()
    }

    pub(super) fn face(&self, coding: Coding) -> Option<&Face> {
        self.faces[coding as usize].as_ref()
    }
}

impl Face {
    /// Whether it can be sent, not only promised.
    pub(super) fn is_ready(&self) -> bool {
        self.whole.is_some()
    }

    /// The fields of a 200.
    pub(super) fn whole(&self, now: SystemTime) -> HeaderMap {
        self.whole.as_ref().map_or_else(HeaderMap::new, |whole| whole.at(now))
    }

    /// The fields of a 206 with the bytes from `first` to `last`.
    pub(super) fn part(&self, now: SystemTime, first: u64, last: u64, length: u64) -> HeaderMap {
        let mut fields = self.whole(now);
        fields.insert(CONTENT_LENGTH, HeaderValue::from(last + 1 - first));
        if let Some(range) = text(format!("bytes {first}-{last}/{length}")) {
            fields.insert(CONTENT_RANGE, range);
        }
        fields
    }

    /// The fields of a 304.
    pub(super) fn not_modified(&self, now: SystemTime) -> HeaderMap {
        self.not_modified.at(now)
    }
}

impl Common {
    /// The representation in one coding; `length` is none while the packed copy is not known.
    fn face(&self, coding: Coding, etag: Option<HeaderValue>, length: Option<u64>) -> Face {
        let with = |name: HeaderName, value: &Option<HeaderValue>| value.clone().map(|value| (name, value));
        let named = [CONTENT_TYPE, ETAG, LAST_MODIFIED, ACCEPT_RANGES, CACHE_CONTROL];
        let rest: Vec<Field> = self
            .given
            .iter()
            .filter(|(name, _)| !(named.contains(name) || self.varies && *name == VARY))
            .cloned()
            .chain(self.varies.then(|| (VARY, self.vary())))
            .collect();

        let whole = length.map(|length| {
            let mut whole =
                vec![(CONTENT_TYPE, self.media.clone()), (CONTENT_LENGTH, HeaderValue::from(length))];
            if coding != Coding::Identity {
                whole.push((CONTENT_ENCODING, HeaderValue::from_static(coding.as_str())));
            }
            whole.extend(with(ETAG, &etag));
            whole.extend(with(LAST_MODIFIED, &self.modified));
            // Parts are parts of the file as it lies.
            if coding == Coding::Identity {
                whole.push((ACCEPT_RANGES, self.accepts.clone()));
            }
            whole.extend(with(CACHE_CONTROL, &self.control));
            whole.extend(rest.iter().cloned());
            Fields::new(whole, self.age)
        });

        // RFC 9110, section 15.4.5: nothing about the content that the tag does not say already.
        let mut not_modified = Vec::with_capacity(rest.len() + 2);
        not_modified.extend(with(ETAG, &etag).or_else(|| with(LAST_MODIFIED, &self.modified)));
        not_modified.extend(with(CACHE_CONTROL, &self.control));
        not_modified.extend(rest);

        let dated = self.modified.as_ref();
        let dated = dated.and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
        Face {
            validators: Validators { tag: etag, modified: dated },
            whole,
            not_modified: Fields::new(not_modified, self.age),
        }
    }

    /// The app's own `Vary` and ours as one field.
    fn vary(&self) -> HeaderValue {
        let own: Vec<&str> = self
            .given
            .iter()
            .filter(|(name, _)| *name == VARY)
            .filter_map(|(_, value)| value.to_str().ok())
            .collect();
        let own = own.join(", ");
        let covered = own
            .split(',')
            .map(str::trim)
            .any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding"));
        match (own.is_empty(), covered) {
            (true, _) => HeaderValue::from_static("Accept-Encoding"),
            (_, true) => value(&own).unwrap_or(HeaderValue::from_static("Accept-Encoding")),
            _ => {
                text(format!("{own}, Accept-Encoding")).unwrap_or(HeaderValue::from_static("Accept-Encoding"))
            }
        }
    }
}

/// An app that speaks of the representation itself (its tag, its coding, that nobody may change it) means the file
/// as it lies.
fn may_pack(tag: &Option<HeaderValue>, coding: &Option<HeaderValue>, control: &Option<HeaderValue>) -> bool {
    let fixed = control.as_ref().and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.split(',').any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"))
    });
    tag.is_none() && coding.is_none() && !fixed
}

/// `"HASH"` to `W/"HASH-gzip"`.
fn packed_tag(tag: Option<&HeaderValue>, coding: Coding) -> Option<HeaderValue> {
    let hash = tag?.to_str().ok()?.trim_matches('"');
    text(format!("W/\"{hash}-{}\"", coding.as_str()))
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
