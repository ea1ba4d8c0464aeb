//! One worker's life: start, crash, wear, stop.

use super::*;

#[tokio::test]
async fn each_worker_has_its_own_socket_and_variables() {
    let mut plan = app();
    plan.env = vec![("EXTRA".into(), "yes".into()), ("PORT".into(), "1".into())];
    let fleet = Fleet::of(plan);
    let status = fleet.all_ready(2).await;
    assert_ne!(status[0].address, status[1].address);
    assert_eq!((fleet.pool.ready(), status[0].restarts, status[0].requests), (2, 0, 0));
    assert!(status.iter().all(|one| one.rss_bytes > Some(1 << 20) && one.started_at.is_some()));
    assert!(fleet.handle.ever_ready());
    // A line waits a moment for others that belong to it.
    let lines = until("both have spoken", async || {
        let mut lines = fleet.lines.lock().expect("no panic").clone();
        lines.sort();
        (lines.len() == 2).then_some(lines)
    });
    let lines = lines.await;
    let said = |slot: usize| (slot, format!("worker {slot} None yes /"));
    assert_eq!(lines, [said(0), said(1)]);
    assert_eq!(fleet.metrics.workers.with_label_values(&["ready"]).get(), 2);

    let Some(crate::balance::Address::Unix(path)) = status[0].address.clone() else { panic!("not a socket") };
    let dir = path.parent().expect("a folder").to_owned();
    assert!(dir.exists());
    assert_eq!(fleet.stop().await, Outcome::Stopped);
    assert!(!dir.exists(), "nothing is left behind");
    assert!(pids(&status).into_iter().all(|pid| !alive(pid)));
}

#[tokio::test]
async fn a_command_without_placeholders_listens_on_the_port_it_is_told() {
    let program = "import http.server, os; http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), \
                   http.server.SimpleHTTPRequestHandler).serve_forever()";
    let mut plan = wrap(&["python3", "-S", "-c", program]);
    plan.checks = vec![Check::Health(Request { path: "/".into(), headers: vec![] })];
    let fleet = Fleet::of(plan);
    fleet.all_ready(2).await;
    fleet.stop().await;
}

/// A scrape may come before any process was started.
#[tokio::test]
async fn every_slot_has_its_series_before_anything_runs() {
    let series = |text: &str| -> Vec<String> {
        let lines =
            text.lines().filter(|line| line.contains("worker=\"")).filter_map(|line| line.rsplit_once(' '));
        lines.map(|(name, _)| name.to_owned()).collect()
    };
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let limits = Limits { concurrency: 4, queue_depth: 100, queue_timeout: LONG };
    let pool = Pool::new(limits, Arc::clone(&metrics));
    let surroundings = Surroundings { sink: Arc::new(|_| ()), guard: None, reap: false, private: Vec::new() };
    let _made = supervisor(app(), pool, Arc::clone(&metrics), surroundings).expect("a private directory");
    let before = series(&metrics.text().expect("text"));
    let fleet = Fleet::of(app());
    fleet.all_ready(2).await;
    assert!(before.len() > 40, "{before:?}");
    assert_eq!(before, series(&fleet.metrics.text().expect("text")));
    fleet.stop().await;
}

#[tokio::test]
async fn a_killed_worker_is_out_of_the_pool_at_once_and_replaced() {
    let fleet = Fleet::of(app());
    let before = fleet.all_ready(2).await;
    let victim = before[0].pid.expect("a process");
    kill(victim);
    fleet.until("its end was seen", |all| all[0].pid != Some(victim)).await;
    let after = fleet.all_ready(2).await;
    assert_eq!((after[0].restarts, after[1].pid), (1, before[1].pid));
    let exits = &fleet.metrics.worker_exits;
    assert_eq!(exits.with_label_values(&["0", "signal", "SIGKILL"]).get(), 1);
    assert_eq!(fleet.metrics.worker_starts.with_label_values(&["0", "crash"]).get(), 1);
    assert_ne!(before[0].address, after[0].address);
    fleet.stop().await;
}

#[tokio::test]
async fn a_command_that_always_fails_is_given_up_after_five_tries_a_slot() {
    let fleet = Fleet::of(wrap(&["sh", "-c", "echo broken >&2; exit 3"]));
    let (lines, metrics) = (Arc::clone(&fleet.lines), Arc::clone(&fleet.metrics));
    assert_eq!(fleet.over().await, Outcome::NeverReady { last: "exit code 3".into() });
    assert_eq!(lines.lock().expect("no panic").len(), 10);
    assert_eq!(metrics.worker_exits.with_label_values(&["1", "exit", "3"]).get(), 5);
}

#[tokio::test]
async fn a_worker_that_never_listens_is_killed_with_its_group_and_given_up() {
    let mut plan = wrap(&["sh", "-c", "sleep 987 & wait"]);
    plan.workers = 1;
    plan.start_timeout = Duration::from_millis(300);
    let fleet = Fleet::of(plan);
    let Outcome::NeverReady { last } = fleet.over().await else { panic!("it was not given up") };
    assert!(last.contains("refused"), "{last}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told_as_such() {
    let plan = wrap(&["./no-such-program"]);
    assert_eq!(plan.check(), Err(CommandError::Missing("./no-such-program".into())));
    let Outcome::NeverReady { last } = Fleet::of(plan).over().await else { panic!("it was not given up") };
    assert!(last.starts_with("cannot start `./no-such-program`"), "{last}");
}

#[tokio::test]
async fn a_refused_start_hook_means_not_ready_and_a_404_means_ready() {
    let start = || vec![Check::Start(Request { path: "/_ah/start".into(), headers: vec![] })];
    let status = |status: &str| vec![("STATUS".to_owned(), status.to_owned())];
    let refused = Fleet::of(Plan { checks: start(), env: status("500"), workers: 1, ..app() });
    assert_eq!(refused.over().await, Outcome::NeverReady { last: "/_ah/start answered 500".into() });

    let accepted = Fleet::of(Plan { checks: start(), env: status("404"), workers: 1, ..app() });
    accepted.all_ready(1).await;
    accepted.stop().await;
}

#[tokio::test]
async fn a_worker_that_ignores_sigterm_is_killed_with_its_whole_group() {
    let deaf = "trap '' TERM; sleep 986 & echo child $!; exec python3 -S -c \"$0\" \"$1\"";
    let mut plan = wrap(&["sh", "-c", deaf, APP, "{socket}"]);
    plan.stop_timeout = Duration::from_millis(200);
    plan.workers = 1;
    let fleet = Fleet::of(plan);
    let status = fleet.all_ready(1).await;
    let lines = Arc::clone(&fleet.lines);
    let child: u32 = until("the child's pid is told", async || {
        lines.lock().expect("no panic").iter().find_map(|(_, line)| line.strip_prefix("child ")?.parse().ok())
    })
    .await;
    assert!(alive(child));
    assert_eq!(fleet.stop().await, Outcome::Stopped);
    assert!(!alive(child) && pids(&status).into_iter().all(|pid| !alive(pid)));
}

#[tokio::test]
async fn the_last_stage_waits_for_nobody() {
    let mut plan = wrap(&["sh", "-c", "trap '' TERM; exec python3 -S -c \"$0\" \"$1\"", APP, "{socket}"]);
    plan.stop_timeout = Duration::from_secs(3600);
    let fleet = Fleet::of(plan);
    fleet.all_ready(2).await;
    fleet.stage.send_replace(Stage::Stopping);
    fleet.until("it is stopping", |all| all.iter().all(|one| one.state == State::Draining)).await;
    fleet.stage.send_replace(Stage::Gone);
    assert_eq!(fleet.over().await, Outcome::Stopped);
}

#[tokio::test]
async fn stopping_during_start_ends_at_once_and_sends_waiters_away() {
    let fleet = Fleet::of(wrap(&["sleep", "985"]));
    fleet.until("they run", |all| pids(all).len() == 2).await;
    let pool = fleet.pool.clone();
    let waits = tokio::spawn(async move { pool.lease(None).await.err() });
    until("it waits", async || (fleet.pool.queue_len() == 1).then_some(())).await;
    assert_eq!(fleet.stop().await, Outcome::Stopped);
    assert_eq!(waits.await.expect("no panic"), Some(crate::balance::Busy::Draining));
}

#[tokio::test]
async fn a_worker_inherits_no_descriptor_and_no_ignored_signal() {
    // As a careless parent would leave it to us: open over exec.
    let leaked = rustix::io::dup(std::io::stdin()).expect("a descriptor");
    let script = "echo fds $(ls /proc/self/fd); grep -E 'Sig(Ign|Blk)' /proc/self/status; exec sleep 981";
    let fleet = Fleet::of(Plan { workers: 1, ..wrap(&["sh", "-c", script]) });
    let lines = until("it has spoken", async || {
        let lines = fleet.lines.lock().expect("no panic").clone();
        (lines.len() == 3).then_some(lines)
    })
    .await;
    drop(leaked);
    // The fourth is the folder `ls` reads.
    assert_eq!(lines[0].1, "fds 0 1 2 3");
    // Signals 32 and 33 belong to the C library, which does not let us touch them.
    let plain = |line: &str| u64::from_str_radix(&line[8..], 16).map(|bits| bits & !(3 << 31));
    assert!(lines[1..].iter().all(|(_, line)| plain(line) == Ok(0)), "{lines:?}");
    fleet.stop().await;
}
