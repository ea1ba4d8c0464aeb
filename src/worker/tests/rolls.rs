//! Replacing workers while they serve.

use super::*;

#[tokio::test]
async fn a_roll_replaces_all_one_at_a_time_and_the_pool_is_never_short() {
    let fleet = Fleet::of(app());
    let before = pids(&fleet.all_ready(2).await);
    let handle = fleet.handle.clone();
    let roll = tokio::spawn(async move { handle.roll(app()).await });
    while !roll.is_finished() {
        let status = fleet.handle.status();
        assert!(fleet.pool.ready() >= 2, "{status:?}");
        assert!(status.len() <= 3, "more than one is surplus: {status:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(roll.await.expect("no panic"), Ok(()));
    let after = pids(&fleet.all_ready(2).await);
    assert!(after.iter().all(|pid| !before.contains(pid)));
    assert!(before.into_iter().all(|pid| !alive(pid)));
    assert_eq!(fleet.metrics.worker_starts.with_label_values(&["1", "reload"]).get(), 1);
    fleet.stop().await;
}

#[tokio::test]
async fn an_old_worker_finishes_its_request_before_it_ends() {
    let fleet = Fleet::of(Plan { workers: 1, ..app() });
    let old = fleet.all_ready(1).await[0].pid.expect("a process");
    let lease = fleet.pool.lease(None).await.expect("a lease");
    let handle = fleet.handle.clone();
    let roll = tokio::spawn(async move { handle.roll(Plan { workers: 1, ..app() }).await });
    fleet.until("the old one drains", |all| all.len() == 2 && all[1].state == State::Draining).await;
    assert_eq!(fleet.handle.status()[1].in_flight, 1);
    assert!(alive(old) && !roll.is_finished());
    drop(lease);
    assert_eq!(roll.await.expect("no panic"), Ok(()));
    assert!(!alive(old));
    fleet.stop().await;
}

#[tokio::test]
async fn a_new_plan_that_does_not_start_replaces_nobody() {
    let fleet = Fleet::of(app());
    let before = pids(&fleet.all_ready(2).await);
    let result = fleet.handle.roll(wrap(&["sh", "-c", "exit 7"])).await;
    let last = "exit code 7".into();
    assert_eq!(result, Err(RollError::NeverReady { worker: 0, last, replaced: 0 }));
    assert_eq!(pids(&fleet.all_ready(2).await), before);
    fleet.stop().await;
}

#[tokio::test]
async fn a_roll_may_change_the_number_of_workers() {
    let fleet = Fleet::of(app());
    fleet.all_ready(2).await;
    assert_eq!(fleet.handle.roll(Plan { workers: 3, ..app() }).await, Ok(()));
    fleet.all_ready(3).await;
    assert_eq!(fleet.handle.roll(Plan { workers: 1, ..app() }).await, Ok(()));
    fleet.all_ready(1).await;
    assert_eq!(fleet.metrics.workers_desired.get(), 1);
    assert_eq!(fleet.handle.roll(Plan { command: Command::None, ..app() }).await, Ok(()));
    fleet.until("none is left", |all| all.is_empty()).await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_storm_of_rolls_settles() {
    let fleet = Fleet::of(Plan { workers: 1, ..app() });
    fleet.all_ready(1).await;
    let rolls: Vec<_> = (0..50)
        .map(|number| {
            let (handle, env) = (fleet.handle.clone(), vec![("EXTRA".to_owned(), number.to_string())]);
            tokio::spawn(async move { handle.roll(Plan { workers: 1, env, ..app() }).await })
        })
        .collect();
    let mut done = Vec::new();
    for roll in rolls {
        done.push(roll.await.expect("no panic"));
    }
    assert_eq!((done.first(), done.last()), (Some(&Ok(())), Some(&Ok(()))));
    assert!(done[1..49].iter().all(|result| *result == Err(RollError::Superseded)));
    fleet.all_ready(1).await;
    // A line waits a moment for others that belong to it.
    until("the last one has spoken", async || {
        let lines = fleet.lines.lock().expect("no panic");
        (lines.last()?.1 == "worker 0 None 49 /").then_some(())
    })
    .await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_worker_is_replaced_after_its_number_of_requests() {
    let fleet = Fleet::of(Plan { max_requests: Some(5), workers: 1, ..app() });
    let before = pids(&fleet.all_ready(1).await);
    for _ in 0..5 {
        drop(fleet.pool.lease(None).await.expect("a lease"));
    }
    fleet
        .until("it is replaced", |all| all.len() == 1 && all[0].state == State::Ready && pids(all) != before)
        .await;
    assert_eq!(fleet.metrics.worker_starts.with_label_values(&["0", "max_requests"]).get(), 1);
    fleet.stop().await;
}

#[tokio::test]
async fn workers_are_replaced_for_their_age_and_their_memory() {
    for (why, plan) in [
        ("max_lifetime", Plan { max_lifetime: Some(Duration::from_millis(300)), workers: 1, ..app() }),
        ("max_rss", Plan { max_rss: Some(1 << 20), workers: 1, ..app() }),
    ] {
        let fleet = Fleet::of(plan);
        fleet.until("it was replaced", |all| all.first().is_some_and(|one| one.restarts >= 1)).await;
        assert!(fleet.pool.ready() >= 1);
        assert!(fleet.metrics.worker_starts.with_label_values(&["0", why]).get() >= 1, "{why}");
        fleet.stop().await;
    }
}

#[tokio::test]
async fn a_worn_worker_is_replaced_even_after_a_roll_that_failed() {
    let fleet = Fleet::of(Plan { max_requests: Some(1), workers: 1, ..app() });
    let before = pids(&fleet.all_ready(1).await);
    let handle = fleet.handle.clone();
    drop(fleet.pool.lease(None).await.expect("a lease"));
    fleet.until("its successor starts", |all| all.len() == 2).await;
    assert!(handle.roll(wrap(&["false"])).await.is_err());
    fleet
        .until("it is replaced", |all| all.len() == 1 && all[0].state == State::Ready && pids(all) != before)
        .await;
    fleet.stop().await;
}
