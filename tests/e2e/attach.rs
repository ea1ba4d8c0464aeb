//! An app that somebody else runs: it moves, falls ill, goes and comes back, and clients notice as little as may be.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::client::{Connection, Response};
use crate::harness::load::{Ask, Expected, Load};
use crate::harness::origin::Origin;
use crate::harness::{App, BINARY, Proxy, wait_for};

const HANDLERS: &str = "- url: /.*\n  script: main.app\n";

fn gets(_: usize, number: u64) -> Ask {
    let expected = Expected::With("\"method\":\"GET\"");
    Ask { method: "GET", path: format!("/{number}"), body: Vec::new(), expected }
}

/// Waits until `count` upstreams are ready.
#[track_caller]
fn wait_ready(proxy: &Proxy, count: usize) {
    proxy.wait_until(&format!("{count} are ready"), |status| {
        let all = status["workers"].as_array();
        all.is_some_and(|all| all.iter().filter(|one| one["state"] == "ready").count() == count)
    });
}

#[test]
fn of_two_upstreams_one_may_go_and_come_back_without_a_failed_get() {
    let (first, second) = (Origin::start(), Origin::start());
    let address = second.address();
    let proxy = App::new().handlers(HANDLERS).upstream(&first).upstream(&second).start();
    wait_ready(&proxy, 2);
    let load = Load::start(&proxy, 6, gets);
    load.wait_answered(100);
    let mut second = Some(second);
    for _ in 0..3 {
        drop(second.take());
        wait_ready(&proxy, 1);
        load.wait_answered(100);
        let again = Origin::at(&address);
        wait_ready(&proxy, 2);
        wait_for("it is used again", || !again.seen().is_empty(), || proxy.output());
        second = Some(again);
    }
    let mut report = load.stop();
    // An answer that had begun when the app went cannot be taken back.
    report.lost.retain(|lost| !lost.contains("got \"HTTP/1.1 200"));
    println!("three restarts of one of two: {report}");
    report.expect_all_good(&proxy);
}

#[test]
fn an_upstream_is_given_requests_while_its_health_path_answers_well() {
    let (sick, well) = (Origin::start(), Origin::start());
    let proxy = App::new()
        .handlers(HANDLERS)
        .upstream(&sick)
        .upstream(&well)
        .args(["--health-path", "/status/200?health"])
        .start();
    wait_ready(&proxy, 2);
    // It answers everything with 503 from now on; only the check can tell, for an answer is an answer.
    sick.fail(true);
    let began = Instant::now();
    wait_ready(&proxy, 1);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    println!("an upstream that fell ill was left after {:?}", began.elapsed());
    for _ in 0..20 {
        assert_eq!(proxy.get("/x").status, 200);
    }
    assert_eq!(proxy.admin("/readyz").status, 200);
    sick.fail(false);
    wait_ready(&proxy, 2);
    assert!(proxy.metric_sum("compat_proxy_worker_health_checks_total", &["result=\"lost\""]) >= 1.0);
}

/// The proxy with a hosts file of its own; none where namespaces may not be made.
struct Resolving {
    child: std::process::Child,
    app: App,
}

impl Resolving {
    fn start(upstream: &str, hosts: &str) -> Option<Self> {
        let app = App::new().handlers(HANDLERS);
        let file = app.beside("hosts");
        std::fs::write(&file, hosts).expect("a file");
        let at = |name: &str| format!("unix:{}", app.beside(name).display());
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("mount --bind \"$0\" /etc/hosts || exit 99; exec \"$@\"")
            .arg(&file)
            .args([BINARY, "--listen", &at("front"), "--admin", &at("admin"), "--upstream", upstream])
            .current_dir(app.path())
            .env_remove("PORT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut resolving = Self { child, app };
        let end = Instant::now() + Duration::from_secs(20);
        while resolving.get("admin", "/readyz").is_none_or(|answer| answer.status != 200) {
            if resolving.child.try_wait().expect("a status").is_some() {
                return None;
            }
            assert!(Instant::now() < end, "it does not get ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(resolving)
    }

    fn get(&self, socket: &str, path: &str) -> Option<Response> {
        let mut connection =
            Connection::try_open(&format!("unix:{}", self.app.beside(socket).display())).ok()?;
        connection.request("GET", path, &[("Connection", "close")], b"");
        connection.response_to("GET").ok()
    }

    fn hosts(&self, text: &str) {
        // In place: the file itself is what is mounted.
        std::fs::write(self.app.beside("hosts"), text).expect("a file");
    }
}

impl Drop for Resolving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_upstream_is_followed_when_its_name_moves_and_no_get_fails() {
    let first = Origin::start();
    let port = first.address().rsplit(':').next().expect("a port").to_owned();
    let second = Origin::at(&format!("127.0.0.2:{port}"));
    let Some(proxy) = Resolving::start(&format!("app.test:{port}"), "127.0.0.1 app.test\n") else {
        println!("left out: no namespaces may be made here");
        return;
    };
    assert_eq!(proxy.get("front", "/x").expect("an answer").status, 200);
    assert!(second.seen().is_empty());
    for (hosts, to) in [
        ("127.0.0.2 app.test\n", &second),
        ("127.0.0.1 app.test\n", &first),
        ("127.0.0.2 app.test\n", &second),
    ] {
        to.clear();
        proxy.hosts(hosts);
        let began = Instant::now();
        while to.seen().is_empty() {
            assert_eq!(proxy.get("front", "/moving").expect("an answer").status, 200);
            assert!(began.elapsed() < Duration::from_secs(15), "it was not followed");
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("followed to {} after {:?}", to.address(), began.elapsed());
    }
    // A name that cannot be looked up for a while is no reason to leave an upstream that answers.
    proxy.hosts("127.0.0.9 other.test\n");
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        assert_eq!(proxy.get("front", "/nameless").expect("an answer").status, 200);
        std::thread::sleep(Duration::from_millis(20));
    }
}
