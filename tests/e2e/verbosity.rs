//! The log level and the choice of requests, changed while it runs; what is left out of the access log, and what of it.

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::fleet::fleet;
use crate::harness::origin::Origin;
use crate::harness::{App, Proxy, wait_for};

const YAML: &str = "- url: /.*\n  script: main.app\n";

fn attached(origin: &Origin) -> App {
    App::new().handlers(YAML).upstream(origin)
}

fn levels(proxy: &Proxy) -> Vec<String> {
    let told = proxy.events_named("log level");
    told.iter().map(|event| event["level"].as_str().expect("a level").to_owned()).collect()
}

/// Reloads by SIGHUP, and waits until it is done.
fn reload(proxy: &Proxy, message: &str) {
    let before = proxy.events_named(message).len();
    proxy.hang_up();
    wait_for("it was reloaded", || proxy.events_named(message).len() > before, || proxy.output());
}

/// Whether a request leaves a debug line that names its ids, the same as in the access log.
fn is_verbose(proxy: &Proxy, path: &str) -> bool {
    proxy.get(path);
    let line = proxy.wait_access(path, |line| line["path"] == path);
    // Events and access lines go different ways: wait for another event after it.
    let told = |event: &Value| event["msg"] == "decided" && event["url"] == path;
    let decided = proxy.events().into_iter().find(told);
    if let Some(event) = &decided {
        assert_eq!((&event["request_id"], &event["trace_id"]), (&line["request_id"], &line["trace_id"]));
    }
    decided.is_some()
}

#[test]
fn sigusr1_shows_debug_and_back_and_disturbs_no_worker() {
    let proxy = fleet(2).start();
    let workers = proxy.wait_workers(2);
    assert!(!is_verbose(&proxy, "/quiet"));
    proxy.signal(Signal::USR1);
    wait_for("it is told", || levels(&proxy) == ["debug"], || proxy.output());
    proxy.get("/verbose");
    proxy.wait_event("a decision", |event| event["msg"] == "decided" && event["url"] == "/verbose");
    assert!(is_verbose(&proxy, "/verbose"));
    proxy.signal(Signal::USR1);
    wait_for("it is told", || levels(&proxy) == ["debug", "info"], || proxy.output());
    assert!(!is_verbose(&proxy, "/quiet-again"));
    assert_eq!(proxy.wait_workers(2), workers);
    // Pingora, which we are built on, stays quiet all the time.
    let output = proxy.output();
    assert!(!output.contains("pingora"), "{output}");
}

#[test]
fn a_level_of_the_file_takes_effect_on_sighup_and_a_bad_one_does_not() {
    let origin = Origin::start();
    let proxy = attached(&origin).file("compat-proxy.yaml", "log-level: info\n").start();
    proxy.write("compat-proxy.yaml", "log-level: debug\n");
    reload(&proxy, "configuration reloaded");
    assert_eq!(levels(&proxy), ["debug"]);
    proxy.get("/x");
    proxy.wait_event("a decision", |event| event["msg"] == "decided");
    proxy.write("compat-proxy.yaml", "log-level: loud\n");
    let refused = "configuration not reloaded: the old one stays in force";
    reload(&proxy, refused);
    let told = proxy.events_named(refused)[0]["error"].to_string();
    assert!(told.contains("log-level") && told.contains("loud"), "{told}");
    assert_eq!(levels(&proxy), ["debug"]);
    // `error` is less than what tells of it.
    proxy.write("compat-proxy.yaml", "log-level: error\n");
    proxy.hang_up();
    wait_for("it is told", || levels(&proxy) == ["debug", "error"], || proxy.output());
}

#[test]
fn a_level_of_the_file_that_a_flag_overrules_is_told() {
    let origin = Origin::start();
    let proxy = attached(&origin).args(["--log-level", "info"]).start();
    proxy.write("compat-proxy.yaml", "log-level: debug\n");
    reload(&proxy, "configuration reloaded");
    let told = proxy.wait_event("it has no effect", |event| {
        event["msg"].as_str().is_some_and(|text| text.contains("has no effect"))
    });
    let text = told["msg"].as_str().expect("text");
    assert!(text.contains("`log-level: debug`") && text.contains("flag"), "{text}");
    assert_eq!(levels(&proxy), Vec::<String>::new());
}

#[test]
fn which_requests_are_logged_takes_effect_on_sighup() {
    let origin = Origin::start();
    let proxy = attached(&origin).file("compat-proxy.yaml", "access-log: off\n").start();
    proxy.get("/off");
    proxy.write("compat-proxy.yaml", "access-log: on\n");
    reload(&proxy, "configuration reloaded");
    proxy.get("/on");
    proxy.wait_access("/on", |line| line["path"] == "/on");
    assert_eq!(proxy.access().len(), 1, "{}", proxy.output());
}

#[test]
fn probes_that_find_all_well_are_counted_and_not_logged() {
    let origin = Origin::start();
    let handlers = "- url: /admin\n  script: main.app\n  login: admin\n- url: /.*\n  script: main.app\n";
    let proxy = App::new().handlers(handlers).upstream(&origin).start();
    for agent in ["kube-probe/1.31", "GoogleHC/1.0", "ELB-HealthChecker/2.0"] {
        assert_eq!(proxy.request("GET", "/probe", &[("User-Agent", agent)], b"").status, 200);
    }
    assert_eq!(proxy.get("/_ah/health").status, 200);
    // Anybody may call himself so: what no probe asks is logged.
    for (method, path, status) in
        [("GET", "/admin", 404), ("GET", "/probe?x", 200), ("POST", "/probe/post", 200)]
    {
        let answer = proxy.request(method, path, &[("User-Agent", "kube-probe/1.31")], b"");
        assert_eq!(answer.status, status);
    }
    proxy.wait_access("the last one", |line| line["path"] == "/probe/post");
    let paths: Vec<String> =
        proxy.access().iter().map(|line| line["path"].as_str().expect("a path").to_owned()).collect();
    assert_eq!(paths, ["/admin", "/probe", "/probe/post"]);
    let counted = proxy.metric_sum("compat_proxy_http_requests_total", &["handler=\"/.*\""]);
    assert!((counted - 5.0).abs() < 0.5, "{counted}");
}

#[test]
fn secrets_of_urls_are_in_no_line_and_reach_the_app() {
    let origin = Origin::start();
    let proxy = attached(&origin).args(["--log-level", "debug"]).start();
    let target = "/x?q=1&api_key=hunter2&%74oken=hunter3";
    let headers = [
        ("Referer", "https://me:hunter4@a.example/?session=hunter5"),
        ("Authorization", "Bearer hunter6"),
        ("Cookie", "sid=hunter7"),
    ];
    proxy.request("GET", target, &headers, b"");
    let line = proxy.wait_access("/x", |line| line["path"] == "/x");
    assert_eq!(line["query"], "q=1&api_key=[redacted]&%74oken=[redacted]");
    assert_eq!(line["referer"], "https://[redacted]@a.example/?session=[redacted]");
    proxy.wait_event("a decision", |event| event["msg"] == "decided");
    assert!(!proxy.output().contains("hunter"), "{}", proxy.output());
    assert!(origin.targets().iter().any(|seen| seen == target), "{:?}", origin.targets());
}

#[test]
fn cloud_logging_gets_entries_it_reads() {
    // Nothing tells the harness where such a log says it listens: paths are known.
    let origin = Origin::start();
    let app = attached(&origin).env("GOOGLE_CLOUD_PROJECT", "shop").args(["--log-format", "gcp"]);
    let [front, admin] = ["front", "admin"].map(|name| format!("unix:{}", app.beside(name).display()));
    let proxy = app.args(["--listen", &front, "--admin", &admin]).start();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let cloud = format!("{trace}/255;o=1");
    let headers = [("X-Cloud-Trace-Context", cloud.as_str()), ("User-Agent", "me")];
    proxy.request("POST", "/x?y=1", &headers, b"body");
    let find = || {
        let lines = proxy.stdout_lines();
        lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line.get("httpRequest").is_some())
    };
    wait_for("the entry is there", || find().is_some(), || proxy.output());
    let entry = find().expect("just found");
    let request = &entry["httpRequest"];
    assert_eq!((&request["requestMethod"], &request["status"]), (&"POST".into(), &200.into()), "{entry}");
    assert!(request["requestUrl"].as_str().is_some_and(|url| url.ends_with("/x?y=1")), "{entry}");
    assert_eq!((&request["requestSize"], &request["userAgent"]), (&"4".into(), &"me".into()), "{entry}");
    let latency = request["latency"].as_str().expect("text").strip_suffix('s').expect("seconds");
    assert!(latency.parse::<f64>().is_ok_and(|seconds| seconds < 60.0), "{entry}");
    assert_eq!(entry["logging.googleapis.com/trace"], format!("projects/shop/traces/{trace}"));
    assert_eq!(entry["logging.googleapis.com/spanId"], "00000000000000ff");
    assert_eq!(entry["logging.googleapis.com/trace_sampled"], true);
    assert_eq!(entry["severity"], "INFO");
}
