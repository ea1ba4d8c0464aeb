//! `env_variables` of app.yaml, sorted: those anyone may see, those that look like secrets, and those that must stay
//! where they are because compat-proxy or the system would read them too.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

/// Words in a name that mean that its value is nobody's business.
static NAMES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let words = "KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASSPHRASE|PASS|PWD|PW|CREDENTIALS?|CREDS?|PRIVATE|DSN|SALT";
    // `API_KEY`, `apiKey`, `DB2PASSWORD`; not `MONKEY`, `KEYBOARD`, `AUTHOR`.
    let joined = "[A-Za-z0-9]*(?:APIKEY|TOKEN|SECRET|PASSWORD|PASSWD)[A-Za-z0-9]*";
    let capital = "[A-Za-z0-9_]*[a-z0-9](?:Key|Token|Secret|Password|Credential)s?(?:[^a-z][A-Za-z0-9_]*)?";
    Regex::new(&format!("^(?:(?i:(?:.*_)?(?:{words}|{joined})[0-9]*(?:_.*)?)|{capital})$")).ok()
});
/// Values that give themselves away: a password in a URL or connection string, a private key, well-known tokens.
static VALUES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i:[a-z][a-z0-9+.-]*://[^/\s@]*:[^/\s]*@|(?:password|passwd|pwd|accountkey|sharedaccesskey|secret)\s*=\s*[^\s;])",
        r"|-----BEGIN|^AKIA[0-9A-Z]{16}$|^AIza[0-9A-Za-z_-]{30}|^(?:sk|rk)_(?:live|test)_|^gh[pousr]_|^xox[abprs]-|^eyJ[0-9A-Za-z_-]+\.",
    ))
    .ok()
});
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

/// Patterns that do not compile see a secret everywhere: the safe side.
fn is_secret(key: &str, value: &str) -> bool {
    let finds = |pattern: &Option<Regex>, text: &str| pattern.as_ref().is_none_or(|it| it.is_match(text));
    finds(&NAMES, key) || finds(&VALUES, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_that_look_like_secrets_are_seen() {
        for key in [
            "API_KEY",
            "SECRET_KEY",
            "DJANGO_SECRET_KEY",
            "KEY",
            "key",
            "apiKey",
            "stripeSecretKey",
            "AWS_ACCESS_KEY_ID",
            "GITHUB_TOKEN",
            "DB_PASSWORD",
            "DBPASSWORD",
            "MYSQL_PWD",
            "DB_PASS",
            "OAUTH_CLIENT_SECRET",
            "CREDENTIALS",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "SENTRY_DSN",
            "PASSWORD2",
            "SLACKTOKEN",
            "MAIL_APIKEY",
            "privateKeys",
        ] {
            assert!(is_secret(key, "x"), "{key}");
        }
        for value in [
            "postgres://user:hunter2@db/shop",
            "MySQL+pymysql://u:p%40ss@h",
            "redis://:pw@cache:6379/0",
            "Server=db;Password=x;",
            "AccountKey=abc",
            "-----BEGIN RSA PRIVATE KEY-----",
            "AKIAABCDEFGHIJKLMNOP",
            "sk_live_abc",
            "ghp_abc",
            "xoxb-1-2",
            "eyJhbGciOiJI.eyJz.x",
            "amqp://a:b:c@h",
        ] {
            assert!(is_secret("PLAIN", value), "{value}");
        }
    }

    #[test]
    fn ordinary_settings_are_not() {
        for (key, value) in [
            ("DEBUG", "True"),
            ("MONKEY", "see"),
            ("KEYBOARD", "de"),
            ("AUTHOR", "me"),
            ("COMPASS", "north"),
            ("DJANGO_SETTINGS_MODULE", "shop.settings"),
            ("DATABASE_URL", "postgres://db/shop"),
            ("HOME_PAGE", "https://example.com:8080/@me"),
            ("MAIL_FROM", "shop@example.com"),
            ("PASSENGERS", "4"),
            ("TURKEY_MENU", "x"),
            ("TIMES", "12:30@noon"),
        ] {
            assert!(!is_secret(key, value), "{key}={value}");
        }
    }

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
