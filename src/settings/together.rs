//! What settings mean for each other: what excludes what, and what has no effect beside something else.

use super::Settings;
use super::endpoint::Endpoint;
use super::error::{Fault, SettingsError};
use super::key;
use super::origin::{Origin, Setting};

/// Adds a mistake for what cannot hold together, a note for what has no effect.
pub(super) fn check(settings: &mut Settings, errors: &mut Vec<SettingsError>) {
    let listen_is_read = errors.iter().all(|error| error.name != key::LISTEN.name);
    let mut conflict = |name: &str, origin: &Origin, message: String| {
        errors.push(SettingsError {
            name: name.to_owned(),
            origin: origin.clone(),
            fault: Fault::Conflict(message),
        });
    };
    let Settings { upstream, upstream_cmd, listen, admin, .. } = settings;
    if !upstream.is_empty() && upstream_cmd.is_some() {
        let message = format!(
            "excludes `upstream-cmd` ({}): the app either runs elsewhere or is started here; take one of them away, or \
             overrule it with an empty flag, `--upstream-cmd=` or `--upstream=`",
            upstream_cmd.origin
        );
        conflict(key::UPSTREAM.name, &upstream.origin, message);
    }
    if listen.is_empty() && listen_is_read {
        let message = "names no address; write at least one, for example `0.0.0.0:8080`".to_owned();
        conflict(key::LISTEN.name, &listen.origin, message);
    }
    for (key, list) in [(&key::LISTEN, &*listen), (&key::UPSTREAM, &*upstream)] {
        if let Some((one, two)) = clash(list) {
            let message = format!("`{one}` and `{two}` are the same place; give it once");
            conflict(key.name, &list.origin, message);
        }
    }
    if let Some(taken) = listen.iter().find(|endpoint| endpoint.overlaps(admin)) {
        let message = format!(
            "`{}` ({}) and the main listener `{taken}` ({}) need the same place; give one of them another port",
            **admin, admin.origin, listen.origin
        );
        conflict(key::ADMIN.name, &admin.origin, message);
    }
    settings.notes = without_effect(settings);
}

/// The first two addresses that are one.
fn clash(list: &Setting<Vec<Endpoint>>) -> Option<(&Endpoint, &Endpoint)> {
    let pairs =
        list.iter().enumerate().flat_map(|(index, one)| list[..index].iter().map(move |two| (two, one)));
    pairs.into_iter().find(|(one, two)| one.overlaps(two))
}

/// A note for every choice that something else makes pointless.
fn without_effect(settings: &Settings) -> Vec<String> {
    let shown = settings.shown();
    let pointless: &[&str] = if settings.is_attached() {
        &["workers", "python", "start-timeout", "stop-timeout", "max-requests", "max-lifetime", "max-rss"]
    } else if settings.upstream_cmd.is_some() {
        &["python"]
    } else {
        &[]
    };
    let reason =
        if settings.is_attached() { "the app runs elsewhere (`upstream`)" } else { "`upstream-cmd` is used" };
    shown
        .iter()
        .filter(|shown| pointless.contains(&shown.key.name))
        // A platform that sets WEB_CONCURRENCY everywhere means nothing by it here.
        .filter(|shown| match &shown.origin {
            Origin::Env(variable) => Some(variable.as_str()) != shown.key.platform,
            Origin::Flag | Origin::File(_) => true,
            Origin::Hint(_) | Origin::Default => false,
        })
        .map(|shown| format!("`{}` ({}) has no effect: {reason}", shown.key.name, shown.origin))
        .collect()
}
