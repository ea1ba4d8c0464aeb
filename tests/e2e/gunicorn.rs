//! Gunicorn with the launcher's own worker in it: the launcher's tests under gunicorns of then and now, and what only
//! the proxy and the worker together can show.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::harness::load::{Ask, Expected, Load};
use crate::harness::pythons::{self, Python};
use crate::harness::{App, Proxy};
use crate::packages::{missing, packages};

/// What gunicorn says at its start of a worker that is the launcher's.
const OURS: &str = "Using worker: __main__.LauncherWorker";
const MAIN: &str = r#"
import itertools, json, os, time
NUMBER = itertools.count()

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/slow") and next(NUMBER) % 10 == 0:
        time.sleep(0.1)
    body = environ["wsgi.input"].read()
    text = json.dumps([path, len(body), os.getpid()]).encode("ascii")
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
    return [text]
"#;

/// Folders with a gunicorn in each, of then, between and now, for whichever Python can import it.
fn gunicorns() -> Vec<PathBuf> {
    let between = packages("gunicorn-between", &["gunicorn==23.0.0"]);
    if let Err(error) = &between {
        missing(&format!("NO GUNICORN 23, nothing is shown for it: {error}"));
    }
    pythons::all().map(|python| python.gunicorn.clone()).chain(between).collect()
}

fn app(python: &Python) -> App {
    App::new()
        .yaml("runtime: python27\nthreadsafe: true\nhandlers:\n- url: /.*\n  script: main.app\n")
        .file("main.py", MAIN)
        .on(python, true)
}

/// The worker's process, and how many bytes of the body it got.
fn asked(proxy: &Proxy, method: &str, path: &str, body: &[u8]) -> (u64, u64) {
    let answer = proxy.request(method, path, &[], body);
    assert_eq!(answer.status, 200, "{answer}\n{}", proxy.output());
    let seen = answer.json();
    assert_eq!(seen[0], json!(path), "{seen}");
    (seen[2].as_u64().unwrap(), seen[1].as_u64().unwrap())
}

/// A GET and a POST in turn.
fn both(client: usize, number: u64) -> Ask {
    let post = (number + client as u64).is_multiple_of(2);
    let path = if post { "/post" } else { "/slow/get" };
    Ask {
        method: if post { "POST" } else { "GET" },
        path: path.to_owned(),
        body: if post { b"twelve bytes".to_vec() } else { Vec::new() },
        expected: Expected::With(if post { "[\"/post\", 12, " } else { "[\"/slow/get\", 0, " }),
    }
}

#[test]
fn the_launcher_keeps_its_promises_under_gunicorns_of_then_and_now() {
    let programs: Vec<_> = pythons::all().map(|python| python.program.clone()).collect();
    let gunicorns = gunicorns();
    if gunicorns.is_empty() {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/launcher/test_launcher.py");
    let output = Command::new("python3")
        .arg(script)
        .args(["-k", "_gunicorn_"])
        .env("LAUNCHER_PYTHONS", programs.join(":"))
        .env("LAUNCHER_GUNICORNS", std::env::join_paths(&gunicorns).unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    println!("{told}");
    assert!(output.status.success(), "the launcher's tests failed");
    let shown = told.lines().filter(|line| line.contains(", gunicorn ") && !line.contains("not installed"));
    assert!(shown.count() >= gunicorns.len(), "a gunicorn of {gunicorns:?} was left out");
    assert!(!told.contains("Ran 0 tests"));
}

#[test]
fn the_launcher_s_worker_answers_unless_gunicorn_conf_py_could_tell_the_difference() {
    for python in pythons::all() {
        let plain = app(python).workers(1).start();
        asked(&plain, "GET", "/x", b"");
        assert!(plain.output().contains(OURS), "{}", plain.output());
        for conf in
            ["worker_class = 'gthread'\n", "def pre_request(worker, request):\n    open('hooked', 'w')\n"]
        {
            let own = app(python).file("gunicorn.conf.py", conf).workers(1).start();
            asked(&own, "GET", "/x", b"");
            assert_eq!(asked(&own, "POST", "/x", &[b'x'; 100_000]).1, 100_000);
            assert!(!own.output().contains(OURS), "{}", own.output());
            own.wait_event("it says why", |event| {
                event["message"].as_str().is_some_and(|text| text.contains("gunicorn's own worker answers"))
            });
            assert_eq!(own.path().join("hooked").exists(), conf.contains("hooked"));
        }
    }
}

#[test]
fn max_requests_of_gunicorn_conf_py_changes_workers_and_loses_no_request() {
    for python in pythons::all() {
        let conf = "max_requests = 150\nmax_requests_jitter = 20\n";
        let proxy = app(python).file("gunicorn.conf.py", conf).workers(2).start();
        let load = Load::start(&proxy, 16, both);
        let mut pids = BTreeSet::new();
        while pids.len() < 6 {
            load.wait_answered(50);
            pids.insert(asked(&proxy, "GET", "/pid", b"").0);
        }
        let report = load.stop();
        println!("Python {}, max_requests: {report}", python.version);
        report.expect_all_good(&proxy);
        assert_eq!(proxy.metric_sum("compat_proxy_upstream_retries_total", &[]), 0.0, "{}", proxy.output());
        assert!(proxy.status()["workers"].as_array().unwrap().iter().all(|worker| worker["restarts"] == 0));
        assert_eq!(proxy.terminate().0, Some(0));
    }
}

#[test]
fn far_more_clients_than_threads_are_all_answered_and_a_stop_loses_none_of_them() {
    for python in pythons::all() {
        let mut proxy = app(python).args(["--concurrency", "3", "--queue-depth", "500"]).workers(2).start();
        let load = Load::start(&proxy, 64, both);
        load.wait_answered(1500);
        proxy.signal(rustix::process::Signal::TERM);
        proxy.expect_clean_end(25);
        let report = load.stop();
        println!("Python {}, 64 clients, 6 threads: {report}", python.version);
        report.expect_all_good(&proxy);
        assert!(!proxy.output().contains("Traceback"), "{}", proxy.output());
    }
}

#[test]
fn a_body_in_chunks_and_a_large_one_reach_the_app_whole() {
    for python in pythons::all() {
        let proxy = app(python).workers(1).start();
        let large = vec![b'x'; 8 << 20];
        assert_eq!(asked(&proxy, "POST", "/large", &large).1, 8 << 20);
        let mut client = proxy.connect();
        client.send("POST /chunks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;a=b\r\n...\r\n0\r\n\r\n");
        let answer = client.response_to("POST").unwrap();
        assert_eq!((answer.status, &answer.json()[1]), (200, &json!(8)), "{answer}");
    }
}
