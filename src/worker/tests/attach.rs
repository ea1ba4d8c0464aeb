//! Upstreams that somebody else runs.

use tokio::net::TcpListener;

use super::*;

fn attach(upstreams: &[&str]) -> Plan {
    let upstreams = upstreams.iter().map(|name| Upstream::Host((*name).to_owned())).collect();
    Plan { command: Command::Attach(upstreams), ..app() }
}

#[tokio::test]
async fn an_upstream_is_ready_while_it_accepts_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let fleet = Fleet::of(attach(&[&format!("localhost:{}", address.port())]));
    fleet.until("it is looked at", |all| all.len() == 1 && all[0].state == State::Starting).await;
    assert_eq!(fleet.pool.ready(), 0);

    for _ in 0..2 {
        let listener = TcpListener::bind(address).await.expect("the port again");
        let status = fleet.all_ready(1).await;
        assert_eq!((status[0].pid, fleet.pool.ready()), (None, 1));
        drop(listener);
        fleet.until("it is missed", |all| all[0].state != State::Ready).await;
        assert_eq!(fleet.pool.ready(), 0);
    }
    assert_eq!(fleet.stop().await, Outcome::Stopped);
}

#[tokio::test]
async fn one_upstream_may_be_away_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = listener.local_addr().expect("an address").to_string();
    let fleet = Fleet::of(attach(&["no-such-host.invalid:80", &here]));
    let status =
        fleet.until("the other is ready", |all| all.len() == 2 && all[1].state == State::Ready).await;
    assert_eq!(status[0].state, State::Starting);
    assert_eq!(fleet.stop().await, Outcome::Stopped);
}
