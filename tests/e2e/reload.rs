//! SIGHUP and changed files: the new configuration comes into force whole and without losing a request, or not at
//! all.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::fleet::{Worker, fleet, workers_of};
use crate::harness::load::{Ask, Expected, Load};
use crate::harness::origin::Origin;
use crate::harness::{App, DEADLINE, Proxy, wait_for};

const BROKEN: &str = "runtime: python27\nhandlers: [\n";

/// An app.yaml in which `path` is what `/private` is in the fixture's: 404 by its login rule.
fn protecting(path: &str) -> String {
    format!(
        "runtime: python27\napi_version: 1\nthreadsafe: true\nhandlers:\n\
         - url: {path}\n  script: main.app\n  login: admin\n- url: /.*\n  script: main.app\n"
    )
}

fn pids(workers: &[Worker]) -> BTreeSet<i32> {
    workers.iter().map(|worker| worker.pid).collect()
}

/// What the proxy's process holds.
#[derive(Debug)]
struct Footprint {
    kib: u64,
    threads: u64,
    descriptors: usize,
}

fn footprint(proxy: &Proxy) -> Footprint {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap().count();
    Footprint { kib: field("VmRSS:"), threads: field("Threads:"), descriptors }
}

/// Waits until so many reloads have failed.
#[track_caller]
fn wait_failures(proxy: &Proxy, count: usize) {
    wait_for(
        &format!("{count} reloads failed"),
        || proxy.events_named("configuration not reloaded: the old one stays in force").len() >= count,
        || proxy.output(),
    );
}

#[track_caller]
fn wait_reloads(proxy: &Proxy, count: usize) {
    wait_for(
        &format!("{count} reloads succeeded"),
        || proxy.events_named("configuration reloaded").len() >= count,
        || proxy.output(),
    );
}

/// The series that name the configuration in force.
#[track_caller]
fn in_force(proxy: &Proxy) -> Vec<String> {
    let text = proxy.admin("/metrics").text();
    text.lines().filter(|line| line.starts_with("compat_proxy_config_info{")).map(str::to_owned).collect()
}

/// Everything is as it was, and the failure can be seen everywhere it should.
#[track_caller]
fn the_old_is_kept(proxy: &Proxy, before: &[Worker], error: &str) {
    assert_eq!(proxy.wait_workers(before.len()), before);
    assert_eq!(proxy.get("/private").status, 404);
    assert_eq!(proxy.get("/open").status, 200);
    let status = proxy.status();
    let told = status["config"]["last_error"].as_str().unwrap_or_default();
    assert!(told.contains(error), "{told:?} does not tell of {error:?}");
    let metrics = proxy.admin("/metrics").text();
    assert!(metrics.contains("\ncompat_proxy_config_last_reload_successful 0\n"), "{metrics}");
    assert!(proxy.metric_sum("compat_proxy_config_reloads_total", &["result=\"failure\""]) >= 1.0);
    assert_eq!(proxy.admin("/readyz").status, 200);
}

mod hangup {
    use super::*;

    #[test]
    fn rolls_the_workers_one_after_another_under_load_and_loses_no_request() {
        let proxy = fleet(2).start();
        let mut before = proxy.wait_workers(2);
        let load = Load::start(&proxy, 64, Ask::mixed);
        load.wait_answered(200);

        for round in 1..=3 {
            proxy.hang_up();
            wait_reloads(&proxy, round);
            before = proxy.wait_other_workers(2, &before);
            load.wait_answered(50);
        }

        let report = load.stop();
        println!("SIGHUP, three times: {report}");
        report.expect_all_good(&proxy);
        assert_eq!(proxy.status()["config"]["reloads"], 3);
        assert!(proxy.status()["config"]["last_error"].is_null());
    }

    #[test]
    fn has_a_new_worker_ready_before_the_old_one_goes_and_only_one_at_a_time() {
        let proxy = fleet(3).start();
        let old = proxy.wait_workers(3);

        proxy.hang_up();
        let mut most = 0;
        let mut fewest_ready = usize::MAX;
        wait_for(
            "all are replaced",
            || {
                let all = workers_of(&proxy.status());
                let ready = all.iter().filter(|worker| worker.state == "ready").count();
                most = most.max(all.len());
                fewest_ready = fewest_ready.min(ready);
                (all.len(), ready) == (3, 3) && pids(&all).is_disjoint(&pids(&old))
            },
            || proxy.output(),
        );

        assert_eq!(most, 4, "one surplus worker at a time");
        assert_eq!(fewest_ready, 3, "never fewer ready than before");
        // Of each slot: the successor is ready before the predecessor is asked to go.
        proxy.wait_event("all are replaced", |event| event["msg"] == "all workers are replaced");
        let events = proxy.events();
        let at = |what: &dyn Fn(&serde_json::Value) -> bool| events.iter().position(what).expect("an event");
        for (slot, pid) in old.iter().map(|worker| worker.pid).enumerate() {
            let new_ready = at(&|event| {
                event["worker"] == slot
                    && event["was"] == "starting"
                    && event["state"] == "ready"
                    && event["pid"] != pid
            });
            let old_leaves = at(&|event| event["pid"] == pid && event["state"] == "draining");
            let old_gone = at(&|event| event["msg"] == "worker stopped" && event["pid"] == pid);
            assert!(new_ready < old_leaves && old_leaves < old_gone, "{}", proxy.output());
            if slot < 2 {
                let next = at(&|event| {
                    event["msg"] == "worker started"
                        && event["worker"] == slot + 1
                        && event["why"] == "reload"
                });
                assert!(old_gone < next, "{}", proxy.output());
            }
        }
    }

    #[test]
    fn lets_the_old_worker_finish_what_it_holds() {
        let proxy = fleet(1).start();
        let old = proxy.wait_workers(1);
        let held = proxy.send("POST", "/hold/gate", b"");
        proxy.wait_in_flight(1);

        proxy.hang_up();
        proxy.wait_until("the old one drains", |status| {
            workers_of(status).iter().any(|worker| worker.pid == old[0].pid && worker.state == "draining")
        });
        let new = proxy.get("/");
        assert_ne!(
            new.header("x-pid"),
            Some(old[0].pid.to_string().as_str()),
            "new requests go to the new one"
        );
        proxy.open_gate("gate");

        assert_eq!(held.answer().header("x-pid"), Some(old[0].pid.to_string().as_str()));
        proxy.wait_other_workers(1, &old);
    }

    #[test]
    fn brings_new_code_new_settings_and_new_routes() {
        let proxy = fleet(1)
            .file("version", "one")
            .file("compat-proxy.yaml", "concurrency: 5\nmax-request-body: 10B\n")
            .start();
        let old = proxy.wait_workers(1);
        assert_eq!(proxy.get("/version").text(), "one");
        assert_eq!(proxy.request("POST", "/echo/x/20", &[], &[b'x'; 20]).status, 413);
        assert_eq!(proxy.status()["queue"]["concurrency"], 5);

        proxy.write("version", "two");
        proxy.write("compat-proxy.yaml", "concurrency: 7\nmax-request-body: 1KiB\n");
        proxy.write(
            "app.yaml",
            format!("{}env_variables:\n  FIXTURE_GREETING: changed\n", protecting("/hidden")),
        );
        proxy.hang_up();
        proxy.wait_other_workers(1, &old);
        wait_for("the settings hold", || proxy.status()["queue"]["concurrency"] == 7, || proxy.output());
        wait_for("the routes hold", || proxy.get("/hidden").status == 404, || proxy.output());

        assert_eq!(proxy.get("/version").text(), "two");
        assert_eq!(proxy.get("/private").status, 200);
        assert_eq!(proxy.request("POST", "/echo/x/20", &[], &[b'x'; 20]).status, 200);
        assert_eq!(proxy.get("/env").json()["env"]["FIXTURE_GREETING"], "changed");
    }

    #[test]
    fn may_change_the_number_of_workers_both_ways_under_load() {
        let command = crate::harness::fleet::script("server.py {port}");
        let app = App::from("workers").file("compat-proxy.yaml", "workers: 1\n");
        let proxy = app.arg("--upstream-cmd").arg(command).start();
        proxy.wait_workers(1);
        let load = Load::start(&proxy, 16, Ask::mixed);

        for count in [3, 1, 2] {
            proxy.write("compat-proxy.yaml", format!("workers: {count}\n"));
            proxy.hang_up();
            proxy.wait_workers(count);
            load.wait_answered(20);
        }

        load.stop().expect_all_good(&proxy);
    }

    #[test]
    fn that_brings_the_first_script_starts_workers_and_serves_it() {
        let only_files = "runtime: python27\nhandlers:\n- url: /static\n  static_dir: static\n";
        let app = App::new().yaml(only_files).file("static/a.txt", "file").file(
            "main.py",
            "def app(environ, start):\n    start('200 OK', [('Content-Length', '3')])\n    return [b'app']\n",
        );
        let proxy = app.start();
        assert_eq!(proxy.get("/static/a.txt").text(), "file");
        assert_eq!(proxy.get("/page").status, 404);

        proxy.write("app.yaml", format!("{only_files}- url: /.*\n  script: main.app\n"));
        proxy.hang_up();

        wait_for("the script answers", || proxy.get("/page").status == 200, || proxy.output());
        assert_eq!(proxy.get("/static/a.txt").text(), "file");
    }

    #[test]
    fn with_an_invalid_app_yaml_keeps_the_old() {
        let proxy = fleet(2).start();
        let before = proxy.wait_workers(2);

        proxy.write("app.yaml", BROKEN);
        proxy.hang_up();
        wait_failures(&proxy, 1);

        the_old_is_kept(&proxy, &before, "app.yaml");

        proxy.write("app.yaml", protecting("/private"));
        proxy.hang_up();
        proxy.wait_other_workers(2, &before);
        wait_for("the error is past", || proxy.status()["config"]["last_error"].is_null(), || proxy.output());
    }

    #[test]
    fn with_invalid_settings_keeps_the_old() {
        for wrong in ["no-such-option: 1\n", "concurrency: many\n", "- [\n"] {
            let proxy = fleet(1).file("compat-proxy.yaml", "concurrency: 5\n").start();
            let before = proxy.wait_workers(1);

            proxy.write("compat-proxy.yaml", wrong);
            proxy.hang_up();
            wait_failures(&proxy, 1);

            the_old_is_kept(&proxy, &before, "compat-proxy.yaml");
            assert_eq!(proxy.status()["queue"]["concurrency"], 5);
        }
    }

    #[test]
    fn with_code_that_does_not_start_keeps_the_workers_that_run() {
        let proxy = fleet(2).args(["--start-timeout", "20s"]).start();
        let before = proxy.wait_workers(2);
        let told = in_force(&proxy);
        let load = Load::start(&proxy, 16, Ask::mixed);
        load.wait_answered(50);

        proxy.write("app.yaml", protecting("/other"));
        proxy.open_gate("broken");
        proxy.hang_up();
        wait_failures(&proxy, 1);

        assert_eq!(proxy.wait_workers(2), before);
        assert_eq!(proxy.metric("compat_proxy_config_last_reload_successful"), 0.0);
        assert_eq!(in_force(&proxy), told, "the metrics name the configuration that serves");
        let error = proxy.status()["config"]["last_error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains("did not get ready") && error.contains("exit code 1"), "{error}");
        load.stop().expect_all_good(&proxy);

        proxy.remove("broken");
        proxy.hang_up();
        proxy.wait_other_workers(2, &before);
        wait_for("the new routes hold", || proxy.get("/other").status == 404, || proxy.output());
    }

    #[test]
    fn fifty_times_in_a_storm_ends_in_one_good_state_and_readiness_never_goes() {
        let proxy = fleet(2).start();
        let before = proxy.wait_workers(2);
        let load = Load::start(&proxy, 16, Ask::mixed);
        load.wait_answered(50);
        let over = AtomicBool::new(false);

        let (looks, unready) = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let (mut looks, mut unready) = (0, 0);
                while !over.load(Ordering::SeqCst) {
                    looks += 1;
                    unready += u32::from(proxy.admin("/readyz").status != 200);
                    std::thread::sleep(Duration::from_millis(2));
                }
                (looks, unready)
            });
            for _ in 0..50 {
                proxy.hang_up();
                std::thread::sleep(Duration::from_millis(20));
            }
            proxy.wait_other_workers(2, &before);
            // Nobody is being replaced any more.
            let mut last = proxy.wait_workers(2);
            let mut since = Instant::now();
            proxy.wait_until("it has settled", |status| {
                let now = workers_of(status);
                if now != last {
                    (last, since) = (now, Instant::now());
                }
                since.elapsed() > Duration::from_secs(1)
            });
            over.store(true, Ordering::SeqCst);
            watch.join().unwrap()
        });

        load.wait_answered(50);
        let report = load.stop();
        let reloads = proxy.status()["config"]["reloads"].clone();
        println!("50 SIGHUPs: {reloads} reloads, /readyz off in {unready} of {looks} looks; {report}");
        report.expect_all_good(&proxy);
        assert_eq!(unready, 0, "of {looks}");
        assert_eq!(proxy.wait_workers(2).len(), 2);
        assert_eq!(proxy.get("/private").status, 404);
        assert!(proxy.status()["config"]["last_error"].is_null());
    }

    /// In attach mode, where a reload takes milliseconds: each changes the routing, and nothing may be left of it.
    #[test]
    fn a_thousand_times_under_load_loses_nothing_and_leaks_nothing() {
        let origin = Origin::echoing();
        let proxy = App::new().yaml(&protecting("/a")).upstream(&origin).start();
        let rest = footprint(&proxy).descriptors;
        let load = Load::paced(&proxy, 4, 100.0, |_, _| Ask {
            path: "/page".to_owned(),
            expected: Expected::With(""),
            ..Ask::get("x", 1)
        });
        let reloads = || proxy.status()["config"]["reloads"].as_u64().unwrap();
        let reload = |number: u64| {
            let before = reloads();
            let (closed, open) = if number.is_multiple_of(2) { ("/a", "/b") } else { ("/b", "/a") };
            proxy.write("app.yaml", protecting(closed));
            proxy.hang_up();
            let end = Instant::now() + DEADLINE;
            // The file is watched too, and may have been noticed before the signal came.
            while reloads() == before {
                assert!(Instant::now() < end, "reload {number} does not come\n{}", proxy.output());
                std::thread::sleep(Duration::from_millis(1));
            }
            if number.is_multiple_of(50) {
                let holds = || (proxy.get(closed).status, proxy.get(open).status) == (404, 200);
                wait_for("it is in force", holds, || proxy.output());
            }
        };
        // What grows once, grows before it is measured.
        (1..=100).for_each(reload);
        let before = footprint(&proxy);
        let began = Instant::now();

        (101..=1100).for_each(reload);

        let took = began.elapsed();
        let report = load.stop();
        // Connections to the origin that nobody uses any more are closed after a moment.
        wait_for(
            "no descriptor is left over",
            || footprint(&proxy).descriptors <= rest + 2,
            || format!("{rest} at rest, now {:?}", footprint(&proxy)),
        );
        let after = footprint(&proxy);
        println!("1,000 reloads in {took:?}: {rest} at rest, {before:?} before, {after:?} after; {report}");
        report.expect_all_good(&proxy);
        assert_eq!(after.threads, before.threads);
        assert!(after.kib <= before.kib + before.kib / 4 + 4096, "{before:?} {after:?}");
    }
}

mod a_changed_app_yaml {
    use super::*;

    #[test]
    fn is_noticed_within_seconds_and_changes_the_routing_only() {
        let proxy = fleet(2).start();
        let before = proxy.wait_workers(2);
        let load = Load::start(&proxy, 16, Ask::gets);

        let began = std::time::Instant::now();
        proxy.write("app.yaml", protecting("/hidden"));
        wait_for("it is noticed", || proxy.get("/hidden").status == 404, || proxy.output());
        println!("noticed after {:?}", began.elapsed());

        assert!(began.elapsed().as_secs() < 8, "{:?}", began.elapsed());
        assert_eq!(proxy.get("/private").status, 200);
        assert_eq!(proxy.wait_workers(2), before);
        assert_eq!(proxy.status()["config"]["reloads"], 1);
        load.stop().expect_all_good(&proxy);
    }

    #[test]
    fn that_is_invalid_keeps_the_old_and_is_told_once() {
        let proxy = fleet(1).start();
        let before = proxy.wait_workers(1);

        proxy.write("app.yaml", BROKEN);
        wait_failures(&proxy, 1);
        the_old_is_kept(&proxy, &before, "app.yaml");
        proxy.write("app.yaml", format!("{BROKEN}# still\n"));
        wait_failures(&proxy, 2);
        proxy.write("app.yaml", protecting("/hidden"));
        wait_reloads(&proxy, 1);

        let failures = proxy.metric_sum("compat_proxy_config_reloads_total", &["result=\"failure\""]);
        assert!((failures - 2.0).abs() < 0.5, "each bad version is told once, not {failures} times");
        assert!(proxy.status()["config"]["last_error"].is_null());
        assert_eq!(proxy.get("/hidden").status, 404);
        assert_eq!(proxy.wait_workers(1), before);
    }

    #[test]
    fn that_is_put_back_is_good_again() {
        let proxy = fleet(1).start();
        let before = proxy.wait_workers(1);

        proxy.write("app.yaml", BROKEN);
        wait_failures(&proxy, 1);
        proxy.write("app.yaml", include_str!("../fixtures/apps/workers/app.yaml"));

        wait_for("the error is past", || proxy.status()["config"]["last_error"].is_null(), || proxy.output());
        assert_eq!(proxy.wait_workers(1), before);
    }

    #[test]
    fn by_a_swapped_symlink_as_a_config_map_does_it_is_noticed() {
        let app = fleet(1)
            .file("..one/app.yaml", protecting("/private"))
            .file("..two/app.yaml", protecting("/hidden"));
        std::fs::remove_file(app.path().join("app.yaml")).unwrap();
        let proxy = app.link("..data", "..one").link("app.yaml", "..data/app.yaml").start();
        let before = proxy.wait_workers(1);
        assert_eq!(proxy.get("/private").status, 404);

        let data = proxy.path().join("..data");
        let aside = proxy.path().join("..data_tmp");
        std::os::unix::fs::symlink("..two", &aside).unwrap();
        std::fs::rename(&aside, &data).unwrap();
        std::fs::remove_dir_all(proxy.path().join("..one")).unwrap();

        wait_for("it is noticed", || proxy.get("/hidden").status == 404, || proxy.output());
        assert_eq!(proxy.get("/private").status, 200);
        assert_eq!(proxy.wait_workers(1), before);
    }

    #[test]
    fn in_an_included_file_is_noticed_too() {
        let main = "runtime: python27\napi_version: 1\nthreadsafe: true\nincludes:\n- more.yaml\nhandlers:\n- url: /.*\n  script: main.app\n";
        let more = |path: &str| format!("handlers:\n- url: {path}\n  script: main.app\n  login: admin\n");
        let proxy = fleet(1).yaml(main).file("more.yaml", more("/private")).start();
        assert_eq!(proxy.get("/private").status, 404);

        proxy.write("more.yaml", more("/hidden"));

        wait_for("it is noticed", || proxy.get("/hidden").status == 404, || proxy.output());
    }

    #[test]
    fn that_is_removed_keeps_the_old_until_it_is_back() {
        let proxy = fleet(1).start();
        let before = proxy.wait_workers(1);

        proxy.remove("app.yaml");
        proxy.hang_up();
        wait_failures(&proxy, 1);
        the_old_is_kept(&proxy, &before, "app.yaml");

        proxy.write("app.yaml", protecting("/hidden"));
        wait_for("it is back", || proxy.get("/hidden").status == 404, || proxy.output());
        assert_eq!(proxy.wait_workers(1), before);
    }

    #[test]
    fn tells_when_workers_must_be_replaced_to_see_it() {
        let proxy = fleet(1).start();
        let before = proxy.wait_workers(1);

        proxy.write(
            "app.yaml",
            format!("{}env_variables:\n  FIXTURE_GREETING: changed\n", protecting("/hidden")),
        );

        proxy.wait_event("SIGHUP is needed", |event| {
            event["msg"].as_str().is_some_and(|text| text.contains("send SIGHUP"))
        });
        assert_eq!(proxy.wait_workers(1), before);
        assert_eq!(proxy.get("/env").json()["env"]["FIXTURE_GREETING"], "from app.yaml");
    }

    #[test]
    fn does_not_change_a_request_that_is_under_way() {
        let proxy = fleet(1).start();
        let held = proxy.send("GET", "/hold/gate", b"");
        proxy.wait_in_flight(1);

        proxy.write("app.yaml", protecting("/hold/.*"));
        wait_reloads(&proxy, 1);
        assert_eq!(proxy.get("/hold/x").status, 404);
        proxy.open_gate("gate");

        assert_eq!(held.answer().status, 200);
    }
}
