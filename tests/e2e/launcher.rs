//! The built-in launcher, with the demo: an ordinary App Engine app that nobody told how to start.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::fleet::{Worker, python, send_signal, workers_of};
use crate::harness::load::{Ask, Expected, Load};
use crate::harness::pythons::{self, Python};
use crate::harness::{App, Proxy, wait_for};

/// The demo as anyone would start it, on the Python that is there.
fn demo() -> App {
    App::from("demo").args(["--python", python()])
}

/// Pages of both scripts, a form, a static file, and the page nobody may see.
fn browse(client: usize, number: u64) -> Ask {
    let page = |path: &str, text| Ask {
        method: "GET",
        path: path.to_owned(),
        body: Vec::new(),
        expected: Expected::With(text),
    };
    match (number + client as u64) % 5 {
        0 => page("/guestbook", "Guestbook"),
        1 => page("/static/style.css", "{"),
        2 => page("/big?kilobytes=64", "the quick brown"),
        _ => page("/", "Worker process"),
    }
}

#[track_caller]
fn pid_on_the_page(proxy: &Proxy) -> i32 {
    let page = proxy.get("/");
    assert_eq!(page.status, 200, "{page}\n{}", proxy.output());
    let text = page.text();
    let rest = text.split_once("Worker process</th><td>").unwrap_or_else(|| panic!("{text}")).1;
    rest.split('<').next().and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

mod demo {
    use super::*;

    #[test]
    fn serves_pages_of_both_scripts_static_files_and_hides_the_admin_page() {
        let proxy = demo().workers(2).start();
        let workers = proxy.wait_workers(2);

        let seen: std::collections::BTreeSet<i32> = (0..20).map(|_| pid_on_the_page(&proxy)).collect();
        assert_eq!(
            seen,
            workers.iter().map(|worker| worker.pid).collect(),
            "every worker's pid is on the page"
        );
        assert!(proxy.get("/guestbook").text().contains("Guestbook"));
        let style = proxy.get("/static/style.css");
        assert_eq!((style.status, style.header("content-type")), (200, Some("text/css")), "{style}");
        for hidden in ["/admin/", "/admin/x", "/%61dmin/", "//admin/"] {
            assert_ne!(proxy.get(hidden).status, 200, "{hidden}");
        }
        assert_eq!(proxy.get("/admin/").status, 404);
        let signed = proxy.request(
            "POST",
            "/guestbook",
            &[("Content-Type", "application/x-www-form-urlencoded")],
            b"name=Ada&message=Hello+there",
        );
        assert_eq!((signed.status, signed.header("location").is_some()), (303, true), "{signed}");
        assert!(!proxy.output().contains("secret page"));
    }

    #[test]
    fn has_a_worker_for_each_core_unless_told_otherwise() {
        let proxy = demo().start();
        let cores = std::thread::available_parallelism().unwrap().get();
        proxy.wait_workers(cores);
    }

    #[test]
    fn keeps_both_workers_busy_and_survives_kill_9_of_each_under_64_connections() {
        let proxy = demo().workers(2).start();
        let before = proxy.wait_workers(2);
        let load = Load::start(&proxy, 64, browse);
        load.wait_answered(300);

        for victim in &before {
            proxy.wait_workers(2);
            send_signal(victim.pid, Signal::KILL);
            proxy.wait_until("it is back", |status| {
                let is_it =
                    |new: &Worker| new.slot == victim.slot && new.pid != victim.pid && new.state == "ready";
                workers_of(status).iter().any(is_it)
            });
        }
        load.wait_answered(300);

        let status = proxy.status();
        let report = load.stop();
        println!("demo, kill -9: {report}");
        report.expect_all_good(&proxy);
        for worker in status["workers"].as_array().unwrap() {
            assert!(worker["requests"].as_u64() > Some(20), "an idle worker: {worker}");
        }
    }

    #[test]
    fn loses_no_request_when_it_is_told_to_end() {
        let mut proxy = demo().workers(2).start();
        proxy.wait_workers(2);
        let load = Load::start(&proxy, 64, browse);
        load.wait_answered(300);

        proxy.signal(Signal::TERM);
        let took = proxy.expect_clean_end(25);

        let report = load.stop();
        println!("demo, SIGTERM, ended after {took:?}: {report}");
        report.expect_all_good(&proxy);
        assert_eq!(proxy.family(), []);
    }

    #[test]
    fn finishes_a_streamed_page_before_it_ends() {
        let mut proxy = demo().workers(1).start();
        let mut slow = proxy.connect();
        slow.request("GET", "/slow?seconds=2", &[], b"");
        let head = slow.head().unwrap();
        let first = slow.chunk().unwrap().unwrap();
        assert!(String::from_utf8_lossy(&first).contains("begins"), "{head}");

        proxy.signal(Signal::TERM);

        let mut rest = String::new();
        while let Some(piece) = slow.chunk().unwrap() {
            rest.push_str(&String::from_utf8_lossy(&piece));
        }
        assert!(rest.ends_with("2 of 2\ndone\n"), "{rest}");
        proxy.expect_clean_end(15);
    }

    #[test]
    fn gets_new_code_by_sighup_under_load() {
        let proxy = demo().workers(2).start();
        let before = proxy.wait_workers(2);
        let load = Load::start(&proxy, 32, browse);
        load.wait_answered(100);
        let main = std::fs::read_to_string(proxy.path().join("main.py")).unwrap();

        proxy.write("main.py", main.replace("An App Engine app, unchanged", "A new version"));
        proxy.hang_up();
        proxy.wait_other_workers(2, &before);

        let report = load.stop();
        println!("demo, SIGHUP: {report}");
        report.expect_all_good(&proxy);
        (0..6).for_each(|_| assert!(proxy.get("/").text().contains("A new version")));
    }

    #[test]
    fn keeps_old_code_when_the_new_cannot_be_imported_and_the_other_scripts_serve_anyway() {
        let proxy = demo().workers(1).start();
        proxy.wait_workers(1);

        proxy.write("guestbook.py", "raise RuntimeError('not today')\n");
        proxy.hang_up();
        wait_for(
            "the reload is over",
            || proxy.output().contains("all workers are replaced"),
            || proxy.output(),
        );

        // One script that fails harms no other: that is the launcher's rule, so the roll goes on.
        assert_eq!(proxy.get("/").status, 200);
        assert_eq!(proxy.get("/guestbook").status, 500);
        assert!(proxy.output().contains("not today"), "{}", proxy.output());
    }

    #[test]
    fn dies_with_the_proxy() {
        let mut proxy = demo().workers(2).start();
        proxy.wait_workers(2);

        proxy.signal(Signal::KILL);
        proxy.wait_end();

        let dead = std::time::Instant::now();
        wait_for("nothing is left", || proxy.family().is_empty(), || format!("{:?}", proxy.family()));
        assert!(dead.elapsed().as_secs() < 2, "{:?}", dead.elapsed());
    }
}

#[test]
fn an_error_of_a_script_is_500_and_its_traceback_is_in_the_log_with_the_trace() {
    let proxy = demo().workers(1).start();
    let trace = "0123456789abcdef0123456789abcdef";

    let answer = proxy.request("GET", "/error", &[("X-Cloud-Trace-Context", &format!("{trace}/1;o=1"))], b"");

    assert_eq!(answer.status, 500, "{answer}");
    assert!(!answer.text().contains("Traceback"), "{answer}");
    let line = proxy.wait_event("the traceback", |event| {
        event["message"]
            .as_str()
            .is_some_and(|text| text.contains("RuntimeError: the demo was asked to fail"))
    });
    assert_eq!(line["compat_proxy"]["worker"], 0, "{line}");
    assert_eq!(line["traceId"], trace, "{line}");
    assert_eq!(pid_on_the_page(&proxy), proxy.wait_workers(1)[0].pid, "the worker lives on");
}

#[test]
fn an_unknown_python_is_exit_78_and_names_the_option() {
    let done =
        App::from("demo").run(&["--python", "no-such-python", "--listen", "127.0.0.1:0"]).expect_code(78);
    assert!(done.stderr.contains("--python") && done.stderr.contains("no-such-python"), "{done:#?}");
}

#[test]
fn an_app_that_is_only_files_starts_no_worker() {
    let proxy = App::new().handlers("- url: /s\n  static_dir: s").file("s/a.txt", "a file").start();
    assert_eq!(proxy.get("/s/a.txt").text(), "a file");
    assert_eq!(proxy.status()["workers"], serde_json::json!([]));
    assert_eq!(proxy.get("/_ah/health").status, 200);
    let (code, output) = proxy.terminate();
    assert_eq!(code, Some(0), "{output}");
}

#[test]
fn the_demo_runs_not_a_byte_changed_on_every_python_with_gunicorn_and_without() {
    for python in pythons::all() {
        for gunicorn in [true, false] {
            let proxy = App::from("demo").on(python, gunicorn).workers(1).start();
            let home = proxy.get("/").text();
            assert!(home.contains(&format!("<td>{}.", python.version)), "{home}");
            assert_eq!(
                proxy.output().contains("the built-in server answers"),
                !gunicorn,
                "{}",
                proxy.output()
            );
            let kind = [("Content-Type", "application/x-www-form-urlencoded")];
            let signed = proxy.request("POST", "/guestbook", &kind, b"name=Ada&message=caf%C3%A9");
            assert_eq!(signed.status, 303, "{signed}");
            assert!(proxy.get("/guestbook").text().contains("café"));
            assert!(proxy.get("/slow?seconds=1").text().ends_with("done\n"));
            assert_eq!(proxy.get("/big?kilobytes=512").body.len(), 512 * 1024);
            assert_eq!(proxy.get("/error").status, 500);
            let (code, output) = proxy.terminate();
            assert_eq!(code, Some(0), "{output}");
        }
    }
}

/// A plain WSGI app that shows what it was given.
mod plain {
    use super::*;

    const YAML: &str = "runtime: python27
api_version: 1
threadsafe: true
env_variables:
  FROM_YAML: caf\u{e9}
  USER_IS_ADMIN: '1'
  SERVER_NAME: yaml.example.com
handlers:
- url: /callbacks.*
  script: pack.age.Held.app
- url: /broken
  script: broken.app
- url: /missing
  script: not_there.app
- url: /attribute
  script: main.no_such_attribute
- url: /.*
  script: main.app
";
    const MAIN: &str = r#"
import json, os, socket, threading, time
ACCEPTED, LOCK, now = [], threading.Lock(), [0, 0]
accept = socket.socket.accept

def counted(self):
    ACCEPTED.append(1)
    return accept(self)
socket.socket.accept = counted

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/accepted":
        data = len(ACCEPTED)
    elif path == "/os":
        data = dict(os.environ)
    elif path.startswith("/overlap/"):  # answers when all have come, with its own environment
        open("came-" + path[9:], "w").close()
        while len([name for name in os.listdir(".") if name.startswith("came-")]) < 8:
            time.sleep(0.005)
        data = os.environ["HTTP_X_WHO"]
    elif path.startswith("/hold/"):
        with LOCK:
            now[0] += 1
            now[1] = max(now)
        open("held-" + path[6:], "w").close()
        while not os.path.exists("gate"):
            time.sleep(0.005)
        with LOCK:
            now[0] -= 1
        data = now[1]
    else:
        data = [path, environ["wsgi.url_scheme"], sorted(name for name in environ if "COMPAT" in name)]
    body = json.dumps(data).encode("utf-8")
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"#;
    const CALLBACKS: &str = r#"
import json, os
from google.appengine.ext.vmruntime import callback
ENDED = []

class Held(object):
    @staticmethod
    def app(environ, start_response):
        callback.SetRequestEndCallback(lambda trace: ENDED.append([trace, os.environ["PATH_INFO"]]))
        callback.SetRequestEndCallback(lambda trace: 1 / 0)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(ENDED).encode("utf-8")]
"#;

    fn app() -> App {
        App::new()
            .yaml(YAML)
            .file("main.py", MAIN)
            .file("pack/__init__.py", "")
            .file("pack/age.py", CALLBACKS)
            .file("broken.py", "raise RuntimeError('not today')\n")
            .workers(1)
    }

    /// On every Python and server there is; on the machine's own at least.
    fn everywhere(check: impl Fn(Proxy)) {
        check(app().args(["--python", python()]).start());
        for python in pythons::all() {
            check(app().on(python, true).start());
            check(app().on(python, false).start());
        }
    }

    fn json_of(proxy: &Proxy, path: &str, headers: &[(&str, &str)]) -> Value {
        let answer = proxy.request("GET", path, headers, b"");
        assert_eq!(answer.status, 200, "{answer}\n{}", proxy.output());
        answer.json()
    }

    #[test]
    fn a_script_that_fails_is_500_and_the_others_live() {
        everywhere(|proxy| {
            for (path, why) in [
                ("/broken", "RuntimeError: not today"),
                ("/missing", "not_there"),
                ("/attribute", "no_such_attribute"),
            ] {
                assert_eq!(proxy.get(path).status, 500, "{path}");
                assert!(proxy.output().contains(why), "{path}: {why}\n{}", proxy.output());
                assert_eq!(proxy.get("/").status, 200, "the others live");
            }
        });
    }

    #[test]
    fn reserved_keys_win_and_the_environment_is_the_site_s() {
        everywhere(|proxy| {
            let headers = [
                ("Host", "shop.example.com:8443"),
                ("X-AppEngine-User-Email", "evil@example.com"),
                ("X-Compat-Script", "broken.app"),
                ("X-Compat-Handler", "1"),
                ("X-Who", "me"),
            ];
            let seen = json_of(&proxy, "/os?a=b", &headers);
            let keys = [
                ("FROM_YAML", "caf\u{e9}"),
                ("USER_IS_ADMIN", "0"),
                ("USER_EMAIL", ""),
                ("AUTH_DOMAIN", "gmail.com"),
                ("SERVER_NAME", "shop.example.com:8443"),
                ("SERVER_PORT", "80"),
                ("REMOTE_ADDR", "127.0.0.1"),
                ("HTTP_X_WHO", "me"),
                ("QUERY_STRING", "a=b"),
                ("CURRENT_VERSION_ID", "1.0"),
                ("APPENGINE_RUNTIME", "python27"),
                ("SERVER_SOFTWARE", "Google App Engine/0.71"),
            ];
            for (key, value) in keys {
                assert_eq!(seen[key], value, "{key}: {seen:#}");
            }
            let shown = json_of(&proxy, "/shown", &headers);
            assert_eq!(shown, json!(["/shown", "http", []]), "the app never sees the proxy's own headers");
        });
    }

    #[test]
    fn requests_at_the_same_time_have_environments_of_their_own() {
        everywhere(|proxy| {
            std::thread::scope(|scope| {
                for who in 0..8 {
                    let proxy = &proxy;
                    scope.spawn(move || {
                        let who = who.to_string();
                        let seen = json_of(proxy, &format!("/overlap/{who}"), &[("X-Who", &who)]);
                        assert_eq!(seen, json!(who));
                    });
                }
            });
        });
    }

    #[test]
    fn callbacks_run_at_the_end_of_their_request_with_its_trace() {
        everywhere(|proxy| {
            assert_eq!(json_of(&proxy, "/callbacks/1", &[]), json!([]));
            let trace = "0123456789abcdef0123456789abcdef";
            let cloud = format!("{trace}/5;o=1");
            let first = json_of(&proxy, "/callbacks/2", &[("X-Cloud-Trace-Context", &cloud)]);
            assert_eq!(first[0][1], "/callbacks/1", "one that fails harms no other");
            let second = json_of(&proxy, "/callbacks/3", &[]);
            assert_eq!(second[1][1], "/callbacks/2");
            assert!(second[1][0].as_str().unwrap().starts_with(trace), "{second}");
            assert_ne!(second[0][0], second[1][0], "a trace of its own where the client sent none");
        });
    }

    #[test]
    fn connections_between_proxy_and_worker_are_kept() {
        let check = |proxy: Proxy| {
            let mut client = proxy.connect();
            for _ in 0..50 {
                client.request("GET", "/kept", &[], b"");
                assert_eq!(client.response_to("GET").unwrap().status, 200);
                assert_eq!(proxy.get("/new").status, 200);
            }
            let accepted = json_of(&proxy, "/accepted", &[]);
            println!("{accepted} connections for 101 requests");
            // One of the readiness probe; one for each proxy thread.
            assert!(accepted.as_u64() <= Some(4), "{accepted} connections for 101 requests");
        };
        everywhere(check);
    }

    #[test]
    fn a_gunicorn_conf_py_changes_threads_and_hooks_but_neither_workers_nor_bind() {
        let conf = "threads = 3\nworkers = 4\nbind = '0.0.0.0:1'\n\
                    def post_fork(server, worker):\n    open('forked-%d' % worker.cfg.threads, 'w').close()\n\
                    def pre_request(worker, req):\n    open('hooked', 'w').close()\n";
        for python in pythons::all() {
            let proxy = app().file("gunicorn.conf.py", conf).on(python, true).start();
            let there = |name: &str| proxy.path().join(name).exists();
            assert_eq!(json_of(&proxy, "/x", &[])[0], "/x");
            assert!(there("forked-3") && there("hooked"), "{}", proxy.output());
            for name in ["workers", "bind"] {
                let warned = proxy.wait_event(name, |event| {
                    let text = event["message"].as_str().unwrap_or_default();
                    text.contains(&format!("`{name}` of gunicorn.conf.py"))
                });
                assert_eq!(warned["severity"], "WARNING", "{warned}");
            }
            // Five are at the worker, three of them in the app: it has the threads the file gives it.
            let asked: Vec<_> = ["a", "b", "c", "d", "e"]
                .map(|name| proxy.send("GET", Box::leak(format!("/hold/{name}").into_boxed_str()), b""))
                .into();
            proxy.wait_in_flight(5);
            let held =
                || ["a", "b", "c", "d", "e"].iter().filter(|name| there(&format!("held-{name}"))).count();
            wait_for("three are held", || held() == 3, || proxy.output());
            proxy.open_gate("gate");
            let peaks: Vec<Value> = asked.into_iter().map(|one| one.answer().json()).collect();
            assert!(peaks.iter().all(|peak| peak == 3), "{peaks:?}");
            let (code, output) = proxy.terminate();
            assert_eq!(code, Some(0), "{output}");
        }
    }

    #[test]
    fn memory_of_a_worker_is_that_of_the_app_under_gunicorn_too() {
        let Some(python) = pythons::modern() else { return };
        let resident = |python: &Python, gunicorn| {
            let big = "import sys\nBIG = bytearray(200 * 1024 * 1024)\n";
            let proxy = app().file("main.py", format!("{big}{MAIN}")).on(python, gunicorn).start();
            proxy.status()["workers"][0]["rss_bytes"].as_u64().unwrap()
        };
        for gunicorn in [true, false] {
            let seen = resident(python, gunicorn);
            assert!((200 << 20..400 << 20).contains(&seen), "{seen} bytes");
        }
    }
}

/// App Engine's own requests to an instance.
mod life_cycle {
    use super::*;

    const TOLD: &str = r#"
import os, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    with open("told", "a") as told:
        told.write("%s %s\n" % (path, environ.get("HTTP_X_APPENGINE_USER_IP")))
    while path == os.environ.get("HANG"):
        time.sleep(0.05)
    status = os.environ.get("ANSWER", "200 OK") if path.startswith("/_ah/") else "200 OK"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", "0")])
    return [b""]
"#;

    fn app(scaling: &str) -> App {
        let yaml = format!(
            "runtime: python27\nthreadsafe: true\n{scaling}handlers:\n- url: /_ah/.*\n  script: main.app\n  \
             login: admin\n- url: /.*\n  script: main.app\n"
        );
        App::new().yaml(&yaml).file("main.py", TOLD).args(["--python", python()]).workers(1)
    }

    fn told(path: &std::path::Path) -> Vec<String> {
        let text = std::fs::read_to_string(path.join("told")).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect()
    }

    const MANUAL: &str = "manual_scaling:\n  instances: 1\n";
    const BASIC: &str = "basic_scaling:\n  max_instances: 1\n";

    #[test]
    fn a_manually_or_basically_scaled_app_is_told_of_its_start_and_its_end() {
        for scaling in [MANUAL, BASIC] {
            for answer in ["200 OK", "404 Not Found"] {
                let mut proxy = app(scaling).env("ANSWER", answer).start();
                assert_eq!(told(&proxy.path()), ["/_ah/start 0.1.0.3"]);
                for hook in ["/_ah/start", "/_ah/stop"] {
                    assert_eq!(proxy.get(hook).status, 404, "not from outside");
                }
                proxy.signal(Signal::TERM);
                proxy.expect_clean_end(9);
                assert_eq!(told(&proxy.path()), ["/_ah/start 0.1.0.3", "/_ah/stop 0.1.0.3"]);
            }
        }
    }

    #[test]
    fn an_automatically_scaled_app_is_told_of_neither_but_of_its_warm_up() {
        let proxy = app("inbound_services:\n- warmup\n").env("ANSWER", "500 No").start();
        let path = proxy.path();
        assert_eq!(told(&path), ["/_ah/warmup 0.1.0.3"], "past the login rule, and any answer is fine");
        assert_eq!(proxy.get("/").status, 200);
        proxy.hang_up();
        wait_for(
            "the next one is warm",
            || told(&path).iter().filter(|line| line.starts_with("/_ah/warmup")).count() == 2,
            || proxy.output(),
        );
        assert!(!told(&path).iter().any(|line| line.starts_with("/_ah/st")), "{:?}", told(&path));
    }

    #[test]
    fn a_wrapped_server_is_told_as_well() {
        let script = "import sys, main\nfrom wsgiref.simple_server import make_server\n\
                      make_server('127.0.0.1', int(sys.argv[1]), main.app).serve_forever()\n";
        let mut proxy = app(MANUAL)
            .file("serve.py", script)
            .arg("--upstream-cmd")
            .arg(format!("{} serve.py {{port}}", python()))
            .start();
        assert_eq!(told(&proxy.path()), ["/_ah/start 0.1.0.3"]);
        proxy.signal(Signal::TERM);
        proxy.expect_clean_end(9);
        assert_eq!(told(&proxy.path()).last().map(String::as_str), Some("/_ah/stop 0.1.0.3"));
    }

    #[test]
    fn a_start_that_is_refused_is_tried_again_and_given_up_in_the_end() {
        let app = app(MANUAL).env("ANSWER", "503 Not today");
        let done = app.run(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).expect_code(69);
        assert!(done.stderr.contains("/_ah/start answered 503"), "{done:#?}");
        assert_eq!(told(&app.path()).len(), 5);
    }

    #[test]
    fn an_app_that_does_not_answer_that_it_is_to_stop_is_stopped_all_the_same() {
        let mut proxy = app(MANUAL).env("HANG", "/_ah/stop").args(["--stop-timeout", "2s"]).start();
        proxy.signal(Signal::TERM);
        proxy.expect_clean_end(6);
        assert_eq!(told(&proxy.path()).len(), 2, "asked once\n{}", proxy.output());
        assert_eq!(
            proxy.events_named("worker did not answer that it is to stop").len(),
            1,
            "{}",
            proxy.output()
        );
    }
}

/// Which script, which Python, and what is said where there is none.
mod choice {
    use super::*;

    const MAIN: &str = "def app(environ, start_response):\n    start_response('200 OK', [('Content-Type', 'text/plain')])\n    return [b'main:app']\n";

    #[test]
    fn a_modern_runtime_without_script_and_entrypoint_runs_main_app() {
        for yaml in [
            "runtime: python311\n",
            "runtime: python3\nhandlers:\n- url: /.*\n  script: auto\n",
            "runtime: python39\nhandlers:\n- url: /static\n  static_dir: static\n",
        ] {
            let proxy =
                App::new().yaml(yaml).file("main.py", MAIN).args(["--python", python()]).workers(1).start();
            assert_eq!(proxy.get("/any/page").text(), "main:app", "{yaml}\n{}", proxy.output());
        }
    }

    #[test]
    fn a_machine_without_any_python_says_what_was_looked_for_and_what_to_do() {
        let app = App::new()
            .yaml("runtime: python27\nhandlers:\n- url: /.*\n  script: main.app\n")
            .file("main.py", MAIN)
            .env("PATH", "/nowhere");
        let done = app.run(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).expect_code(78);
        for word in
            ["no Python found", "`python27`", "python2.7, python2, python3", "--python", "--upstream-cmd"]
        {
            assert!(done.stderr.contains(word), "`{word}`: {done:#?}");
        }
    }
}

/// What `check` says of a Python app, which it does not run.
mod check {
    use super::*;

    const YAML: &str = "# an app\nruntime: python27\nthreadsafe: false\nhandlers:\n- url: /static\n  static_dir: static\n\
                        - url: /old\n  script: old/page.py\n- url: /queue\n  script: google.appengine.ext.deferred.application\n\
                        - url: /gone\n  script: gone.app\n- url: /deep\n  script: pack.age.Class.app\n- url: /none\n  script: bare.none.app\n\
                        - url: /lib\n  script: borrowed.app\n- url: /std\n  script: wsgiref.simple_server.demo_app\n- url: /.*\n  script: main.app\n";

    fn app() -> App {
        let harm = "open('executed', 'w').close()\n";
        App::new()
            .yaml(YAML)
            .file("main.py", format!("{harm}from google.appengine.api import memcache, users\n"))
            .file("old/page.py", format!("{harm}import google.appengine.ext.ndb as ndb\n"))
            .file("pack/__init__.py", harm)
            .file("pack/age.py", harm)
            .file("lib/borrowed/__init__.py", harm)
            .file("bare/other.py", harm)
            .file("static/a.css", "")
            .file("sys.py", harm)
            .file("sitecustomize.py", harm)
            .file("gunicorn.py", harm)
            .file("site.py", harm)
    }

    #[test]
    fn it_names_interpreter_server_scripts_and_bundled_services_and_runs_nothing_of_the_app() {
        let app = app().args(["--python", python()]);
        let done = app.run(&["check"]).expect_code(0);
        let line = |start: &str, word: &str| {
            let found = done.stdout.lines().find(|line| line.starts_with(start) && line.contains(word));
            found.unwrap_or_else(|| panic!("{start} {word}: {done:#?}")).to_owned()
        };
        let starts = line("app.yaml:2:1: note: ", "the built-in Python launcher starts it: Python 3.");
        assert!(starts.contains(python()) && starts.contains("gunicorn"), "{starts}");
        let there = line("app.yaml:2:1: note: ", "scripts on disk");
        for path in ["main.py", "old/page.py", "pack/age.py", "lib/borrowed", "wsgiref (installed)"] {
            assert!(there.contains(path), "{path}: {there}");
        }
        line("app.yaml:11:3: warning: ", "`gone.app` is not in the app's folder");
        line("app.yaml:15:3: warning: ", "`bare.none.app` is not");
        let services = line("app.yaml:2:1: note: ", "bundled services");
        for module in [
            "`google.appengine.api.memcache` (main.py:2)",
            "`google.appengine.api.users` (main.py:2)",
            "`google.appengine.ext.ndb` (old/page.py:2)",
            "`google.appengine.ext.deferred.application` (app.yaml:9)",
            "not provided here",
        ] {
            assert!(services.contains(module), "{module}: {services}");
        }
        let json = app.run(&["check", "--format", "json"]).expect_code(0).json();
        let findings = json["findings"].as_array().unwrap();
        let of = |severity: &str, word: &str| {
            findings.iter().any(|finding| {
                finding["severity"] == severity
                    && finding["message"].as_str().is_some_and(|text| text.contains(word))
            })
        };
        assert!(of("note", "starts it: Python 3.") && of("note", "bundled services"), "{json:#}");
        assert!(of("warning", "`gone.app`"), "{json:#}");
        assert!(!app.path().join("executed").exists());
    }

    #[test]
    fn it_says_which_gunicorn_that_python_has() {
        for python in pythons::all() {
            for gunicorn in [true, false] {
                let app = App::from("demo").on(python, gunicorn);
                let done = app.run(&["check"]).expect_code(0);
                let wanted = if gunicorn { "), gunicorn " } else { "), the built-in server" };
                assert!(done.stdout.contains(wanted), "{wanted}: {done:#?}");
                assert!(done.stdout.contains(&format!("starts it: Python {}.", python.version)), "{done:#?}");
                assert!(
                    done.stdout.contains("scripts on disk: admin.py, guestbook.py, main.py"),
                    "{done:#?}"
                );
            }
        }
    }

    #[test]
    fn a_machine_without_any_python_is_a_warning_and_another_way_to_start_it_is_no_matter() {
        let none = app().env("PATH", "/nowhere").run(&["check"]).expect_code(0);
        assert!(none.stdout.contains("app.yaml:2:1: warning: no Python found"), "{none:#?}");
        let attached = app().run(&["check", "--upstream", "127.0.0.1:1"]).expect_code(0);
        assert!(
            !attached.stdout.contains("launcher") && !attached.stdout.contains("gone.app"),
            "{attached:#?}"
        );
    }
}
