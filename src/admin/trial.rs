//! A URL that somebody asks about, `?url=…`: read from the query, decided by the very functions that decide requests,
//! off the thread that answers probes, for a look for a file may have to wait for a disk.

use std::sync::Arc;

use maud::Markup;

use super::verdict;
use crate::explain;
use crate::site::Site;

/// A URL and what the page says of it.
pub(super) struct Trial {
    /// As asked, for the box.
    pub(super) url: String,
    pub(super) verdict: Markup,
}

/// The first `url` of a query, without the blanks that come with pasting.
fn asked(query: Option<&str>) -> Option<Result<String, &'static str>> {
    let mut pairs = form_urlencoded::parse(query?.as_bytes());
    let (_, url) = pairs.find(|(name, _)| name == "url")?;
    let url = url.trim_matches(' ');
    Some(if url.is_empty() {
        Err("The box was empty: give a path such as /static/logo.png, or a whole URL.")
    } else if url.contains(char::REPLACEMENT_CHARACTER) {
        // Decoding put it there; what it stands for is lost.
        Err("That is not UTF-8: write its bytes percent-encoded, as in /caf%E9.")
    } else {
        Ok(url.to_owned())
    })
}

/// The object of `explain --json`; of `{"error"}` when there is no URL to explain.
pub(super) async fn json(site: &Arc<Site>, query: Option<&str>) -> Result<String, String> {
    let refuse = |text: &str| Err(format!("{}\n", serde_json::json!({ "error": text })));
    let url = match asked(query) {
        Some(Ok(url)) => url,
        Some(Err(why)) => return refuse(why),
        None => return refuse("Name a URL: /explain?url=/path"),
    };
    let site = Arc::clone(site);
    let told = tokio::task::spawn_blocking(move || {
        explain::one(&site.map, &site.files, &url).json(&site.map).to_string() + "\n"
    });
    told.await.or_else(|_| refuse("This URL could not be explained: that is a bug, please report it."))
}

/// The same for the page; none when nobody asked.
pub(super) async fn shown(site: &Arc<Site>, query: Option<&str>) -> Option<Trial> {
    let url = match asked(query)? {
        Ok(url) => url,
        Err(why) => return Some(Trial { url: String::new(), verdict: verdict::none(why) }),
    };
    let (site, given) = (Arc::clone(site), url.clone());
    let told = tokio::task::spawn_blocking(move || {
        verdict::markup(&explain::one(&site.map, &site.files, &given), &site)
    });
    let bug = |_| verdict::none("This URL could not be explained: that is a bug, please report it.");
    Some(Trial { url, verdict: told.await.unwrap_or_else(bug) })
}

#[cfg(test)]
mod tests {
    use super::asked;

    #[track_caller]
    fn check(query: &str, expected: &str) {
        assert_eq!(asked(Some(query)), Some(Ok(expected.to_owned())), "{query}");
    }

    #[test]
    fn a_url_is_read_from_the_query_as_forms_write_it() {
        check("url=/a", "/a");
        check("x=1&url=%2Fa%3Fb%3Dc%26d&url=/other", "/a?b=c&d");
        check("url=+/a+b%20+", "/a b");
        check("url=/caf%C3%A9", "/café");
        check("url=/a%252Fb", "/a%2Fb");
        check("url=%00%0A", "\0\n");
    }

    #[test]
    fn what_is_no_url_gets_a_reason() {
        assert_eq!((asked(None), asked(Some("")), asked(Some("x=/a"))), (None, None, None));
        for query in ["url", "url=", "url=+", "url=/caf%E9"] {
            assert!(matches!(asked(Some(query)), Some(Err(_))), "{query}");
        }
    }
}
