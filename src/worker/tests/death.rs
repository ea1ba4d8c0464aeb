//! What is left when the proxy itself is killed: nothing. The test program starts itself again as a proxy, and that one
//! starts it as its guard; both are tests here, which do nothing when nobody asked for them.

use std::io::{BufRead, BufReader};
use std::process::Child;

use super::*;

/// Set in a test program that was started as something else.
const ROLE: &str = "COMPAT_PROXY_TEST_ROLE";

/// A worker with a child, a grandchild whose parent is gone, and a daemon in a session of its own.
const FAMILY: &str = "sleep 984 & echo child $!
(sleep 983 & echo orphan $!)
setsid sleep 982 & echo daemon $!
(true &)
exec python3 -S -c \"$0\" \"$1\"";

fn itself(test: &str) -> Vec<OsString> {
    let program = std::env::current_exe().expect("our own program").into_os_string();
    let name = module_path!().split_once("::").expect("a crate").1;
    vec![program, "--exact".into(), format!("{name}::{test}").into(), "--nocapture".into()]
}

#[test]
fn acts_as_the_guard_when_asked() {
    if std::env::var_os(ROLE).is_some() {
        let _ = guard::main();
    }
}

#[tokio::test]
async fn acts_as_a_proxy_when_asked() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let plan = wrap(&["sh", "-c", FAMILY, APP, "{socket}"]);
    let fleet = Fleet::with(plan, Some(itself("acts_as_the_guard_when_asked")), true);
    for worker in fleet.all_ready(2).await {
        println!("pid worker {}", worker.pid.expect("a process"));
    }
    let lines = || fleet.lines.lock().expect("no panic").clone();
    let relatives = until("all relatives are known", async || {
        let known: Vec<_> =
            lines().into_iter().map(|(_, line)| line).filter(|line| !line.starts_with("worker")).collect();
        (known.len() == 6).then_some(known)
    })
    .await;
    relatives.iter().for_each(|relative| println!("pid {relative}"));
    println!("pid done 0");
    std::future::pending::<()>().await;
}

/// A proxy in a process of its own, and everything below it.
fn proxy() -> (Child, Vec<u32>) {
    let command = itself("acts_as_a_proxy_when_asked");
    let mut child = Program::new(&command[0])
        .args(&command[1..])
        .env(ROLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test program starts");
    let mut pids = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
        let line = line.expect("text");
        let Some((name, pid)) = line.split_once("pid ").and_then(|(_, rest)| rest.split_once(' ')) else {
            continue;
        };
        if name == "done" {
            break;
        }
        pids.push(pid.parse().expect("a number"));
    }
    assert_eq!(pids.len(), 8);
    (child, pids)
}

fn children(parent: u32) -> Vec<(u32, char, String)> {
    let parent = i32::try_from(parent).expect("a pid");
    procfs::process::all_processes()
        .expect("procfs")
        .filter_map(|process| {
            let process = process.ok()?;
            let stat = process.stat().ok()?;
            let command = process.cmdline().unwrap_or_default().join(" ");
            (stat.ppid == parent).then(|| (u32::try_from(stat.pid).expect("a pid"), stat.state, command))
        })
        .collect()
}

fn guard_of(proxy: u32) -> Option<u32> {
    children(proxy)
        .into_iter()
        .find(|(.., command)| command.contains("acts_as_the_guard"))
        .map(|(pid, ..)| pid)
}

async fn killed(mut proxy: Child, pids: Vec<u32>) {
    assert!(pids.iter().all(|pid| alive(*pid)));
    proxy.kill().expect("it is ours");
    proxy.wait().expect("it is ours");
    let began = Instant::now();
    until("all are gone", async || pids.iter().all(|pid| !alive(*pid)).then_some(())).await;
    assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
}

#[tokio::test]
async fn a_killed_proxy_leaves_no_worker_no_orphan_and_no_daemon_behind() {
    let (proxy, pids) = proxy();
    let guard = guard_of(proxy.id()).expect("a guard");
    let command = std::fs::read_to_string(format!("/proc/{}/cmdline", pids[0])).expect("a worker");
    let socket =
        std::path::PathBuf::from(command.trim_end_matches('\0').rsplit('\0').next().expect("a socket"));
    assert!(socket.exists());
    killed(proxy, pids).await;
    until("the guard has left", async || (!alive(guard)).then_some(())).await;
    assert!(!socket.parent().expect("a folder").exists(), "the private directory is left");
}

#[tokio::test]
async fn a_guard_that_dies_is_replaced_and_the_new_one_knows_everything() {
    let (proxy, pids) = proxy();
    let guard = guard_of(proxy.id()).expect("a guard");
    kill(guard);
    until("there is another guard", async || guard_of(proxy.id()).filter(|new| *new != guard)).await;
    killed(proxy, pids).await;
}

#[tokio::test]
async fn orphans_are_buried() {
    let (proxy, pids) = proxy();
    let adopted = |pid: &u32| children(proxy.id()).iter().any(|(child, ..)| child == pid);
    let orphan = until("an orphan came to the proxy", async || pids[3..].iter().copied().find(adopted)).await;
    kill(orphan);
    let zombies = || children(proxy.id()).into_iter().filter(|(_, state, _)| *state == 'Z').count();
    until("no zombie is left", async || (zombies() == 0).then_some(())).await;
    killed(proxy, pids.into_iter().filter(|pid| alive(*pid)).collect()).await;
}
