//! Pingora as we run it: one single-threaded service for each proxy thread, over sockets bound before.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::{HttpServerOptions, ServerApp};
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, Server, ShutdownWatch};
use pingora::services::listening::Service;

use crate::door::{Door, Entrance, KEEP_ALIVE};
use crate::listen::{BindError, Bound, Local};
use crate::proxy::{Front, Gateway, Shared};
use crate::settings::{Resolved, Settings};

/// Unused connections to workers that are kept, for each proxy thread; above the connections a thread serves at
/// once, reconnecting doubles the cost of a request.
const KEPT_CONNECTIONS: usize = 1024;

/// Of a connection: none of pingora's. What is read goes where it is wanted: 64 KiB would be zeroed for every connection,
/// which took half of the instructions of a request that came alone. What is written is gathered by `door`.
const BUFFERS: L4BufferSettings = L4BufferSettings { read: Some(0), write: Some(0) };

/// Streams of one connection of HTTP/2 at a time.
const H2_STREAMS: u32 = 100;
/// Bytes of the header fields of one stream, decoded; the strict check allows no more.
const HEAD_LIST: u32 = 64 * 1024;

pub(super) fn server() -> Server {
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: KEPT_CONNECTIONS,
        // Whether there is another try is for `proxy::failure` to say, and for how long for the pool.
        max_retries: 10_000,
        // Our drain is over when pingora's begins.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    server
}

pub(super) fn gateway(
    server: &Server,
    shared: &Arc<Shared>,
    door: &Arc<Door>,
    shard: usize,
    settings: &Settings,
) -> Service<Entrance<Front>> {
    let mut options = HttpServerOptions::default();
    options.h2c = settings.h2c.value;
    options.h2_idle_timeout = Some(KEEP_ALIVE);
    let mut proxy = http_proxy(&server.configuration, Gateway::new(Arc::clone(shared)));
    proxy.server_options = Some(options);
    proxy.h2_options = Some(h2_options());
    let front = Front::new(Gateway::new(Arc::clone(shared)), proxy);
    Service::new(format!("proxy-{shard}"), Entrance::new(front, Arc::clone(door)))
}

/// Every limit that has no bound, or an implied one, by default (CVE-2026-105297).
fn h2_options() -> H2Options {
    let mut options = H2Options::default();
    options
        .max_concurrent_streams(H2_STREAMS)
        .max_header_list_size(HEAD_LIST)
        .max_frame_size(16 * 1024)
        .initial_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buffer_size(256 * 1024)
        .max_concurrent_reset_streams(50)
        .max_pending_accept_reset_streams(20);
    options
}

pub(super) fn bind(
    endpoints: &[Resolved],
    shards: usize,
    option: &'static str,
) -> Result<Vec<Bound>, BindError> {
    endpoints
        .iter()
        .map(|endpoint| match endpoint {
            Resolved::Tcp(address) => Bound::tcp(&SocketAddr::to_string(address), shards, option),
            Resolved::Unix(path) => Bound::unix(path, option),
        })
        .collect()
}

/// Where it is bound, the name pingora will look for, and the descriptor.
pub(super) type Listener = (Local, (String, RawFd));

/// Puts sockets we bound into pingora's table under the names the service will look for.
pub(super) fn adopt<A: Send + Sync + 'static>(service: Service<A>, listeners: Vec<Listener>) -> Adopted<A> {
    Adopted { service, listeners }
}

/// A listener service over sockets bound before.
pub(super) struct Adopted<A> {
    service: Service<A>,
    listeners: Vec<Listener>,
}

#[async_trait]
impl<A> pingora::services::Service for Adopted<A>
where
    A: ServerApp + Send + Sync + 'static,
{
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        for (local, (name, descriptor)) in self.listeners.drain(..) {
            if let Some(table) = &fds {
                table.lock().add(name.clone(), descriptor);
            }
            let config = match local {
                Local::Tcp(_) => ListenerConfig::tcp(name),
                Local::Unix(_) => ListenerConfig::uds(name).permissions(PermissionsExt::from_mode(0o660)),
            };
            self.service.add_listener(config.l4_buffer(BUFFERS));
        }
        self.service.start_service(fds, shutdown, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}
