//! Workers that are replaced for their age, their memory, or the number of their requests: no request notices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::fleet::{fleet, lives, workers_of};
use crate::harness::load::{Ask, Expected, Load};
use crate::harness::{App, wait_for};

/// Under load both workers are replaced twice: never fewer than two are ready, never more than one is surplus, and no
/// request fails.
#[track_caller]
fn nobody_notices(app: App, reason: &str, ask: fn(usize, u64) -> Ask) {
    let proxy = app.start();
    let before = proxy.wait_workers(2);
    let load = Load::start(&proxy, 32, ask);
    let over = AtomicBool::new(false);

    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut looks = 0;
            while !over.load(Ordering::SeqCst) {
                let all = workers_of(&proxy.status());
                let ready = all.iter().filter(|worker| worker.state == "ready").count();
                assert!(ready >= 2 && all.len() <= 3, "{all:?}\n{}", proxy.output());
                assert_eq!(proxy.admin("/readyz").status, 200);
                looks += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            looks
        });
        proxy.wait_until("both were replaced twice", |status| {
            let all = status["workers"].as_array().unwrap();
            watch.is_finished()
                || (0..2).all(|slot| {
                    all.iter()
                        .any(|worker| worker["worker"] == slot && worker["restarts"].as_u64() >= Some(2))
                })
        });
        over.store(true, Ordering::SeqCst);
        println!("{reason}: looked {} times", watch.join().unwrap());
    });

    let report = load.stop();
    println!("--{reason}: {report}");
    report.expect_all_good(&proxy);
    let label = format!("reason=\"{}\"", reason.replace('-', "_"));
    assert!(proxy.metric_sum("compat_proxy_worker_starts_total", &[&label]) >= 4.0, "{}", proxy.output());
    wait_for("the first ones are gone", || !before.iter().any(|old| lives(old.pid)), || proxy.output());
}

#[test]
fn by_max_requests() {
    nobody_notices(fleet(2).args(["--max-requests", "200"]), "max-requests", Ask::mixed);
}

#[test]
fn by_max_lifetime() {
    nobody_notices(fleet(2).args(["--max-lifetime", "1500ms"]), "max-lifetime", Ask::mixed);
}

#[test]
fn by_max_rss() {
    let growing = |client, number| {
        if number % 20 == 0 {
            return Ask {
                path: "/grow/1000000".to_owned(),
                expected: Expected::With(""),
                ..Ask::get("x", 1)
            };
        }
        Ask::mixed(client, number)
    };
    nobody_notices(fleet(2).args(["--max-rss", "40MiB"]), "max-rss", growing);
}
