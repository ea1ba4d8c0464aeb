//! A request answered with a file of the application.

use std::sync::Arc;

use http::Method;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType, Result};

use super::{Exchange, Gateway, reply};
use crate::files::Entry;
use crate::site::static_options;
use crate::telemetry::Origin;
use crate::telemetry::metrics::StaticResult;

impl Gateway {
    /// Answers with the file, and counts what became of it.
    pub(super) async fn file(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        handler: usize,
        entry: &Arc<Entry>,
    ) -> Result<()> {
        let site = Arc::clone(&exchange.site);
        let Some(options) = site.map.handlers().get(handler).and_then(static_options) else {
            return Err(Error::explain(
                ErrorType::InternalError,
                "a file was decided for a handler without files",
            ));
        };
        exchange.origin = Origin::Static;
        let request = session.req_header();
        // App Engine answers any method with the file; only HEAD goes without its body.
        let method = if request.method == Method::HEAD { Method::HEAD } else { Method::GET };
        let answer = site.files.answer(entry, options, &method, &request.headers).await;
        if let Some(counter) = site
            .desks
            .get(handler)
            .and_then(|desk| desk.static_results.get(StaticResult::of(answer.status) as usize))
        {
            counter.inc();
        }
        let counter = &self.shared.metrics.static_sent_bytes[answer.coding as usize];
        counter.inc_by(reply::file(session, answer).await?);
        Ok(())
    }
}
