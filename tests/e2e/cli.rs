//! The command line: every exit code and what is said with it. Whatever fails leaves nothing running (the harness
//! looks after each command).

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::harness::client::Connection;
use crate::harness::origin::Origin;
use crate::harness::{App, Finished, run};

const GOOD: &str = r"runtime: python27
api_version: 1
threadsafe: true
handlers:
- url: /static
  static_dir: static
- url: /admin/.*
  script: admin.app
  login: admin
- url: /go/(.*)
  script: main.app
  secure: always
- url: /.*
  script: main.app
";

const QUIET: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

fn good() -> App {
    App::new().yaml(GOOD).file("static/a.css", "a{}")
}

fn serve(app: &App, more: &[&str]) -> Finished {
    let args: Vec<&str> = QUIET.iter().chain(more).copied().collect();
    app.run(&args)
}

/// One clear message: it names what is wrong and says what to do, and it is not a panic or a wall of text.
#[track_caller]
fn says(done: Finished, code: i32, words: &[&str]) {
    let done = done.expect_code(code);
    let text = format!("{}{}", done.stdout, done.stderr);
    for word in words {
        assert!(text.contains(word), "`{word}` is missing: {done:#?}");
    }
    assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{done:#?}");
    assert!(text.lines().count() <= 20, "{done:#?}");
}

#[test]
fn a_missing_app_yaml_is_65() {
    says(serve(&App::new(), &["--upstream", "127.0.0.1:1"]), 65, &["app.yaml"]);
    says(App::new().run(&["explain", "/x"]), 65, &["app.yaml"]);
    says(App::new().run(&["check"]), 1, &["app.yaml"]);
}

#[test]
fn broken_yaml_is_65_with_line_and_column() {
    let app = App::new().yaml("runtime: python27\nhandlers: [\n- url: /\n");
    says(serve(&app, &["--upstream", "127.0.0.1:1"]), 65, &["app.yaml:", "error"]);
    says(app.run(&["check"]), 1, &["app.yaml:", "error"]);
    let tab = App::new().yaml("runtime: python27\nhandlers:\n-\turl: /\n\tscript: a.b\n");
    says(serve(&tab, &["--upstream", "127.0.0.1:1"]), 65, &["app.yaml:", "tab"]);
}

#[test]
fn an_unknown_key_is_65_and_named() {
    let app = App::new().yaml(&GOOD.replace("static_dir", "statik_dir"));
    says(serve(&app, &["--upstream", "127.0.0.1:1"]), 65, &["app.yaml:6:", "statik_dir", "static_dir"]);
}

#[test]
fn all_findings_are_told_at_once() {
    let app = App::new().yaml("runtime: python27\napi_version: 1\nthreadsafe: perhaps\nhandlers:\n- url: /(\n  script: a.b\n- url: /b\n  static_dir: x\n  expiration: 1w\n- script: c.d\n");
    let done = app.run(&["check"]).expect_code(1);
    for place in ["app.yaml:3:", "app.yaml:5:", "app.yaml:9:", "app.yaml:10:"] {
        assert!(done.stdout.contains(place), "{place}: {done:#?}");
    }
}

#[test]
fn an_unknown_setting_is_78_and_named() {
    let app = good().file("compat-proxy.yaml", "listen: 127.0.0.1:0\nqueue_depht: 5\n");
    says(
        serve(&app, &["--upstream", "127.0.0.1:1"]),
        78,
        &["compat-proxy.yaml", "queue_depht", "queue-depth"],
    );
    let app = good().file("compat-proxy.yaml", "workers: many\n");
    says(serve(&app, &[]), 78, &["compat-proxy.yaml", "many"]);
    let app = good().env("COMPAT_PROXY_WORKERS", "-3");
    says(serve(&app, &[]), 78, &["COMPAT_PROXY_WORKERS", "-3"]);
    says(good().run(&["--config", "none.yaml"]), 78, &["none.yaml"]);
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let done = serve(&good(), &["--upstream", "127.0.0.1:1", "--upstream-cmd", "true {port}"]);
    assert!(matches!(done.code, Some(2 | 78)), "{done:#?}");
    assert!(done.stderr.contains("--upstream-cmd"), "{done:#?}");
}

#[test]
fn an_unknown_flag_or_word_is_usage() {
    says(good().run(&["--frobnicate"]), 2, &["--frobnicate"]);
    says(good().run(&["--wrokers", "2"]), 2, &["--wrokers", "--workers"]);
    says(good().run(&["chekc"]), 2, &["chekc", "neither a command nor a directory", "check"]);
    says(good().run(&["no/such/place"]), 2, &["no/such/place"]);
    says(good().run(&["explain"]), 2, &[]);
    says(good().run(&["completions", "tcsh"]), 2, &["tcsh"]);
}

#[test]
fn a_value_that_is_none_is_refused_with_the_option_named() {
    for (option, value) in [
        ("--workers", "0"),
        ("--workers", "many"),
        ("--queue-timeout", "soon"),
        ("--max-request-body", "big"),
        ("--listen", "nowhere"),
        ("--trusted-proxy", "300.0.0.0/8"),
        ("--upstream", "::::"),
        ("--log-format", "xml"),
    ] {
        let done = good().run(&[option, value]);
        assert!(matches!(done.code, Some(2 | 78)), "{option} {value}: {done:#?}");
        assert!(done.stderr.contains(option) && done.stderr.contains(value), "{done:#?}");
    }
}

#[test]
fn a_program_that_does_not_exist_is_78() {
    says(serve(&good(), &["--upstream-cmd", "no-such-program-xyz {port}"]), 78, &["no-such-program-xyz"]);
    let app = App::new().yaml("runtime: python312\nentrypoint: no-such-program-xyz -b :$PORT main:app\n");
    says(serve(&app, &[]), 78, &["no-such-program-xyz", "entrypoint"]);
    says(serve(&good(), &["--python", "no-such-python-xyz"]), 78, &["no-such-python-xyz"]);
    says(serve(&good(), &["--upstream-cmd", "unbalanced 'quote"]), 78, &["--upstream-cmd"]);
}

#[test]
fn a_taken_port_is_71_and_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let listen = ["--listen", &address, "--admin", "127.0.0.1:0", "--upstream", "127.0.0.1:1"];
    says(good().run(&listen), 71, &[&address, "--listen"]);
    let admin = ["--listen", "127.0.0.1:0", "--admin", &address, "--upstream", "127.0.0.1:1"];
    says(good().run(&admin), 71, &[&address, "--admin"]);
}

#[test]
fn a_second_compat_proxy_on_the_same_port_is_71() {
    let origin = Origin::start();
    let first = good().upstream(&origin).start();
    let address = first.address().to_owned();
    let done = good().run(&["--listen", &address, "--admin", "127.0.0.1:0", "--upstream", "127.0.0.1:1"]);
    says(done, 71, &[&address]);
    assert_eq!(first.get("/x").status, 200);
}

#[test]
fn a_directory_that_cannot_be_read_is_told() {
    let app = good();
    let path = app.path().join("app.yaml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).expect("a mode");
    if std::fs::read(&path).is_ok() {
        println!("skipped: this user reads everything");
    } else {
        says(serve(&app, &["--upstream", "127.0.0.1:1"]), 65, &["app.yaml"]);
    }
    // A file instead of the directory, and the other way round, are unreadable for everyone.
    says(good().run(&["app.yaml"]), 65, &["app.yaml", "directory"]);
    says(good().run(&["check", "no/such/place"]), 1, &["no/such/place"]);
    says(good().run(&["routes", "no/such/place"]), 65, &["no/such/place"]);
    let app = App::new().file("app.yaml/inside", "");
    says(serve(&app, &["--upstream", "127.0.0.1:1"]), 65, &["app.yaml"]);
}

#[test]
fn check_is_clean_warns_and_fails_with_the_right_code() {
    let clean = App::new()
        .yaml("runtime: python312\nhandlers:\n- url: /.*\n  script: auto\n")
        .file("main.py", "app = None\n");
    let done = clean.run(&["check"]).expect_code(0);
    assert!(done.stdout.contains("ok: 1 handler, 0 warnings"), "{done:#?}");
    clean.run(&["check", "--deny-warnings"]).expect_code(0);

    let warned = good();
    let done = warned.run(&["check"]).expect_code(0);
    assert!(done.stdout.contains("app.yaml:9:10: warning:"), "{done:#?}");
    warned.run(&["check", "--deny-warnings"]).expect_code(1);
    warned.run(&["check", ".", "--workers", "3"]).expect_code(0);

    let open = App::new().yaml("runtime: python27\napi_version: 1\nthreadsafe: true\nhandlers:\n- url: /.*\n  script: m.a\n- url: /admin\n  script: m.b\n  login: admin\n");
    let done = open.run(&["check"]).expect_code(0);
    assert!(done.stdout.contains("never matches") && done.stdout.contains("protects nothing"), "{done:#?}");
}

#[test]
fn check_speaks_json() {
    let done = good().run(&["check", "--format", "json"]).expect_code(0);
    let json = done.json();
    assert_eq!(json["ok"], true);
    let warning = json["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .find(|finding| finding["severity"] == "warning");
    let warning = warning.expect("a warning");
    assert_eq!((&warning["file"], &warning["line"]), (&"app.yaml".into(), &9.into()), "{warning}");
    let broken = App::new().yaml("runtime: python27\nhandlers: 5\n");
    let json = broken.run(&["check", "--format", "json"]).expect_code(1).json();
    assert_eq!(json["ok"], false);
    let place = &json["findings"][0];
    assert!(
        json["findings"].as_array().expect("findings").iter().any(|finding| finding["severity"] == "error")
    );
    assert!(place["line"].is_u64() && place["column"].is_u64() && place["message"].is_string(), "{json:#}");
}

#[test]
fn check_looks_at_the_options_too() {
    let app = good().file("compat-proxy.yaml", "nonsense: 1\n");
    let done = app.run(&["check"]).expect_code(1);
    assert!(done.stdout.contains("nonsense"), "{done:#?}");
    let json = app.run(&["check", "--format", "json"]).expect_code(1).json();
    assert!(json.to_string().contains("nonsense"), "{json:#}");
}

#[test]
fn explain_tells_each_url_as_json() {
    let app = good();
    let urls = [
        "/x?a=b",
        "/static/a.css",
        "/static/none",
        "/admin/x",
        "//admin/x",
        "/go/there?q",
        "/a/../b",
        "/_ah/health",
        "/_ah/login",
        "/%00",
        "https://shop.example/go/there",
    ];
    let mut args = vec!["explain", "--json"];
    args.extend(urls);
    let lines = app.run(&args).expect_code(0).json_lines();
    let keys = [
        "url",
        "path",
        "handler",
        "handler_url",
        "action",
        "status",
        "location",
        "script",
        "file",
        "login",
        "source",
    ];
    for (line, url) in lines.iter().zip(urls) {
        let has: Vec<&str> = line.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(has, keys);
        assert_eq!(line["url"], url);
    }
    let told: Vec<String> = lines
        .iter()
        .map(|line| {
            let text = |key: &str| match &line[key] {
                serde_json::Value::Null => "-".to_owned(),
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            ["handler", "action", "status", "location", "script", "file", "source"].map(text).join(" ")
        })
        .collect();
    assert_eq!(
        told,
        [
            "3 script - - main.app - app.yaml:13",
            "0 static 200 - - static/a.css app.yaml:5",
            "0 not_found 404 - - - app.yaml:5",
            "1 blocked_login 404 - - - app.yaml:7",
            "- blocked_login 404 - - - -",
            "2 redirect 302 https://localhost/go/there?q - - app.yaml:10",
            "- redirect 302 http://localhost/b - - -",
            "- health 200 - - - -",
            "- not_found 404 - - - -",
            "- bad_request 400 - - - -",
            "2 script - - main.app - app.yaml:10",
        ]
    );
    let https = app.run(&["explain", "--json", "--https", "/go/x"]).expect_code(0).json_lines();
    assert_eq!(https[0]["action"], "script");
    let traced = app.run(&["explain", "--json", "--method", "TRACE", "/x"]).expect_code(0).json_lines();
    assert_eq!(traced[0]["status"], 405, "{traced:?}");
}

#[test]
fn explain_in_words_tells_why_earlier_handlers_did_not_match() {
    let done = good().run(&["explain", ".", "/x"]).expect_code(0);
    for word in ["/static", "/admin/.*", "/.*", "script", "main.app", "app.yaml:13"] {
        assert!(done.stdout.contains(word), "{word}: {done:#?}");
    }
    let done = good().run(&["explain", "//admin/x"]).expect_code(0);
    assert!(done.stdout.contains("blocked_login") && done.stdout.contains("404"), "{done:#?}");
}

#[test]
fn explain_and_the_server_agree() {
    let origin = Origin::start();
    let urls = [
        "/x",
        "/static/a.css",
        "/static/none",
        "/admin/x",
        "/%61dmin/x",
        "/go/x",
        "/a/../b",
        "/_ah/start",
        "/%00",
    ];
    let app = good();
    let mut args = vec!["explain", "--json"];
    args.extend(urls);
    let lines = app.run(&args).expect_code(0).json_lines();
    let proxy = app.upstream(&origin).start();
    for (line, url) in lines.iter().zip(urls) {
        let response = proxy.get(url);
        let wanted = line["status"].as_u64().unwrap_or(200);
        assert_eq!(u64::from(response.status), wanted, "{url}: {line}");
        assert_eq!(response.header("location"), line["location"].as_str(), "{url}");
    }
}

#[test]
fn routes_shows_the_table() {
    let done = good().run(&["routes"]).expect_code(0);
    assert_eq!(done.stdout.lines().count(), 5, "{done:#?}");
    for word in ["/static", "static/", "404 (login: admin)", "always", "app.yaml:13"] {
        assert!(done.stdout.contains(word), "{word}: {done:#?}");
    }
    let json = good().run(&["routes", "--json"]).expect_code(0).json();
    let urls: Vec<&str> =
        json.as_array().expect("rows").iter().filter_map(|row| row["url"].as_str()).collect();
    assert_eq!(urls, ["/static", "/admin/.*", "/go/(.*)", "/.*"]);
    assert_eq!(json[1]["action"], "blocked_login");
}

#[test]
fn healthcheck_asks_the_admin_port() {
    let origin = Origin::start();
    let proxy = good().upstream(&origin).start();
    let admin = proxy.admin_address().to_owned();
    run(&["healthcheck", "--admin", &admin]).expect_code(0);
    App::new().env("COMPAT_PROXY_ADMIN", admin.clone()).run(&["healthcheck"]).expect_code(0);
    origin.stop();
    proxy.wait_until("it is not ready", |status| status["state"] != "ready");
    says(run(&["healthcheck", "--admin", &admin]), 1, &["no worker is ready"]);
    drop(proxy);
    says(run(&["healthcheck", "--admin", &admin]), 1, &["compat-proxy running"]);
}

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let done = run(&["completions", shell]).expect_code(0);
        assert!(done.stdout.contains("upstream-cmd"), "{shell}");
    }
}

#[test]
fn help_shows_every_option_with_its_default() {
    let help = run(&["--help"]).expect_code(0).stdout;
    for option in [
        "--app-yaml",
        "--listen",
        "--h2c",
        "--admin",
        "--upstream-cmd",
        "--upstream",
        "--python",
        "--workers",
        "--concurrency",
        "--threadsafe",
        "--queue-depth",
        "--queue-timeout",
        "--request-timeout",
        "--connect-timeout",
        "--max-request-body",
        "--start-timeout",
        "--health-path",
        "--max-requests",
        "--max-lifetime",
        "--max-rss",
        "--stop-timeout",
        "--drain-quiet",
        "--grace-period",
        "--trusted-proxy",
        "--threads",
        "--static-cache",
        "--log-format",
        "--access-log",
        "--log-level",
        "--config",
    ] {
        assert!(help.contains(option), "{option}");
    }
    for command in ["run", "check", "explain", "routes", "healthcheck", "export", "install", "completions"] {
        assert!(help.contains(command), "{command}");
        run(&[command, "--help"]).expect_code(0);
    }
    for default in ["127.0.0.1:9911", "32MiB", "64MiB", "60s"] {
        assert!(help.contains(default), "{default}");
    }
    let version = run(&["--version"]).expect_code(0).stdout;
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}

#[test]
fn port_and_the_settings_file_are_honoured_in_their_order() {
    let origin = Origin::start();
    let app = good().file("compat-proxy.yaml", "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\naccess-log: off\n");
    let proxy = app.upstream(&origin).start();
    assert_eq!(proxy.get("/x").status, 200);
    assert!(proxy.access().is_empty());
    // The environment is above the file.
    let app = good().file("compat-proxy.yaml", "log-format: text\naccess-log: off\n");
    let proxy = app.env("COMPAT_PROXY_ACCESS_LOG", "on").upstream(&origin).start();
    assert_eq!(proxy.get("/x").status, 200);
    proxy.wait_access("/x", |line| line["path"] == "/x");
}

#[test]
fn sigterm_ends_it_with_0() {
    let origin = Origin::start();
    let proxy = good().upstream(&origin).start();
    let mut idle = proxy.connect();
    idle.request("GET", "/x", &[], b"");
    assert_eq!(idle.response_to("GET").expect("an answer").status, 200);
    let address = proxy.address().to_owned();
    let (code, output) = proxy.terminate();
    assert_eq!(code, Some(0), "{output}");
    assert!(idle.is_closed(), "an idle connection is closed");
    assert!(Connection::try_open(&address).is_err(), "nobody listens");
}

#[test]
fn options_may_stand_before_or_after_the_command_and_the_directory() {
    let app = good();
    app.run(&["--workers", "2", "check", "."]).expect_code(0);
    app.run(&["check", ".", "--workers", "2"]).expect_code(0);
    let path = app.path().display().to_string();
    run(&["check", &path]).expect_code(0);
    run(&["explain", "--json", &path, "/x"]).expect_code(0);
    run(&["routes", &path]).expect_code(0);
    let app = good().file("other.yaml", GOOD.replace("/static", "/elsewhere"));
    let done = app.run(&["routes", "--app-yaml", "other.yaml"]).expect_code(0);
    assert!(done.stdout.contains("/elsewhere"), "{done:#?}");
}
