//! What the objects are called: a DNS label, since a Service wants one.

use std::path::Path;

use unicode_normalization::UnicodeNormalization;

/// The longest name; what Kubernetes and we append must fit into 63.
pub(super) const MOST: usize = 50;
/// For an app whose service and directory give nothing.
const FALLBACK: &str = "app";
/// Objects of these names are there already: the ServiceAccount of every pod that names none, the Service of the API.
const TAKEN: [&str; 2] = ["default", "kubernetes"];

/// The service of app.yaml, or the directory where that is the default service.
pub(super) fn of(service: &str, app_dir: &Path, remarks: &mut Vec<String>) -> String {
    let directory = app_dir.file_name().map(|name| name.to_string_lossy().into_owned());
    let given = if service == "default" { directory } else { Some(service.to_owned()) }.unwrap_or_default();
    let mut whole = label(&given);
    if TAKEN.contains(&whole.as_str()) || whole.starts_with(|first: char| first.is_ascii_digit()) {
        whole = format!("{FALLBACK}-{whole}");
    }
    let name = whole.get(..MOST).unwrap_or(&whole).trim_end_matches('-');
    if name.len() < whole.len() {
        remarks.push(format!(
            "`{given}` is too long for a name: the objects are called `{name}`; `--name` gives them another"
        ));
    }
    if name.is_empty() { FALLBACK.to_owned() } else { name.to_owned() }
}

/// Whether Kubernetes takes it as it is.
pub(super) fn is_good(name: &str) -> bool {
    let bytes = name.as_bytes();
    let known = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    name.len() <= MOST
        && !TAKEN.contains(&name)
        && bytes.iter().all(known)
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last() != Some(&b'-')
}

/// The text in small letters, digits and single dashes, none of these at the ends.
fn label(text: &str) -> String {
    let mut label = String::new();
    // Letters with marks come apart, and only the mark is lost.
    for letter in text.nfkd().map(|letter| letter.to_ascii_lowercase()) {
        if letter.is_ascii_lowercase() || letter.is_ascii_digit() {
            label.push(letter);
        } else if letter.is_ascii() && !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
    }
    label.trim_end_matches('-').to_owned()
}

/// A value of a label, or none where Kubernetes would not take it.
pub(super) fn value(text: &str) -> Option<&str> {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let inside = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte));
    (text.len() <= 63 && inside && edge(bytes.first()) && edge(bytes.last())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_service_or_the_directory_as_a_dns_label() {
        let named = |service: &str, folder: &str| of(service, Path::new(folder), &mut Vec::new());
        assert_eq!(named("shop", "/srv/app"), "shop");
        assert_eq!(named("default", "/srv/My_Old  App.v2"), "my-old-app-v2");
        assert_eq!(named("default", "/"), "app");
        assert_eq!(named("default", "/srv/---"), "app");
        assert_eq!(named("default", "/srv/été"), "ete");
        assert_eq!(named("default", "/srv/店"), "app");
    }

    #[test]
    fn two_services_have_two_names_and_neither_is_taken() {
        let named = |service: &str| of(service, Path::new("/srv/default"), &mut Vec::new());
        assert_eq!(named("1234"), "app-1234");
        assert_eq!(named("2nd-try"), "app-2nd-try");
        assert_eq!(named("kubernetes"), "app-kubernetes");
        assert_eq!(named("default"), "app-default");
        let mut remarks = Vec::new();
        let long = "a-".repeat(40);
        assert_eq!(of(&long, Path::new("/"), &mut remarks), format!("{}a", "a-".repeat(24)));
        assert!(remarks.concat().contains("--name"), "{remarks:?}");
    }

    #[test]
    fn names_that_kubernetes_refuses_are_not_good() {
        assert!(is_good("shop-2"));
        for bad in
            ["", "default", "kubernetes", "Shop", "2shop", "shop-", "-shop", "sh_op", "é", &"a".repeat(51)]
        {
            assert!(!is_good(bad), "{bad}");
        }
    }

    #[test]
    fn a_label_has_a_value_only_if_kubernetes_takes_it() {
        assert_eq!(value("v1.2_3-rc"), Some("v1.2_3-rc"));
        for bad in ["", "-a", "a-", "a b", "ü", &"a".repeat(64)] {
            assert_eq!(value(bad), None, "{bad}");
        }
    }
}
