//! What counts as a secret, and what is left when it is taken out.

use proptest::prelude::*;

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
fn parameters_that_look_like_secrets_lose_their_values_and_nothing_else() {
    for (given, shown) in [
        ("", ""),
        ("q=1", "q=1"),
        ("token=abc", "token=[redacted]"),
        ("a=1&token=abc&b=2", "a=1&token=[redacted]&b=2"),
        ("a=1;api_key=x;b", "a=1;api_key=[redacted];b"),
        ("access_token=a&code=b&session=c", "access_token=[redacted]&code=[redacted]&session=[redacted]"),
        ("X-Amz-Signature=f&X-Amz-Date=2", "X-Amz-Signature=[redacted]&X-Amz-Date=2"),
        ("user[password]=x&user%5Bpassword%5D=y", "user[password]=[redacted]&user%5Bpassword%5D=[redacted]"),
        ("%74oken=x", "%74oken=[redacted]"),
        ("apiKey=x&KEY=y&auth=z&Sig=s", "apiKey=[redacted]&KEY=[redacted]&auth=[redacted]&Sig=[redacted]"),
        ("token=&token", "token=&token"),
        ("token=a=b&&", "token=[redacted]&&"),
        ("&&token=\u{e4}", "&&token=[redacted]"),
        (
            "zip_code=1&author=me&monkey=2&signal=3&codec=4&authors=5",
            "zip_code=1&author=me&monkey=2&signal=3&codec=4&authors=5",
        ),
        (
            "auth_code=1&oauth.code=2&authcode=3",
            "auth_code=[redacted]&oauth.code=[redacted]&authcode=[redacted]",
        ),
        ("PHPSESSID=1&sid=2&jwt=3", "PHPSESSID=[redacted]&sid=[redacted]&jwt=[redacted]"),
    ] {
        assert_eq!(query(given), shown, "{given}");
        let borrowed = matches!(query(given), Cow::Borrowed(_));
        assert_eq!(borrowed, given == shown, "{given}: allocated for nothing");
    }
}

#[test]
fn a_url_loses_its_user_and_the_secrets_of_its_query() {
    for (given, shown) in [
        ("https://a.example/x?y=1", "https://a.example/x?y=1"),
        ("https://me:pw@a.example/x@y", "https://[redacted]@a.example/x@y"),
        ("https://me@a.example", "https://[redacted]@a.example"),
        ("https://a.example/?token=abc&x=me@b", "https://a.example/?token=[redacted]&x=me@b"),
        ("http://u:p@h?key=1", "http://[redacted]@h?key=[redacted]"),
        ("/just/a/path?sig=1", "/just/a/path?sig=[redacted]"),
        ("me@example.com", "me@example.com"),
        ("//a@b//c@d", "//[redacted]@b//c@d"),
        ("", ""),
    ] {
        assert_eq!(url(given), shown, "{given}");
    }
}

#[test]
fn known_values_are_taken_out_wherever_they_stand() {
    let pem = "-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----";
    let variables = [
        ("DB_PASSWORD", "hunter2-hunter2"),
        ("API_KEY", "short"),
        ("MODE", "production"),
        ("TLS_PRIVATE", pem),
    ];
    let values = Values::of(variables).unwrap();
    for (given, shown) in [
        ("pw hunter2-hunter2!", "pw [redacted]!"),
        ("hunter2-hunter2hunter2-hunter2", "[redacted][redacted]"),
        ("short production hunter2", "short production hunter2"),
        ("x MIIEvQIBADANBg y", "x [redacted] y"),
    ] {
        assert_eq!(values.hide(given.as_bytes()), shown.as_bytes());
    }
    assert!(matches!(values.hide(b"nothing"), Cow::Borrowed(_)));
    let quoted = Values::of([("A_SECRET", "with \"quotes\"")]).unwrap();
    let json = serde_json::json!({ "message": "see with \"quotes\" here" }).to_string();
    assert_eq!(quoted.hide(json.as_bytes()), &br#"{"message":"see [redacted] here"}"#[..]);
    assert!(Values::of([("MODE", "production"), ("KEY", "tiny")]).is_none());
}

#[test]
fn a_command_line_is_shown_without_its_secrets() {
    for (given, shown) in [
        ("gunicorn --bind unix:{socket}  main:app", "gunicorn --bind unix:{socket} main:app"),
        ("serve --api-key=abc --port 80", "serve --api-key=[redacted] --port 80"),
        ("serve --password hunter2 -x", "serve --password [redacted] -x"),
        ("serve --password --quiet", "serve --password --quiet"),
        ("env DB_PASSWORD=x MODE=y serve", "env DB_PASSWORD=[redacted] MODE=y serve"),
        ("gunicorn --env 'SECRET_KEY=x'", "gunicorn --env 'SECRET_KEY=[redacted]"),
        ("serve --db postgres://u:p@h/d", "serve --db postgres://[redacted]@h/d"),
        ("serve --db=postgres://u:p@h/d", "serve --db=[redacted]"),
    ] {
        assert_eq!(command(given), shown, "{given}");
    }
}

proptest! {
    #[test]
    fn any_text_is_taken_once_and_for_all(text in "(token|q|%|=|&|;|\\?|//|@|:|\\[|\\p{L}|[ -~]){0,20}") {
        let once = query(&text).into_owned();
        prop_assert_eq!(&*query(&once), &once);
        let once = url(&text).into_owned();
        prop_assert_eq!(&*url(&once), &once);
        let hidden = Values::of([("A_KEY", "secret-value")]).unwrap().hide(text.as_bytes()).into_owned();
        prop_assert_eq!(hidden, text.as_bytes());
    }
}
