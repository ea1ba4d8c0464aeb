//! What must not be shown: names that mean a secret, values that give themselves away, and texts from which those are
//! taken out. Variables, queries of URLs and what workers print are judged by the same words. Nothing is written here.

use std::borrow::Cow;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};
use percent_encoding::percent_decode_str;
use regex::Regex;

#[cfg(test)]
mod tests;

/// Stands where a secret stood.
pub const REDACTED: &str = "[redacted]";
/// A shorter value is found in too many words that mean something else.
const SHORTEST: usize = 8;

/// Words in a name that mean that its value is nobody's business; with a dash, a bracket or an underscore between them.
const WORDS: &str =
    "KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASSPHRASE|PASS|PWD|PW|CREDENTIALS?|CREDS?|PRIVATE|DSN|SALT";
/// What a query carries besides; in the name of a variable they are mostly harmless.
const MORE: &str =
    "AUTH|AUTHORIZATION|BEARER|SIGNATURE|SIG|HMAC|SESSION|[A-Z]*SESS(?:ION)?ID|SID|JWT|OTP|ASSERTION|TICKET";

/// `API_KEY`, `apiKey`, `DB2PASSWORD`; not `MONKEY`, `KEYBOARD`, `AUTHOR`.
static VARIABLES: LazyLock<Option<Regex>> = LazyLock::new(|| names(WORDS, ""));
/// `X-Amz-Signature`, `user[password]`; a `code` only where it is what a token is given for, not `zip_code`.
static PARAMETERS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    names(&format!("{WORDS}|{MORE}"), "|(?i:(?:(?:.*[^a-z0-9])?o?auth(?:orization)?[^a-z0-9]?)?code)")
});
/// Values that give themselves away: a password in a URL or connection string, a private key, well-known tokens.
static VALUES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i:[a-z][a-z0-9+.-]*://[^/\s@]*:[^/\s]*@|(?:password|passwd|pwd|accountkey|sharedaccesskey|secret)\s*=\s*[^\s;])",
        r"|-----BEGIN|^AKIA[0-9A-Z]{16}$|^AIza[0-9A-Za-z_-]{30}|^(?:sk|rk)_(?:live|test)_|^gh[pousr]_|^xox[abprs]-|^eyJ[0-9A-Za-z_-]+\.",
    ))
    .ok()
});

fn names(words: &str, more: &str) -> Option<Regex> {
    let joined = "[a-z0-9]*(?:apikey|token|secret|password|passwd)[a-z0-9]*";
    let capital = "[A-Za-z0-9_]*[a-z0-9](?:Key|Token|Secret|Password|Credential)s?(?:[^a-z][A-Za-z0-9_]*)?";
    let whole = format!("(?i:(?:.*[^a-z0-9])?(?:{words}|{joined})[0-9]*(?:[^a-z0-9].*)?)");
    Regex::new(&format!("^(?s:{whole}|{capital}{more})$")).ok()
}

/// Patterns that do not compile see a secret everywhere: the safe side.
fn finds(pattern: &Option<Regex>, text: &str) -> bool {
    pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
}

/// Whether a variable looks like a secret, by its name or its value.
#[must_use]
pub fn is_secret(name: &str, value: &str) -> bool {
    finds(&VARIABLES, name) || finds(&VALUES, value)
}

/// A query without the values of parameters that look like secrets; allocates only if there are any.
#[must_use]
pub fn query(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    // What of `text` is in `shown` already.
    let mut done = 0;
    let mut at = 0;
    for pair in text.split_inclusive(['&', ';']) {
        let (start, pair) = (at, pair.trim_end_matches(['&', ';']));
        at += pair.len();
        at += usize::from(at < text.len());
        let Some((name, value)) = pair.split_once('=').filter(|(_, value)| !value.is_empty()) else {
            continue;
        };
        if is_parameter(name) {
            let value_at = start + pair.len() - value.len();
            shown.push_str(&text[done..value_at]);
            shown.push_str(REDACTED);
            done = value_at + value.len();
        }
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    shown.push_str(&text[done..]);
    Cow::Owned(shown)
}

/// An app decodes names before it compares them.
fn is_parameter(name: &str) -> bool {
    if name.contains(['%', '+']) {
        return finds(&PARAMETERS, &percent_decode_str(&name.replace('+', " ")).decode_utf8_lossy());
    }
    finds(&PARAMETERS, name)
}

/// A URL without its user and password, and without secrets in its query; allocates only if there are any.
#[must_use]
pub fn url(text: &str) -> Cow<'_, str> {
    let (place, asked) = text.split_at(text.find('?').unwrap_or(text.len()));
    let host = place.find("//").map_or(place.len(), |at| at + 2);
    let end = place[host..].find('/').map_or(place.len(), |at| host + at);
    let user = place[host..end].rfind('@').map(|at| host + at);
    let asked = query(asked);
    match (user, asked) {
        (None, Cow::Borrowed(_)) => Cow::Borrowed(text),
        (None, Cow::Owned(asked)) => Cow::Owned(format!("{place}{asked}")),
        (Some(user), asked) => Cow::Owned(format!("{}{REDACTED}{}{asked}", &place[..host], &place[user..])),
    }
}

/// A command line without what its options and variables say that look like secrets. For showing: the spaces between
/// words become one.
#[must_use]
pub fn command(text: &str) -> String {
    let mut shown = Vec::new();
    let mut hide = false;
    for word in text.split_whitespace() {
        let bare = word.trim_start_matches(['-', '"', '\'']);
        let option = word.starts_with('-');
        shown.push(match bare.split_once('=') {
            _ if std::mem::take(&mut hide) && !option => REDACTED.to_owned(),
            Some((name, value)) if is_secret(&name.replace('-', "_"), value) => {
                format!("{}={REDACTED}", &word[..word.len() - value.len() - 1])
            }
            _ => {
                hide = option && finds(&VARIABLES, &bare.replace('-', "_"));
                url(word).into_owned()
            }
        });
    }
    shown.join(" ")
}

/// Values that are known to be secrets, all looked for at once.
#[derive(Debug)]
pub struct Values(AhoCorasick);

impl Values {
    /// Those of the variables that look like secrets and are long enough to be told from other words; none when there
    /// are none.
    #[must_use]
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let mut texts = Vec::new();
        for (_, value) in variables.into_iter().filter(|(name, value)| is_secret(name, value)) {
            // Workers print line by line, and a logger of theirs may write JSON.
            for line in value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST) {
                let quoted = serde_json::Value::from(line).to_string();
                texts.push(quoted[1..quoted.len() - 1].to_owned());
                texts.push(line.to_owned());
            }
        }
        texts.sort_unstable();
        texts.dedup();
        if texts.is_empty() {
            return None;
        }
        // Fails only for more text than fits into memory; then no value is known, as when there is none.
        AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts).ok().map(Self)
    }

    /// `text` without them; allocates only if there are any.
    #[must_use]
    pub fn hide<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let mut shown = Vec::new();
        let mut done = 0;
        for found in self.0.find_iter(text) {
            shown.extend_from_slice(&text[done..found.start()]);
            shown.extend_from_slice(REDACTED.as_bytes());
            done = found.end();
        }
        if done == 0 {
            return Cow::Borrowed(text);
        }
        shown.extend_from_slice(&text[done..]);
        Cow::Owned(shown)
    }
}
