//! `env_variables` of app.yaml, sorted: those anyone may see, those that look like secrets, and those that must stay
//! where they are because compat-proxy or the system would read them too.

use crate::secrets::is_secret;
use std::collections::BTreeMap;

/// The container's own: they would change how compat-proxy is found, loaded or set.
const OURS: [&str; 6] = ["PATH", "HOME", "TMPDIR", "PORT", "WEB_CONCURRENCY", "MODULE_YAML_PATH"];
const OURS_START: [&str; 3] = ["COMPAT_PROXY_", "LD_", "_RJEM_"];

/// The variables by where they go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Variables {
    /// For the ConfigMap.
    pub(super) open: BTreeMap<String, String>,
    /// For the Secret: names alone. A value that is in a manifest is in a repository tomorrow.
    pub(super) secret: Vec<String>,
}

/// Sorts them; `name` is that of the app's objects.
pub(super) fn of(all: &BTreeMap<String, String>, name: &str, remarks: &mut Vec<String>) -> Variables {
    let mut sorted = Variables::default();
    for (key, value) in all {
        if OURS.contains(&key.as_str()) || OURS_START.iter().any(|start| key.starts_with(start)) {
            remarks.push(format!(
                "`{key}` stays in app.yaml: in the container's environment it would be for compat-proxy"
            ));
        } else if value.contains('\0') {
            remarks.push(format!("`{key}` stays in app.yaml: no environment can hold its value"));
        } else if is_secret(key, value) {
            remarks.push(format!(
                "`{key}` looks like a secret, so its value is left out: give it to the cluster with `kubectl patch secret {name} \
                 --patch '{{\"stringData\":{{\"{key}\":\"...\"}}}}'`, then take it out of app.yaml"
            ));
            sorted.secret.push(key.clone());
        } else {
            sorted.open.insert(key.clone(), value.clone());
        }
    }
    if !sorted.open.is_empty() {
        remarks.push(format!(
            "env_variables of the app.yaml in the image win over the ConfigMap `{name}`: take them out of there to set them in the cluster"
        ));
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compat_proxy_reads_itself_is_not_moved_and_no_value_is_repeated() {
        let all = [
            ("PORT", "80"),
            ("COMPAT_PROXY_WORKERS", "9"),
            ("LD_PRELOAD", "x.so"),
            ("API_KEY", "hunter2"),
            ("MODE", "a"),
        ];
        let all = all.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let mut remarks = Vec::new();
        let sorted = of(&all, "shop", &mut remarks);
        assert_eq!(sorted.open, [("MODE".to_owned(), "a".to_owned())].into());
        assert_eq!(sorted.secret, ["API_KEY"]);
        assert!(!remarks.concat().contains("hunter2"), "{remarks:#?}");
        for key in ["PORT", "COMPAT_PROXY_WORKERS", "LD_PRELOAD"] {
            assert!(remarks.iter().any(|remark| remark.contains(&format!("`{key}` stays"))), "{key}");
        }
    }
}
