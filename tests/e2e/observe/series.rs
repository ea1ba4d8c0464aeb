//! Which series there are: as many as handlers, workers and closed sets make, whatever is asked and however often the
//! configuration changes.

use std::collections::BTreeSet;

use crate::harness::fleet::python;
use crate::harness::origin::Origin;
use crate::harness::{App, Proxy, wait_for};

const HANDLERS: &str = r"
- url: /static
  static_dir: static
- url: /admin/.*
  script: admin.app
  login: admin
- url: /.*
  script: main.app
";

fn series(proxy: &Proxy) -> BTreeSet<String> {
    let text = proxy.admin("/metrics").text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

fn count(proxy: &Proxy, labels: &[&str]) -> f64 {
    proxy.metric_sum("compat_proxy_http_requests_total", labels)
}

#[test]
fn what_is_refused_for_another_reading_is_blocked_and_a_probe_is_no_request() {
    let origin = Origin::start();
    let proxy = App::new().handlers(HANDLERS).upstream(&origin).start();
    let answers = ["/admin/x", "//admin/x", "/%2561dmin/x", "/_ah/start"].map(|path| proxy.get(path).status);
    assert_eq!(answers, [404; 4]);
    assert_eq!(proxy.get("/_ah/health").status, 200);
    assert_eq!(proxy.get("/a/../b").status, 302);
    wait_for("all are counted", || count(&proxy, &[]) >= 5.0, || proxy.output());
    assert_eq!(count(&proxy, &["handler=\"/admin/.*\"", "handler_type=\"blocked\""]), 1.0);
    assert_eq!(count(&proxy, &["handler=\"_blocked\"", "handler_type=\"blocked\"", "code=\"404\""]), 3.0);
    assert_eq!(count(&proxy, &["handler=\"_internal\"", "code=\"302\""]), 1.0);
    assert_eq!(count(&proxy, &[]), 5.0, "a probe is not counted");
    assert_eq!(proxy.metric("compat_proxy_responses_generated_total{reason=\"health\"}"), 1.0);
}

#[test]
fn the_number_of_series_does_not_grow_with_what_is_asked() {
    let origin = Origin::start();
    let proxy = App::new().handlers(HANDLERS).file("static/a.css", "a{}").upstream(&origin).start();
    let storm = |round: u32| {
        for number in 0..20 {
            let host = format!("host-{round}-{number}");
            for path in ["", "static/", "admin/", "/admin/", "a/../"] {
                let path = format!("/{path}{round}-{number}?q={number}");
                proxy.request(
                    "GET",
                    &path,
                    &[("Host", &host), ("User-Agent", &host), ("Referer", &path)],
                    b"",
                );
            }
            proxy.raw(format!("METHOD{round}{number} /x HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            proxy.raw(format!("GET /x HTTP/1.1\r\nHost: a {host}\r\n\r\n"));
        }
        let wanted = f64::from((round + 1) * 20 * 7);
        wait_for("all are counted", || count(&proxy, &[]) >= wanted, || proxy.output());
    };
    storm(0);
    let before = series(&proxy);
    storm(1);
    let after = series(&proxy);
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:#?}");
    assert!(after.len() < 1000, "{} series", after.len());
}

#[test]
fn a_handler_that_a_reload_takes_away_takes_its_series_with_it() {
    let origin = Origin::start();
    let proxy = App::new().handlers(HANDLERS).file("static/a.css", "a{}").upstream(&origin).start();
    proxy.get("/static/a.css");
    proxy.get("/x");
    wait_for("both are counted", || count(&proxy, &[]) >= 2.0, || proxy.output());
    let of = |handler: &str| {
        let label = format!("handler=\"{handler}\"");
        series(&proxy).into_iter().filter(|series| series.contains(&label)).count()
    };
    assert!(of("/static") > 50 && of("/admin/.*") > 10);
    let rest = "runtime: python27\napi_version: 1\nthreadsafe: true\nhandlers:\n- url: /new/.*\n  script: new.app\n- url: /.*\n  script: main.app\n";
    proxy.write("app.yaml", rest);
    let current = |status: &serde_json::Value| status["config"]["reloads"] == 1;
    proxy.wait_until("it is read", current);
    wait_for("the old ones are gone", || of("/static") + of("/admin/.*") == 0, || proxy.output());
    assert!(of("/new/.*") > 50, "the new one stands at zero");
    assert_eq!(count(&proxy, &["handler=\"/.*\""]), 1.0, "what was counted for a handler that stays is kept");
    // One that is refused leaves nothing behind either.
    proxy.write(
        "app.yaml",
        rest.replace("/new/.*", "/newer/.*").replace("main.app", "main.app\n  nonsense: ["),
    );
    proxy.wait_until("it is refused", |status| status["config"]["last_error"].is_string());
    assert_eq!(of("/newer/.*"), 0);
    assert!(of("_internal") > 0 && of("_blocked") > 0 && of("_unmatched") > 0);
}

#[test]
fn what_workers_use_is_shown_while_they_are_there() {
    let app = App::from("demo").args(["--python", python()]).file("compat-proxy.yaml", "workers: 2\n");
    let proxy = app.start();
    proxy.wait_until("both are ready", |status| {
        let workers = status["workers"].as_array();
        workers.is_some_and(|workers| workers.iter().filter(|worker| worker["state"] == "ready").count() == 2)
    });
    let shown = |name: &str, worker: usize| {
        proxy.metric(&format!("compat_proxy_worker_{name}{{worker=\"{worker}\"}}"))
    };
    let all = ["resident_memory_bytes", "virtual_memory_bytes", "open_fds", "threads", "start_time_seconds"];
    // The first look may meet a process that has only just begun.
    let grown = |worker| shown("resident_memory_bytes", worker) > 1e6 && shown("open_fds", worker) >= 3.0;
    let measured = || (0..2).all(|worker| grown(worker) && all.iter().all(|name| shown(name, worker) > 0.0));
    wait_for("both were measured", measured, || proxy.admin("/metrics").text());
    assert!((0..2).all(|worker| shown("start_time_seconds", worker) > 1.7e9));
    let cpu = || proxy.metric_sum("compat_proxy_worker_cpu_seconds_total", &[]);
    let before = cpu();
    let busy = || {
        proxy.get("/big?kilobytes=16384");
        cpu() > before + 0.02
    };
    wait_for("their processor time grows", busy, || proxy.admin("/metrics").text());
    proxy.write("compat-proxy.yaml", "workers: 1\n");
    proxy.hang_up();
    let gone = || !series(&proxy).contains("compat_proxy_worker_threads{worker=\"1\"}");
    wait_for("the second slot's gauges are gone", gone, || proxy.output());
    let left = series(&proxy);
    assert!(!left.iter().any(|series| { series.contains("worker=\"1\"") && !series.contains("_total{") }));
    assert!(left.contains("compat_proxy_worker_threads{worker=\"0\"}"));
    assert!(cpu() > before, "counters do not vanish");
}
