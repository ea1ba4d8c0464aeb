//! The built-in launcher, with the demo: an ordinary App Engine app that nobody told how to start.

use rustix::process::Signal;

use crate::harness::fleet::{Worker, python, send_signal, workers_of};
use crate::harness::load::{Ask, Expected, Load};
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
