//! Workers: what each is given, how they die and come back under load, and that nothing outlives the proxy.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::fleet::{
    Worker, children_of, fleet, fleet_on_sockets, lives, script, send_signal, workers_of,
};
use crate::harness::load::{Ask, Load};
use crate::harness::{App, Proxy, wait_for};

/// `/env` of every worker, by slot.
fn given(proxy: &Proxy, workers: usize) -> Vec<Value> {
    let mut found = vec![Value::Null; workers];
    wait_for(
        "every worker has told what it was given",
        || {
            let facts = proxy.get("/env").json();
            let slot: usize = facts["env"]["COMPAT_PROXY_WORKER"].as_str().unwrap().parse().unwrap();
            found[slot] = facts;
            found.iter().all(|facts| !facts.is_null())
        },
        || proxy.output(),
    );
    found
}

mod given {
    use super::*;

    #[test]
    fn each_worker_has_a_port_and_a_number_of_its_own() {
        let proxy = fleet(2).env("PORT", "1").env("FIXTURE_OWN", "the caller's").start();
        let workers = proxy.wait_workers(2);

        let facts = given(&proxy, 2);

        for (slot, facts) in facts.iter().enumerate() {
            let env = &facts["env"];
            assert_eq!(env["COMPAT_PROXY_WORKER"], slot.to_string());
            assert_eq!(env["PORT"], facts["argv"][1], "{{port}} and PORT are one");
            assert_eq!(workers[slot].address, format!("127.0.0.1:{}", env["PORT"].as_str().unwrap()));
            assert_eq!(env["FIXTURE_GREETING"], "from app.yaml");
            assert_eq!(env["FIXTURE_OWN"], "the caller's");
            assert_eq!(env["GAE_ENV"], "standard");
            assert_eq!(facts["cwd"], proxy.path().to_str().unwrap());
        }
        assert_ne!(facts[0]["env"]["PORT"], facts[1]["env"]["PORT"]);
    }

    #[test]
    fn each_worker_has_a_socket_of_its_own_where_nobody_else_may_look() {
        let mut proxy = fleet_on_sockets(2).env("PORT", "8080").start();

        let facts = given(&proxy, 2);

        let socket = |slot: usize| facts[slot]["argv"][1].as_str().unwrap().trim_start_matches("unix:");
        assert_ne!(socket(0), socket(1));
        for facts in &facts {
            assert_eq!(facts["env"].get("PORT"), None, "our own PORT is not the worker's");
        }
        let folder = Path::new(socket(0)).parent().unwrap().to_owned();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", folder.display());

        proxy.signal(Signal::TERM);
        proxy.expect_clean_end(15);
        assert!(!folder.exists(), "{} is left behind", folder.display());
    }

    #[test]
    fn every_placeholder_is_filled_in() {
        let command = script("{app_dir}/server.py {port} w{worker} '{app_dir}' {{port}}");
        let proxy = App::from("workers").arg("--upstream-cmd").arg(command).workers(2).start();

        let facts = given(&proxy, 2);

        let dir = proxy.path().to_str().unwrap().to_owned();
        for (slot, facts) in facts.iter().enumerate() {
            let words = &facts["argv"];
            assert_eq!(words[0], format!("{dir}/server.py"));
            assert_eq!(words[2], format!("w{slot}"));
            assert_eq!(words[3], dir);
            assert_eq!(words[4], "{port}");
        }
    }

    #[test]
    fn the_entrypoint_of_app_yaml_is_the_command() {
        for (entrypoint, word) in [
            (script("server.py $PORT plain"), "plain"),
            (format!("cd . && {}", script("server.py ${PORT} shell")), "shell"),
        ] {
            let yaml = format!("runtime: python39\nentrypoint: {entrypoint}\n");
            let proxy = App::from("workers").yaml(&yaml).workers(1).start();

            let facts = &given(&proxy, 1)[0];

            assert_eq!(facts["argv"][2], word);
            assert_eq!(facts["argv"][1], facts["env"]["PORT"]);
        }
    }

    #[test]
    fn without_a_placeholder_the_worker_listens_on_port() {
        let command = script(
            "-c 'import os, sys; sys.argv[1:] = [os.environ[\"PORT\"]]; exec(open(\"server.py\").read())'",
        );
        let proxy = App::from("workers").arg("--upstream-cmd").arg(command).workers(1).start();

        assert_eq!(given(&proxy, 1)[0]["env"]["COMPAT_PROXY_WORKER"], "0");
    }

    #[test]
    fn a_health_path_must_answer_before_a_worker_is_ready() {
        let proxy = fleet(1).args(["--health-path", "/hold/healthy"]).launch();

        proxy.wait_until("the worker listens", |_| {
            proxy.stderr_lines().iter().any(|line| line.contains("worker started"))
        });
        assert_eq!(proxy.admin("/readyz").status, 503);
        proxy.open_gate("healthy");

        proxy.wait_workers(1);
        assert_eq!(proxy.get("/").status, 200);
    }

    #[test]
    fn no_descriptor_reaches_a_worker_but_the_three_it_needs() {
        // A descriptor that leaked into the proxy from its own parent; every child of this program inherits it.
        let leaked = File::open("/dev/zero").unwrap();
        fcntl_setfd(&leaked, FdFlags::empty()).unwrap();
        // It never listens, so it has no descriptor of its own making.
        let proxy = fleet(2).file("wait", "").arg("--h2c").launch();
        fcntl_setfd(&leaked, FdFlags::CLOEXEC).unwrap();
        let inherited = format!("/proc/{}/fd/{}", proxy.pid(), leaked.as_raw_fd());
        assert_eq!(
            std::fs::read_link(&inherited).unwrap(),
            Path::new("/dev/zero"),
            "the test tests something"
        );
        let workers = workers_of(&proxy.wait_until("two workers were started", |status| {
            let all = workers_of(status);
            let runs = |worker: &Worker| {
                let line = std::fs::read(format!("/proc/{}/cmdline", worker.pid)).unwrap_or_default();
                String::from_utf8_lossy(&line).contains("server.py")
            };
            all.len() == 2 && all.iter().all(runs)
        }));

        for worker in workers {
            // Python opens its own script for a moment; what was inherited stays.
            let mut open = Vec::new();
            wait_for(
                "a worker has exactly three descriptors",
                || {
                    let all = std::fs::read_dir(format!("/proc/{}/fd", worker.pid)).unwrap().flatten();
                    open = all
                        .map(|entry| {
                            let target = std::fs::read_link(entry.path()).unwrap_or_default();
                            (entry.file_name().into_string().unwrap(), target.display().to_string())
                        })
                        .collect();
                    open.sort();
                    open.len() == 3
                },
                String::new,
            );
            assert_eq!(open[0], ("0".to_owned(), "/dev/null".to_owned()), "{open:?}");
            assert!(open[1].1.starts_with("pipe:") && open[2].1.starts_with("pipe:"), "{open:?}");
        }
    }
}

mod output {
    use super::*;

    #[test]
    fn what_a_worker_prints_comes_out_of_ours_with_its_tag() {
        let proxy = fleet(2).start();
        let workers = proxy.wait_workers(2);

        for stream in ["stdout", "stderr"] {
            let answer = proxy.get(&format!("/print/{stream}/hello-{stream}"));
            let slot = answer.header("x-worker").unwrap().parse::<u64>().unwrap();
            let lines = || if stream == "stdout" { proxy.stdout_lines() } else { proxy.stderr_lines() };
            let find = || {
                let parsed = lines().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
                parsed.into_iter().find(|line| line["msg"] == format!("hello-{stream}"))
            };
            wait_for("the line came out", || find().is_some(), || proxy.output());

            let tag = &find().unwrap()["compat_proxy"];
            assert_eq!(tag["worker"], slot);
            assert_eq!(tag["pid"], workers[usize::try_from(slot).unwrap()].pid);
            assert_eq!(tag["stream"], stream);
        }
    }

    #[test]
    fn in_text_the_tag_stands_before_the_line() {
        // Nothing tells the harness where a text log says it listens, so the worker speaks before it listens.
        let mut app =
            App::from("workers").file("broken", "").args(["--log-format", "text", "--workers", "1"]);
        app = app.arg("--upstream-cmd").arg(script("server.py {port}"));

        let done = app.run(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).expect_code(69);

        let line = done.stderr.lines().find(|line| line.ends_with("the fixture is broken"));
        let line = line.unwrap_or_else(|| panic!("{done:#?}"));
        assert!(line.starts_with("[worker 0 ") && line.contains(" stderr] "), "{line}");
    }
}

mod death {
    use super::*;

    /// Kills workers one after another while `load` runs, each time when all are ready.
    fn kill_again_and_again(proxy: &Proxy, load: &Load, times: usize) {
        for round in 0..times {
            let before = proxy.wait_workers(2);
            load.wait_answered(100);
            let victim = &before[round % 2];
            send_signal(victim.pid, Signal::KILL);
            proxy.wait_until("it is back", |status| {
                workers_of(status)
                    .iter()
                    .any(|new| new.slot == victim.slot && new.pid != victim.pid && new.state == "ready")
            });
        }
    }

    #[test]
    fn kill_9_of_workers_under_load_fails_no_get_and_each_is_back() {
        let proxy = fleet(2).start();
        let load = Load::start(&proxy, 64, Ask::gets);

        kill_again_and_again(&proxy, &load, 6);
        load.wait_answered(100);

        let report = load.stop();
        println!("kill -9, GET: {report}");
        report.expect_all_good(&proxy);
        assert!(report.workers["0"] > 0 && report.workers["1"] > 0, "{report}");
        assert!(proxy.metric_sum("compat_proxy_worker_exits_total", &["status=\"SIGKILL\""]) >= 6.0);
    }

    #[test]
    fn kill_9_of_workers_while_they_are_being_replaced_fails_no_get() {
        let proxy = fleet(2).start();
        proxy.wait_workers(2);
        let load = Load::start(&proxy, 32, Ask::gets);

        for round in 0..4 {
            load.wait_answered(100);
            let before = proxy.wait_workers(2);
            proxy.hang_up();
            // A different moment of the roll each time.
            proxy.wait_until("the roll has begun", |status| workers_of(status).len() > 2 || round == 0);
            // One at a time: when all die at once there is nobody to send a request to again.
            send_signal(before[round % 2].pid, Signal::KILL);
            proxy.wait_other_workers(2, &before);
        }

        let report = load.stop();
        println!("SIGHUP and kill -9: {report}");
        report.expect_all_good(&proxy);
    }

    #[test]
    fn kill_9_of_workers_under_load_harms_only_the_posts_they_held() {
        let proxy = fleet(2).args(["--concurrency", "8"]).start();
        let load = Load::start(&proxy, 64, Ask::mixed);

        kill_again_and_again(&proxy, &load, 4);

        let report = load.stop();
        println!("kill -9, mixed: {report}");
        report.expect_only_cut(&proxy);
        let failed = report.with_status(502);
        assert_eq!(report.with_status(200) + failed, report.total(), "{report}");
        assert!(failed <= 4 * 8, "more than the victims held: {report}");
        for line in proxy.access().iter().filter(|line| line["status"] == 502) {
            assert_eq!(
                (&line["method"], &line["reason"]),
                (&"POST".into(), &"upstream_reset".into()),
                "{line}"
            );
        }
    }

    #[test]
    fn of_requests_a_dying_worker_held_gets_are_sent_again_and_posts_are_502() {
        let proxy = fleet(2).start();
        let workers = proxy.wait_workers(2);
        // Least in flight: every other one goes to the other worker.
        let posts: Vec<_> = (1..=4)
            .map(|count| {
                let post = proxy.send("POST", "/hold/gate", b"once only");
                proxy.wait_in_flight(count);
                post
            })
            .collect();
        let gets: Vec<_> = (5..=8)
            .map(|count| {
                let get = proxy.send("GET", "/hold/gate", b"");
                proxy.wait_in_flight(count);
                get
            })
            .collect();

        send_signal(workers[0].pid, Signal::KILL);
        wait_for(
            "two POSTs failed",
            || posts.iter().filter(|post| post.is_there()).count() == 2,
            || proxy.output(),
        );
        proxy.open_gate("gate");

        let mut statuses: Vec<u16> = posts.into_iter().map(|post| post.answer().status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 502, 502], "{}", proxy.output());
        for get in gets {
            assert_eq!(get.answer().status, 200);
        }
        proxy.expect_reason("upstream_reset", 502, 2);
        wait_for("all access lines are there", || proxy.access().len() == 8, || proxy.output());
        let again = proxy.access().into_iter().filter(|line| line["retries"] == 1).count();
        assert_eq!(again, 2, "{}", proxy.output());
        proxy.wait_workers(2);
    }

    #[test]
    fn a_worker_that_exits_at_once_is_tried_more_and_more_slowly_while_the_other_serves() {
        let proxy = fleet(2).file("broken-1", "").launch();
        proxy.wait_ready();
        let load = Load::start(&proxy, 8, Ask::gets);

        let rests = || -> Vec<u64> {
            let ended = proxy.events_named("worker ended");
            ended.iter().filter_map(|event| event["next_try_ms"].as_u64()).collect()
        };
        wait_for("it was tried five times", || rests().len() >= 5, || proxy.output());

        for (rest, most) in rests().into_iter().zip([0, 250, 500, 1000, 2000]) {
            assert!((most / 2..=most).contains(&rest), "{:?}", rests());
        }
        let last = proxy.events_named("worker ended").pop().unwrap();
        assert_eq!((&last["worker"], &last["last"]), (&1.into(), &"exit code 1".into()), "{last}");
        assert_eq!(proxy.admin("/readyz").status, 200);
        proxy.remove("broken-1");
        proxy.wait_workers(2);
        load.stop().expect_all_good(&proxy);
    }

    #[test]
    fn a_worker_that_takes_itself_down_is_started_again() {
        let proxy = fleet(1).start();
        let before = proxy.wait_workers(1);

        let answer = proxy.request("POST", "/exit/7", &[], b"");

        assert_eq!(answer.status, 502);
        proxy.wait_other_workers(1, &before);
        assert_eq!(proxy.get("/").status, 200);
        let exits = "compat_proxy_worker_exits_total";
        assert!(proxy.metric_sum(exits, &["kind=\"exit\"", "status=\"7\""]) >= 1.0, "{}", proxy.output());
    }

    #[test]
    fn a_get_that_kills_whoever_answers_it_is_tried_twice_and_no_more() {
        let proxy = fleet(2).start();
        proxy.wait_workers(2);

        assert_eq!(proxy.get("/exit/9").status, 502);

        proxy.expect_reason("upstream_reset", 502, 1);
        proxy.wait_workers(2);
        let exits = proxy.metric_sum("compat_proxy_worker_exits_total", &["status=\"9\""]);
        assert!((exits - 2.0).abs() < 0.5, "{exits} workers died of it");
    }

    #[test]
    fn workers_that_never_get_ready_are_exit_69_with_the_reason_and_nothing_is_left() {
        for (file, limit, reason) in [("broken", "60s", "exit code 1"), ("wait", "100ms", "not ready within")]
        {
            let app = fleet(2).file(file, "").args(["--start-timeout", limit]);

            let done = app.run(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).expect_code(69);

            let told = done.stderr.lines().find(|line| line.contains("five times in a row"));
            assert!(
                told.is_some_and(|line| line.contains(reason) && line.contains("--start-timeout")),
                "{done:#?}"
            );
        }
    }

    #[test]
    fn a_worn_worker_is_replaced_under_load_and_no_request_notices() {
        let proxy = fleet(2).args(["--max-requests", "300"]).start();
        let before = proxy.wait_workers(2);
        let load = Load::start(&proxy, 32, Ask::mixed);

        proxy.wait_until("both were replaced twice", |status| {
            let all = status["workers"].as_array().unwrap();
            (0..2).all(|slot| {
                all.iter().any(|worker| worker["worker"] == slot && worker["restarts"].as_u64() >= Some(2))
            })
        });

        let report = load.stop();
        println!("--max-requests: {report}");
        report.expect_all_good(&proxy);
        wait_for("the first ones are gone", || !before.iter().any(|old| lives(old.pid)), || proxy.output());
    }
}

mod the_proxy_is_killed {
    use super::*;

    /// The contract of `--upstream-cmd`: whatever happens to us, two seconds later nothing is left.
    #[track_caller]
    fn nothing_is_left_within_two_seconds(mut proxy: Proxy, at_least: usize) {
        let mut before = proxy.family();
        wait_for(
            &format!("{at_least} processes run"),
            || {
                before = proxy.family();
                before.len() >= at_least
            },
            || proxy.output(),
        );

        proxy.signal(Signal::KILL);
        proxy.wait_end();
        let dead = Instant::now();

        let mut left = proxy.family();
        while !left.is_empty() && dead.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(5));
            left = proxy.family();
        }
        println!("SIGKILL: {} processes gone after {:?}", before.len(), dead.elapsed());
        assert!(left.is_empty(), "left after two seconds: {left:?}");
    }

    #[test]
    fn its_workers_die_with_it() {
        let proxy = fleet(2).start();
        proxy.wait_workers(2);
        nothing_is_left_within_two_seconds(proxy, 3);
    }

    #[test]
    fn workers_behind_a_shell_die_with_it() {
        let command = format!("sh -c '{} & wait'", script("server.py {port}"));
        let proxy = App::from("workers").arg("--upstream-cmd").arg(command).workers(2).start();
        proxy.wait_workers(2);
        nothing_is_left_within_two_seconds(proxy, 5);
    }

    #[test]
    fn a_master_its_children_and_a_daemon_die_with_it() {
        let command = script("master.py {port}");
        let proxy = App::from("workers").arg("--upstream-cmd").arg(command).workers(2).start();
        proxy.wait_workers(2);
        nothing_is_left_within_two_seconds(proxy, 9);
    }

    #[test]
    fn workers_that_are_still_starting_die_with_it() {
        let proxy = fleet(2).file("wait", "").launch();
        wait_for("both run", || proxy.family().len() >= 3, || proxy.output());
        nothing_is_left_within_two_seconds(proxy, 3);
    }

    #[test]
    fn workers_under_load_die_with_it() {
        let proxy = fleet(2).start();
        let load = Load::start(&proxy, 32, Ask::gets);
        load.wait_answered(100);
        nothing_is_left_within_two_seconds(proxy, 3);
        load.stop();
    }
}

mod orphans {
    use super::*;

    /// Leaves orphans behind in workers, sees that they become children of `pid`, ends them, and waits until no
    /// dead child is left.
    fn are_buried_by(pid: i32, app_dir: &Path, own: usize, mut ask: impl FnMut()) {
        (0..5).for_each(|_| ask());
        wait_for(
            "the orphans came to the proxy",
            || children_of(pid).len() >= own + 5,
            || format!("{:?}", children_of(pid)),
        );
        let orphans = children_of(pid);

        std::fs::write(app_dir.join("gate"), "").unwrap();

        wait_for(
            "the orphans are buried",
            || children_of(pid).len() == own,
            || format!("{orphans:?} then {:?}", children_of(pid)),
        );
        assert!(children_of(pid).iter().all(|(_, state)| *state != 'Z'), "{:?}", children_of(pid));
    }

    #[test]
    fn come_to_the_proxy_and_are_buried() {
        let proxy = fleet(1).start();
        let own = children_of(proxy.pid()).len();
        are_buried_by(proxy.pid(), &proxy.path(), own, || {
            assert_eq!(proxy.get("/orphan/gate").status, 200);
        });
        proxy.wait_workers(1);
    }

    #[test]
    fn a_dozen_a_second_never_pile_up() {
        let proxy = fleet(1).start();
        let own = children_of(proxy.pid()).len();
        // Orphans from the start, which end at once.
        proxy.open_gate("gate");
        let began = Instant::now();
        let (mut most, mut made) = (0, 0);

        while began.elapsed() < Duration::from_secs(4) {
            assert_eq!(proxy.get("/orphan/gate").status, 200);
            made += 1;
            most = most.max(children_of(proxy.pid()).len() - own);
            let next = Duration::from_secs_f64(f64::from(made) / 15.0);
            std::thread::sleep(next.saturating_sub(began.elapsed()));
        }
        let rate = f64::from(made) / began.elapsed().as_secs_f64();
        wait_for(
            "all are buried",
            || children_of(proxy.pid()).len() == own,
            || format!("{:?}", children_of(proxy.pid())),
        );

        println!("{made} orphans, {rate:.1} a second: at most {most} at a time waited to be buried");
        assert!(rate >= 12.0, "the machine is too slow for this test: {rate:.1}");
        // Each is looked at twice, half a second apart.
        assert!(most <= 30, "{most} at a time");
    }

    #[test]
    fn are_buried_by_process_1_which_also_ends_cleanly() {
        if !crate::harness::namespaces::available() {
            println!("SKIPPED: no process namespaces here (needs root and unshare)");
            return;
        }
        let first = crate::harness::namespaces::Process1::start(fleet(1));
        let own = children_of(first.pid()).len();
        are_buried_by(first.pid(), &first.app_dir(), own, || {
            assert_eq!(first.get("/orphan/gate").status, 200);
        });

        let began = Instant::now();
        assert_eq!(first.terminate(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn process_1_that_is_killed_takes_everything_with_it() {
        if !crate::harness::namespaces::available() {
            println!("SKIPPED: no process namespaces here (needs root and unshare)");
            return;
        }
        let app = App::from("workers").arg("--upstream-cmd").arg(script("master.py {port}")).workers(2);
        let first = crate::harness::namespaces::Process1::start(app);
        assert_eq!(first.get("/").status, 200);

        let left = first.kill();

        assert_eq!(left, BTreeSet::new());
    }
}
