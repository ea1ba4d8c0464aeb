//! What `Accept-Encoding` asks for.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

/// The best of the three for these lines.
#[track_caller]
fn check(lines: &[&str], best: &str) {
    check_among(lines, &Coding::ALL, best);
}

#[track_caller]
fn check_among(lines: &[&str], on_offer: &[Coding], best: &str) {
    let mut request = HeaderMap::new();
    for line in lines {
        request.append(ACCEPT_ENCODING, HeaderValue::from_str(line).unwrap());
    }
    let found = Accepted::of(&request).best(|coding| on_offer.contains(&coding));
    assert_eq!(found.map_or("none", Coding::as_str), best, "{lines:?}");
}

#[test]
fn who_says_nothing_gets_the_file_as_it_is() {
    check(&[], "identity");
    check(&[""], "identity");
    check(&["deflate, zstd"], "identity");
}

#[test]
fn of_what_is_wanted_equally_the_smaller_is_sent() {
    check(&["gzip, deflate, br, zstd"], "br");
    check(&["br", "gzip"], "br");
    check(&["gzip"], "gzip");
    check(&["X-GZIP"], "gzip");
    check(&["GZip;Q=0.001"], "gzip");
    check(&["*"], "br");
    check_among(&["gzip, br"], &[Coding::Identity, Coding::Gzip], "gzip");
    check_among(&["gzip, br"], &[Coding::Identity], "identity");
}

#[test]
fn weights_decide() {
    check(&["br;q=0.5, gzip;q=0.9"], "gzip");
    check(&["br ; q=0.5 ,gzip; q=0.51"], "gzip");
    check(&["gzip;q=0, br;q=0"], "identity");
    check(&["*;q=0.3, br;q=0.2"], "gzip");
    check(&["gzip;q=0, *"], "br");
    check(&["identity, gzip;q=0.9"], "identity");
    check(&["identity;q=0.5, gzip"], "gzip");
    check(&["identity;q=0.5, gzip;q=0.5"], "gzip");
}

#[test]
fn identity_can_be_refused() {
    check_among(&["identity;q=0"], &[Coding::Identity], "none");
    check_among(&["*;q=0"], &[Coding::Identity], "none");
    check(&["identity;q=0, gzip"], "gzip");
    check(&["*;q=0, gzip"], "gzip");
    check(&["*;q=0, identity"], "identity");
}

#[test]
fn a_weight_that_is_none_asks_for_nothing() {
    for weight in ["", "x", "2", "1.001", "0.1234", "-1", ".5", "0,5", "1.0.0", "00.1"] {
        check(&[&format!("gzip;q={weight}")], "identity");
    }
    for weight in ["1", "1.", "1.000", "0.5", "0.05", "0.001"] {
        check(&[&format!("gzip;q={weight}")], "gzip");
    }
}

proptest! {
    #[test]
    fn any_line_is_read(line in "[ -~]{0,40}") {
        let mut request = HeaderMap::new();
        request.append(ACCEPT_ENCODING, HeaderValue::from_str(&line).unwrap());
        let accepted = Accepted::of(&request);
        if let Some(best) = accepted.best(|_| true) {
            prop_assert!(accepted.takes(best));
        }
    }
}
