//! What goes wrong on purpose: workers are killed and stopped, configurations change and break, an app restarts behind
//! attach mode, a proxy is told to stop under load.

use std::thread::Scope;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::e2e::harness::fleet::{send_signal, workers_of};
use crate::e2e::harness::load::{Ask, Load};
use crate::e2e::harness::origin::Origin;
use crate::e2e::harness::{App, Proxy};
use crate::tally::Tally;
use crate::traffic::enter;
use crate::{HANDLERS, start as start_proxy};

pub fn start<'s>(scope: &'s Scope<'s, '_>, proxy: &'s Proxy, tally: &'s Tally) {
    scope.spawn(|| deaths(proxy, tally));
    scope.spawn(|| reloads(proxy, tally));
    scope.spawn(|| drains(tally));
    scope.spawn(|| restarts(tally));
}

/// One worker is killed, then one is stopped and goes on, then one is asked to leave by itself.
fn deaths(proxy: &Proxy, tally: &Tally) {
    let mut dice = fastrand::Rng::with_seed(20_261_122);
    while tally.rest(Duration::from_secs(6)) {
        let workers = workers_of(&proxy.status());
        let Some(worker) = workers.get(dice.usize(0..workers.len().max(1))).filter(|worker| worker.pid > 0)
        else {
            continue;
        };
        match dice.u8(0..3) {
            0 => {
                send_signal(worker.pid, Signal::KILL);
                tally.count("workers killed");
            }
            1 => {
                send_signal(worker.pid, Signal::STOP);
                tally.rest(Duration::from_secs(3));
                send_signal(worker.pid, Signal::CONT);
                tally.count("workers stopped for a while");
            }
            _ => {
                send_signal(worker.pid, Signal::TERM);
                tally.count("workers terminated");
            }
        }
        let began = Instant::now();
        let ready = || workers_of(&proxy.status()).iter().filter(|worker| worker.state == "ready").count();
        while ready() < crate::WORKERS && began.elapsed() < Duration::from_secs(20) && !tally.is_over() {
            std::thread::sleep(Duration::from_millis(50));
        }
        tally.took("full strength again", began.elapsed());
        if began.elapsed() > Duration::from_secs(15) {
            tally.broke(format!(
                "no full strength after {:?}\n{:#}",
                began.elapsed(),
                proxy.status()["workers"]
            ));
        }
    }
}

/// New routes, broken files, and rolls.
fn reloads(proxy: &Proxy, tally: &Tally) {
    let yaml = |extra: &str| {
        format!(
            "runtime: python27\napi_version: 1\nthreadsafe: true\nhandlers:\n{extra}{}\n",
            HANDLERS.trim_matches('\n')
        )
    };
    for number in 0_u64.. {
        if !tally.rest(Duration::from_secs(4)) {
            break;
        }
        match number % 4 {
            0 => proxy.write("app.yaml", yaml(&format!("- url: /new-{number}\n  static_dir: static\n"))),
            1 => proxy.write("app.yaml", "runtime: [broken\n"),
            2 => proxy.write("app.yaml", yaml("")),
            _ => {
                proxy.hang_up();
                tally.count("rolls asked for");
            }
        }
        tally.count("reloads asked for");
        if proxy.admin("/readyz").status != 200
            && workers_of(&proxy.status()).iter().any(|worker| worker.state == "ready")
        {
            tally.broke("not ready while a worker is".to_owned());
        }
    }
}

/// Another proxy, loaded and told to stop: nothing that was sent may be lost.
fn drains(tally: &Tally) {
    while tally.left() > Duration::from_secs(25) {
        let mut proxy = start_proxy();
        let load = Load::start(&proxy, 4, Ask::mixed);
        load.wait_answered(200);
        let began = Instant::now();
        proxy.signal(Signal::TERM);
        let status = proxy.wait_end();
        tally.took("drain under load", began.elapsed());
        enter(tally, "drain", &load.stop(), &[]);
        tally.count("drains");
        if status.code() != Some(0) {
            tally.broke(format!("a drain ended with {status:?}\n{}", proxy.output()));
        }
        tally.rest(Duration::from_secs(10));
    }
}

/// An app behind attach mode that restarts every few seconds: no GET fails.
fn restarts(tally: &Tally) {
    let first = Origin::echoing();
    let address = first.address();
    let proxy = App::new()
        .handlers("- url: /.*\n  script: main.app\n")
        .args(["--upstream", &address, "--access-log", "errors"])
        .start();
    let mut origin = Some(first);
    while tally.left() > Duration::from_secs(10) {
        let ask = |_: usize, number: u64| Ask {
            method: "GET",
            path: format!("/{number}"),
            body: Vec::new(),
            expected: crate::e2e::harness::load::Expected::With("\"method\":\"GET\""),
        };
        let load = Load::start(&proxy, 4, ask);
        tally.rest(Duration::from_secs(2));
        drop(origin.take());
        std::thread::sleep(Duration::from_millis(300));
        origin = Some(Origin::at(&address));
        tally.rest(Duration::from_secs(2));
        let mut report = load.stop();
        // An answer that had begun when the app went is cut, and cannot be taken back.
        let began = report.lost.iter().filter(|lost| lost.contains("got \"HTTP/1.1 200")).count();
        report.lost.retain(|lost| !lost.contains("got \"HTTP/1.1 200"));
        tally.add("answers an attached app cut itself", began as u64);
        enter(tally, "attached", &report, &[]);
        tally.count("restarts of an attached app");
    }
}
