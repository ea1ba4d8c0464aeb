//! Traffic of every kind for the demo app: what the dashboards show must have happened.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::client::Connection;
use crate::harness::fleet::python;
use crate::harness::{App, Proxy, wait_for};

/// A page that takes as long as it is told, and one that wants https.
const MORE: &str = r"
- url: /nap
  script: nap.app
- url: /secure
  script: main.app
  secure: always
";
const NAP: &str = r#"
import time


def app(environ, start_response):
    time.sleep(int(environ["QUERY_STRING"] or 0) / 1000.0)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"slept\n"]
"#;

/// The demo app behind few places and a short queue.
pub fn start() -> Proxy {
    let app = App::from("demo").file("nap.py", NAP);
    let yaml = std::fs::read_to_string(app.path().join("app.yaml")).expect("the demo's app.yaml");
    let app = app.yaml(&yaml.replace("\nhandlers:\n", &format!("\nhandlers:\n{}", MORE.trim_start())));
    let limits = ["--workers=2", "--concurrency=2", "--queue-depth=4", "--queue-timeout=1s"];
    let times = ["--request-timeout=2s", "--max-request-body=1MiB", "--access-log=off"];
    app.args(limits).args(times).args(["--python", python()]).start()
}

/// Until told to stop: what an app gets all day long.
pub fn go_on(proxy: &Proxy, stop: &AtomicBool) {
    let mut round = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        ordinary(proxy, round);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Some of these meet a full queue or a worker that was just killed: what they are answered is not looked at.
fn ask(proxy: &Proxy, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
    if let Ok(mut connection) = Connection::try_open(proxy.address()) {
        connection.request(method, target, headers, body);
        let _ = connection.response_to(method);
    }
}

fn ordinary(proxy: &Proxy, round: u32) {
    let form = b"name=a&message=hello";
    let kind = ("Content-Type", "application/x-www-form-urlencoded");
    match round % 8 {
        0 => ask(proxy, "POST", "/guestbook", &[kind], form),
        1 => ask(proxy, "GET", "/error", &[], b""),
        2 => ask(proxy, "GET", "/admin/", &[("X-AppEngine-User-Is-Admin", "1"), ("a_b", "c")], b""),
        3 => {
            ask(proxy, "GET", "/static/none", &[], b"");
            ask(
                proxy,
                "GET",
                "/static/logo.svg",
                &[("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT")],
                b"",
            );
            ask(proxy, "GET", "/static/style.css", &[("Range", "bytes=0-9")], b"");
        }
        4 => ask(proxy, "GET", "/nap?150", &[("X-AppEngine-User-Is-Admin", "1"), ("a_b", "c")], b""),
        5 => ask(proxy, "GET", "/big?kilobytes=64", &[], b""),
        6 => ask(proxy, "GET", "/nothing/here", &[], b""),
        _ => ask(proxy, "GET", "/", &[], b""),
    }
    ask(proxy, "GET", "/static/style.css", &[], b"");
}

/// Each once: what is refused, redirected, protected, or not found before any worker is asked.
pub fn oddities(proxy: &Proxy) {
    for target in ["/admin/", "//admin/", "/_ah/start", "/a/../b", "/secure", "/static/none", "/_ah/health"] {
        ask(proxy, "GET", target, &[], b"");
    }
    for method in ["HEAD", "PUT", "DELETE", "OPTIONS", "BREW"] {
        ask(proxy, method, "/", &[], b"");
    }
    ask(proxy, "GET", "/", &[("Host", "a b")], b"");
    ask(proxy, "POST", "/guestbook", &[("Content-Length", "2000000")], b"");
    ask(proxy, "GET", "/static/style.css", &[("If-Match", "\"another\"")], b"");
}

/// More at once than there are places: some wait, some wait in vain, some find the queue full; one takes too long,
/// and one client leaves.
pub fn crowd(proxy: &Proxy) {
    let together = |count: usize, target: &str| {
        std::thread::scope(|scope| {
            (0..count).for_each(|_| drop(scope.spawn(|| ask(proxy, "GET", target, &[], b""))));
        });
    };
    together(7, "/nap?500");
    together(12, "/nap?1800");
    ask(proxy, "GET", "/nap?3000", &[], b"");
    let mut leaving = proxy.connect();
    leaving.request("GET", "/nap?1500", &[], b"");
    wait_for("it is asleep", || proxy.metric("compat_proxy_concurrency_in_use") > 0.0, || proxy.output());
    drop(leaving);
}

/// Kills a worker that is busy: a POST cannot be tried again, a GET can.
pub fn crash(proxy: &Proxy) {
    let restarts =
        |proxy: &Proxy| proxy.metric_sum("compat_proxy_worker_starts_total", &["reason=\"crash\""]);
    let before = restarts(proxy);
    let status = proxy.status();
    let workers: Vec<i64> = status["workers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|worker| worker["pid"].as_i64())
        .collect();
    std::thread::scope(|scope| {
        scope.spawn(|| ask(proxy, "POST", "/nap?1200", &[], b"x"));
        scope.spawn(|| ask(proxy, "POST", "/nap?1200", &[], b"x"));
        scope.spawn(|| ask(proxy, "GET", "/nap?1200", &[], b""));
        let busy = || proxy.metric("compat_proxy_concurrency_in_use") >= 3.0;
        wait_for("the workers are busy", busy, || proxy.output());
        for pid in workers {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
            kill_process(pid, Signal::KILL).expect("the worker is there");
        }
    });
    wait_for("both were replaced", || restarts(proxy) >= before + 2.0, || proxy.output());
    proxy.wait_until("both are ready again", ready);
}

/// A broken app.yaml, then the good one again; then all workers are rolled.
pub fn reloads(proxy: &Proxy, seen: impl Fn(&str)) {
    let good = std::fs::read(proxy.path().join("app.yaml")).expect("app.yaml");
    proxy.write("app.yaml", "handlers: [");
    proxy.wait_until("the broken one is refused", |status| status["config"]["last_error"].is_string());
    seen("compat_proxy_config_last_reload_successful == 0");
    proxy.write("app.yaml", good);
    let reloads = |status: &serde_json::Value| status["config"]["reloads"].as_i64().unwrap_or_default();
    // It is what it was: only SIGHUP says so.
    let before = reloads(&proxy.status());
    proxy.hang_up();
    proxy.wait_until("the good one is in force", |status| reloads(status) > before && ready(status));
    seen("compat_proxy_config_last_reload_successful == 1");
}

fn ready(status: &serde_json::Value) -> bool {
    let workers = status["workers"].as_array();
    workers
        .is_some_and(|workers| workers.len() == 2 && workers.iter().all(|worker| worker["state"] == "ready"))
}
