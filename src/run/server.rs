//! Pingora as we run it: one single-threaded service for each proxy thread, over sockets bound before.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerOptions, ServerApp};
use pingora::proxy::{HttpProxy, ProxyServiceBuilder};
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, Server, ShutdownWatch};
use pingora::services::listening::Service;

use crate::listen::{BindError, Bound, Local};
use crate::proxy::{Gateway, Shared};
use crate::settings::{Resolved, Settings};

/// Unused connections to workers that are kept, for each proxy thread; above the connections a thread serves at
/// once, reconnecting doubles the cost of a request.
const KEPT_CONNECTIONS: usize = 1024;

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
    shard: usize,
    settings: &Settings,
) -> Service<HttpProxy<Gateway>> {
    let mut options = HttpServerOptions::default();
    options.h2c = settings.h2c.value;
    options.h2_idle_timeout = Some(Duration::from_secs(75));
    ProxyServiceBuilder::new(&server.configuration, Gateway::new(Arc::clone(shared)))
        .name(format!("proxy-{shard}"))
        .server_options(options)
        .build()
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
            match local {
                Local::Tcp(_) => self.service.add_tcp(&name),
                Local::Unix(_) => {
                    self.service.add_uds(&name, Some(PermissionsExt::from_mode(0o660)));
                }
            }
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
