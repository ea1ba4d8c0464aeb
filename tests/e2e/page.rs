//! The status page in a real browser: it updates itself, explains URLs, fits every width in light and dark, is whole
//! without JavaScript, loads nothing from elsewhere and says nothing in the console.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::browser::{Browser, Tab};
use crate::harness::fleet::{fleet, send_signal, workers_of};
use crate::harness::{App, Proxy, wait_for};
use crate::packages::{missing, packages};

/// Holds axe-core 4.
const AXE: &str = "axe-playwright-python==0.1.8";

const YAML: &str = r"
runtime: python39
service: shop
version: v42
env_variables:
  DATABASE_PASSWORD: hunter2-secret
default_expiration: 1h
handlers:
- url: /favicon\.ico
  static_files: static/favicon.ico
  upload: static/favicon\.ico
- url: /static
  static_dir: static
- url: /media/(.*\.(png|jpg|webp))
  static_files: static/\1
  upload: static/.*
  require_matching_file: true
- url: /docs
  static_dir: docs
  secure: always
- url: /admin/.*
  script: auto
  login: admin
- url: /account(/.*)?
  script: auto
  login: required
- url: /tasks/.*
  script: auto
  login: admin
- url: /checkout/.*
  script: auto
  secure: always
  redirect_http_response_code: 301
- url: /legacy/(.*)/feed
  script: auto
  secure: never
- url: /api/v2/(customers|orders|invoices)/[0-9]+/.*
  script: auto
- url: /robots\.txt
  static_files: static/robots.txt
  upload: static/robots\.txt
- url: /.*
  script: auto
";

fn shop(workers: usize) -> App {
    fleet(workers)
        .yaml(YAML.trim_start())
        .file("static/a.css", "a{}")
        .file("static/robots.txt", "User-agent: *\n")
        .file("docs/index.html", "<h1>docs</h1>")
}

fn address(proxy: &Proxy) -> String {
    format!("http://{}", proxy.admin_address())
}

/// The number in the column of requests, of the handler in this row.
fn requests_of(tab: &Tab<'_>, row: usize) -> u64 {
    let cell = tab.text(&format!("#handlers tbody tr:nth-child({}) td:nth-child(4)", row + 1));
    cell.replace(',', "").parse().unwrap_or_else(|error| panic!("{cell}: {error}"))
}

/// Nothing went wrong, and nobody else was asked for anything.
#[track_caller]
fn expect_quiet(tab: &Tab<'_>, origin: &str) {
    assert_eq!(tab.complaints(), Vec::<String>::new());
    let elsewhere =
        |url: &String| !url.starts_with(&format!("{origin}/")) && !url.starts_with("data:image/svg+xml,");
    let asked: Vec<String> = tab.requests().into_iter().filter(elsewhere).collect();
    assert_eq!(asked, Vec::<String>::new());
}

#[test]
fn it_updates_itself_rests_while_hidden_and_says_when_nobody_answers() {
    let Some(browser) = Browser::start() else { return };
    let proxy = shop(2).start();
    let before = proxy.wait_workers(2);
    let (tab, origin) = (browser.tab(), address(&proxy));
    tab.open(&origin);
    assert_eq!(requests_of(&tab, 11), 0);
    tab.eval("window.sameDocument = true");

    for _ in 0..7 {
        proxy.get("/x");
    }
    proxy.get("/admin/x");
    wait_for(
        "the counts are shown",
        || requests_of(&tab, 11) == 7 && requests_of(&tab, 4) == 1,
        || proxy.output(),
    );
    for (what, holds) in [
        ("the rate is shown", "Number(document.querySelector('#rate .now strong').textContent) > 0"),
        (
            "it is drawn",
            "document.querySelector('#rate .plot svg > path.line.main').getBoundingClientRect().width > 1",
        ),
    ] {
        let told = || proxy.get("/robots.txt").status == 200 && tab.eval(holds) == true;
        wait_for(what, told, || proxy.output());
    }

    send_signal(before[0].pid, Signal::KILL);
    let after = workers_of(&proxy.wait_until("it is replaced", |status| {
        let all = workers_of(status);
        all.len() == 2 && all.iter().all(|worker| worker.state == "ready" && worker.pid != before[0].pid)
    }));
    let pid = after.iter().find(|worker| worker.slot == before[0].slot).expect("its slot").pid;
    tab.wait("its pid is shown", &format!("document.querySelector('#workers').innerText.includes('{pid}')"));
    assert_eq!(tab.eval("window.sameDocument"), true, "the page was loaded again");
    expect_quiet(&tab, &origin);

    // A tab in the background asks nothing; when it is seen again, at once.
    let hide = |hidden: bool| {
        tab.eval(&format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }}); \
             document.dispatchEvent(new Event('visibilitychange'))"
        ))
    };
    hide(true);
    // One that was on its way may still end.
    std::thread::sleep(std::time::Duration::from_secs(1));
    tab.eval("1");
    let asked = tab.requests().len();
    std::thread::sleep(std::time::Duration::from_secs(5));
    tab.eval("1");
    assert_eq!(tab.requests().len(), asked, "it asks while it is hidden");
    hide(false);
    wait_for("it asks again", || !tab.eval("1").is_null() && tab.requests().len() > asked, String::new);

    let admin = proxy.admin_address().to_owned();
    drop(proxy);
    tab.wait("it says so", "/^not reachable, last seen \\d\\d:\\d\\d:\\d\\d UTC$/.test(document.querySelector('#link').innerText)");
    assert_eq!(requests_of(&tab, 11), 7, "the last values stay");
    let again = shop(1).args(["--admin", &admin]).start();
    tab.wait("it is back", "document.querySelector('#link').innerText === ''");
    wait_for("the counts are those of the new one", || requests_of(&tab, 11) == 0, || again.output());
    assert_eq!(tab.events("Runtime.exceptionThrown"), Vec::<Value>::new());
}

#[test]
fn a_url_is_explained_by_typing_it_and_pressing_enter() {
    let Some(browser) = Browser::start() else { return };
    let proxy = shop(1).start();
    let (tab, origin) = (browser.tab(), address(&proxy));
    tab.open(&origin);
    let mut order = Vec::new();
    while order.last() != Some(&json!("url")) {
        assert!(order.len() < 20, "the box is not reached: {order:?}");
        tab.press("Tab");
        order.push(tab.eval("document.activeElement.id || document.activeElement.getAttribute('href')"));
    }
    println!("by keyboard: {order:?}");
    assert_eq!(order[0], "#main", "first is the way past the rest");
    let outline = tab.eval("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid", "the focus can be seen");

    let ask = |url: &str| {
        let before = tab.text("#verdict");
        tab.eval("document.querySelector('#url').select()");
        tab.write(url);
        tab.press("Enter");
        wait_for("there is an answer", || tab.text("#verdict") != before, || tab.text("#verdict"));
        tab.text("#verdict")
    };
    let line = |url: &str| {
        let at =
            YAML.trim_start().lines().position(|line| line == format!("- url: {url}")).expect("it is there");
        format!("app.yaml:{}", at + 1)
    };
    for (url, parts) in [
        ("/admin/users?x=1", vec!["blocked: 404", "handler 4 /admin/.*", "login: admin", &line("/admin/.*")]),
        ("/static/a.css", vec!["file: 200", "static/a.css", "handler 1 /static", &line("/static")]),
        (
            "/hello",
            vec!["the app", "handler 11 /.*", "the script auto", "handlers 0 to 10: url does not match"],
        ),
        ("/media/x.png", vec!["the app", "handler 2", "file missing", "handlers 3 to 10"]),
        ("/checkout/1?a=b", vec!["redirect: 301", "https://localhost/checkout/1?a=b", "secure: always"]),
        ("https://shop.example/checkout/1", vec!["the app", "handler 7"]),
        ("/a/../b", vec!["redirect: 302", "segments"]),
        ("//admin//users", vec!["blocked: 404", "another program could take", "/admin/users"]),
        ("/static/none.css", vec!["refused: 404", "There is no such file"]),
        ("/_ah/health", vec!["health: 200"]),
        ("/a%00b", vec!["refused: 400", "NUL"]),
        ("no-slash", vec!["refused: 400", "does not start with a slash"]),
        ("/<script>alert(1)</script>", vec!["the app", "/<script>alert(1)</script>"]),
        (" ", vec!["The box was empty"]),
    ] {
        let told = ask(url);
        for part in parts {
            assert!(told.contains(part), "{url}: no `{part}` in:\n{told}");
        }
    }
    // Three times as long when it is encoded: the proxy would hang up.
    tab.eval("document.querySelector('#url').value = '/' + '\u{20ac}'.repeat(19000)");
    tab.press("Enter");
    tab.wait("it is too long", "document.querySelector('#verdict').innerText.includes('longer than')");
    let focus = tab.eval("document.activeElement.id");
    assert_eq!(focus, "url", "one can go on typing");
    expect_quiet(&tab, &origin);
    ask("/admin/x");
    let loads = tab.loads();
    tab.send("Page.reload", json!({}));
    tab.wait_load(loads);
    assert!(tab.text("#verdict").contains("login: admin"), "the address holds the question");
    assert_eq!(tab.eval("document.querySelector('#url').value"), "/admin/x");
    assert_eq!(proxy.status()["traffic"]["requests"], 0, "nothing was requested");

    // The policy is in force, and a complaint would have been seen.
    tab.eval("document.body.setAttribute('style', 'color: red')");
    wait_for(
        "the style is refused",
        || !tab.eval("1").is_null() && !tab.complaints().is_empty(),
        String::new,
    );
    assert!(tab.complaints()[0].contains("Content Security Policy"), "{:?}", tab.complaints());
}

#[test]
fn without_javascript_every_value_is_there_and_the_form_works() {
    let Some(browser) = Browser::start() else { return };
    let proxy = shop(2).start();
    let workers = proxy.wait_workers(2);
    proxy.get("/x");
    proxy.get("/static/a.css");
    proxy.wait_until("both are counted", |status| status["traffic"]["requests"] == 2);
    let (tab, origin) = (browser.tab(), address(&proxy));
    tab.send("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    tab.open(&origin);
    assert_eq!((requests_of(&tab, 11), requests_of(&tab, 1), requests_of(&tab, 4)), (1, 1, 0));
    let table = tab.text("#workers");
    for worker in &workers {
        assert!(table.contains(&worker.pid.to_string()), "{table}");
    }
    for (place, part) in [
        ("#title", "ready"),
        ("#title", "python39"),
        ("#config", "app.yaml"),
        ("#overview", "2 requests"),
        ("noscript", "Reload for newer values"),
    ] {
        assert!(tab.text(place).contains(part), "{place}: {}", tab.text(place));
    }
    tab.eval("document.querySelector('#url').focus()");
    tab.write("/account/1");
    let loads = tab.loads();
    tab.press("Enter");
    tab.wait_load(loads);
    let told = tab.text("#verdict");
    assert!(told.contains("blocked: 404") && told.contains("login: required"), "{told}");
    assert_eq!(tab.eval("document.querySelector('#url').value"), "/account/1");
    expect_quiet(&tab, &origin);
}

/// All there is to show: workers that serve and one that cannot, traffic, errors, a refused reload, an explained URL.
fn busy() -> Proxy {
    let proxy = shop(4).file("broken-3", "").launch();
    proxy.wait_until("three serve and one cannot", |status| {
        let all = workers_of(status);
        let count = |state: &str| all.iter().filter(|worker| worker.state == state).count();
        count("ready") == 3 && count("backoff") == 1
    });
    for round in 0..40 {
        for path in ["/x", "/static/a.css", "/static/none", "/sleep/60", "/checkout/1"] {
            proxy.get(path);
        }
        if round % 8 == 0 {
            proxy.get("/admin/x");
            proxy.get("/exit/3");
        }
    }
    proxy.write("app.yaml", YAML.trim_start().replace("login: required", "login: <script>alert(1)</script>"));
    proxy.wait_until("the reload is refused", |status| status["config"]["last_error"].is_string());
    proxy
}

fn axe() -> Option<String> {
    let folder = match packages("axe", &["--no-deps", AXE]) {
        Ok(folder) => folder,
        Err(error) => {
            missing(&format!("NO {AXE}, the page is not shown to be accessible: {error}"));
            return None;
        }
    };
    let path = folder.join("axe_playwright_python/axe.min.js");
    Some(std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// No rule of axe-core is broken, and it did look.
fn expect_accessible(tab: &Tab<'_>, axe: &str, view: &str) {
    tab.eval(&format!("{axe}; true"));
    let found = tab.eval(
        "axe.run(document, { resultTypes: ['violations'] }).then((done) => ({ \
         passed: done.passes.length, broken: done.violations.map((rule) => [rule.id, rule.help, \
         rule.nodes.map((node) => node.html + ' ' + node.failureSummary)]) }))",
    );
    assert!(found["passed"].as_u64() > Some(20), "{view}: {found:#}");
    assert_eq!(found["broken"], json!([]), "{view}: {found:#}");
}

#[test]
fn it_fits_every_width_in_light_and_dark_and_is_accessible() {
    let Some(browser) = Browser::start() else { return };
    let proxy = busy();
    let axe = axe();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    std::fs::create_dir_all(&folder).expect("a folder");
    println!("pictures in {}", folder.display());
    let (tab, origin) = (browser.tab(), address(&proxy));
    for width in [360, 768, 1440] {
        for scheme in ["light", "dark"] {
            let view = format!("{width}-{scheme}");
            tab.view(width, 900, scheme);
            tab.open(&format!("{origin}/?url=/media/x.png"));
            tab.picture(&folder.join(format!("{view}.png")));
            let told = tab.text("#notices");
            assert!(
                told.contains("app.yaml:25:10: error:") && told.contains("<script>alert(1)</script>"),
                "{told}"
            );
            let [scroll, inner] =
                ["document.scrollingElement.scrollWidth", "innerWidth"].map(|what| tab.eval(what));
            assert!(scroll.as_u64() <= inner.as_u64() && inner == width, "{view}: {scroll} of {inner}");
            expect_quiet(&tab, &origin);
            if let Some(axe) = &axe {
                expect_accessible(&tab, axe, &view);
            }
        }
    }
}

#[test]
fn what_is_asked_and_what_the_app_says_never_becomes_markup_and_no_variable_is_shown() {
    let proxy = App::new()
        .yaml("runtime: python39\nenv_variables:\n  PASSWORD: hunter2-secret\nhandlers:\n- url: /<script>alert(1)</script>.*\n  static_dir: static\n")
        .file("static/x", "")
        .start();
    let evil = "%3C/script%3E%3Cscript%3Ealert(2)%3C/script%3E%22";
    let page = proxy.admin(&format!("/?url={evil}"));
    let text = page.text();
    assert!(text.contains("/&lt;script&gt;alert(1)"), "{text}");
    assert!(text.contains("&lt;script&gt;alert(2)&lt;/script&gt;&quot;"), "{text}");
    assert_eq!(text.matches("<script").count(), 1, "{text}");
    let policy = page.header("content-security-policy").expect("a policy");
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");

    for (round, value) in
        ["[hunter2-secret", "*hunter2-secret", "!!int hunter2-secret", "'hunter2-secret"].iter().enumerate()
    {
        let failures = || proxy.metric("compat_proxy_config_reloads_total{result=\"failure\"}");
        proxy.write(
            "app.yaml",
            format!("runtime: python39\nenv_variables:\n  A: b\n  PASSWORD: {value}\nhandlers: []\n"),
        );
        wait_for("the reload is refused", || failures() > round as f64, || proxy.output());
        let told = proxy.status()["config"]["last_error"].as_str().unwrap_or_default().to_owned();
        assert!(told.starts_with("app.yaml:"), "{told}");
        for path in ["/", "/?url=/x", "/status", "/metrics", "/explain?url=/x"] {
            let text = proxy.admin(path).text();
            assert!(!text.contains("hunter2"), "{value}, {path}: {text}");
        }
    }
    assert!(proxy.output().contains("hunter2"), "the log tells it, so that there was something to hide");
}

#[test]
fn explain_answers_what_the_command_prints() {
    let proxy = shop(1).start();
    for url in [
        "/admin/x",
        "/static/a.css",
        "/static/none",
        "/media/x.png",
        "/x?a=b&c=%2F",
        "/checkout/1",
        "https://shop.example/checkout/1",
        "/a/../b",
        "//admin/x",
        "/%61dmin/x",
        "/static%2Fa.css",
        "/a%00b",
        "/_ah/health",
        "/_ah/start",
        "no-slash",
        "http://",
        "http://a b/",
        "/a b",
        "/a\tb\n",
        "/caf\u{e9}",
        "*",
    ] {
        let query: String = form_urlencoded::byte_serialize(url.as_bytes()).collect();
        let answer = proxy.admin(&format!("/explain?url={query}"));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{url}");
        let printed =
            App::new().run(&["explain", proxy.path().to_str().expect("UTF-8"), "--json", "--", url]);
        let printed = printed.expect_code(0);
        assert_eq!(answer.text(), printed.stdout, "{url}");
        assert_eq!(proxy.admin(&format!("/?url={query}")).status, 200, "{url}");
    }
}

#[test]
fn a_url_that_is_none_gets_a_clear_answer_and_no_panic() {
    let proxy = shop(1).start();
    for query in ["", "?", "?x=1", "?url", "?url=", "?url=%20", "?url=/caf%E9", "?url=%FF%FE"] {
        let answer = proxy.admin(&format!("/explain{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.json()["error"].as_str().is_some_and(|text| text.len() > 10), "{query}");
        assert_eq!(proxy.admin(&format!("/{query}")).status, 200, "{query}");
    }
    let huge = format!("/{}", "x".repeat(60_000));
    let told = proxy.admin(&format!("/explain?url={huge}")).json();
    assert_eq!((&told["action"], &told["status"]), (&json!("bad_request"), &json!(414)));
    let page = proxy.admin(&format!("/?url={huge}")).text();
    assert!(page.contains("refused: 414") && page.contains("(60,001 bytes)"), "{}", page.len());
    // More than 64 KiB is no target for the HTTP library: it hangs up, and that is all.
    assert!(proxy.try_admin(&format!("/explain?url={huge}{huge}")).is_none());
    for path in
        ["/%00", "/%0A%0D", "/%25%25", "/%2525", "/%", "/%zz", "/a%2F..%2Fb", "/\\..\\x", "////", "/;a=b/"]
    {
        let query: String = form_urlencoded::byte_serialize(path.as_bytes()).collect();
        for target in [format!("/?url={query}"), format!("/explain?url={query}")] {
            assert_eq!(proxy.admin(&target).status, 200, "{path}");
        }
    }
    assert!(proxy.metric("compat_proxy_panics_total") == 0.0, "{}", proxy.output());
    assert_eq!(proxy.admin("/readyz").status, 200);
}
