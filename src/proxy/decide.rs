//! From a request head to what is done with it: read in one way or refused, then decided by the site's map, with
//! every fact the record and the counters need noted on the exchange. Writes nothing to the client.

use std::fmt::Display;
use std::sync::Arc;

use http::HeaderValue;
use pingora::protocols::http::ServerSession;
use tracing::debug;

use super::reply::Own;
use super::{Exchange, Gateway};
use crate::appyaml::ErrorCode;
use crate::door;
use crate::files::{Absent, Entry};
use crate::headers::strict::{self, Asked, Refusal};
use crate::headers::trace::Ids;
use crate::headers::trust;
use crate::route::{Decision, Facts, Look, Why};
use crate::secrets;
use crate::site::Site;
use crate::telemetry::metrics::StaticResult;
use crate::telemetry::{Origin, Reason};

/// What to do with a request.
pub(super) enum Act {
    Refuse(Refusal),
    Own(Own, Reason),
    File { handler: usize, entry: Arc<Entry> },
    App(ForApp),
}

/// A request for the app.
pub(super) struct ForApp {
    /// The target in origin form, where it came in another.
    pub(super) rewrite: Option<String>,
    /// It may take the short way.
    pub(super) plain: bool,
}

/// A debug line about a request for the app.
pub(super) fn tell_app(session: &ServerSession, exchange: &Exchange) {
    tell("app", session, exchange);
}

fn tell(act: impl Display, session: &ServerSession, exchange: &Exchange) {
    debug!(
        %act,
        handler = exchange.handler,
        method = %session.req_header().method,
        url = %secrets::url(&String::from_utf8_lossy(session.req_header().raw_path())),
        request_id = %exchange.ids.request,
        trace_id = %exchange.ids.trace,
        "decided"
    );
}

impl Act {
    /// A debug line about it; one that is pingora's will be decided anew.
    pub(super) fn tell(&self, session: &ServerSession, exchange: &Exchange) {
        match self {
            Self::Refuse(refusal) => tell(refusal, session, exchange),
            Self::Own(_, reason) => tell(reason.as_str(), session, exchange),
            Self::File { .. } => tell("file", session, exchange),
            Self::App(ForApp { plain: true, .. }) => tell_app(session, exchange),
            Self::App(_) => {}
        }
    }
}

impl Gateway {
    /// Checks and decides; what must be answered here comes back as an [`Act`].
    pub(super) fn decide(&self, session: &ServerSession, exchange: &mut Exchange) -> Act {
        let site = Arc::clone(&exchange.site);
        let request = session.req_header();
        let peer = session.client_addr().and_then(|address| address.as_inet()).copied();
        exchange.client = trust::client(peer, &request.headers, &site.trusted);
        exchange.ids = Ids::of(&request.headers);
        let head = strict::check(
            &request.method,
            request.version,
            request.raw_path(),
            &request.uri,
            &request.headers,
            site.max_request_body,
        );
        let lost_length = || strict::has_lost_length(&request.headers, || session.to_h1_raw());
        if door::of(session).is_some_and(door::Visitor::has_odd_line) {
            return Act::Refuse(Refusal::Ambiguous("the request line holds a control character"));
        }
        let head = match head {
            Ok(head) if head.plain || !lost_length() => head,
            Ok(_) => {
                return Act::Refuse(Refusal::Ambiguous(
                    "both Content-Length and Transfer-Encoding are given",
                ));
            }
            Err(refusal) => return Act::Refuse(refusal),
        };
        let target = match head.asked {
            Asked::Resource(target) => target,
            Asked::Server => return Act::Own(Own::Options, Reason::ServerOptions),
        };
        let facts = Facts { https: exchange.client.https, path: target.path.as_bytes(), query: target.query };
        let mut look = |_: usize, path: &str| match site.files.look(path) {
            Ok(entry) => Look::Found(entry),
            Err(Absent::Forbidden) => Look::Forbidden,
            Err(Absent::Unknown) => Look::Unknown,
            Err(Absent::Missing(rule)) => Look::Missing(rule),
        };
        let scheme = if exchange.client.https { "https" } else { "http" };
        match site.map.decide(&facts, &mut look) {
            Decision::Health => {
                let ready = !self.shared.current.has_workers() || self.shared.pool.ready() > 0;
                Act::Own(Own::Health { ready }, Reason::Health)
            }
            Decision::App { handler, .. } if !self.shared.current.has_workers() => {
                self.refuse(exchange, &site, 404, handler, Why::NoHandler)
            }
            Decision::App { handler, script } => {
                exchange.handler = handler;
                exchange.origin = Origin::App;
                let known = handler
                    .and_then(|handler| site.desks.get(handler))
                    .is_some_and(|desk| desk.script.is_some());
                if let (Some(script), false) = (script, known) {
                    exchange.script = HeaderValue::from_str(&script).ok();
                }
                Act::App(ForApp { rewrite: target.absolute.then(|| origin_form(target)), plain: head.plain })
            }
            Decision::File { handler, file, .. } => {
                exchange.handler = Some(handler);
                Act::File { handler, entry: file }
            }
            Decision::Redirect { handler, .. } if head.host.is_empty() => {
                exchange.handler = handler;
                Act::Refuse(Refusal::Ambiguous("a redirect needs a Host"))
            }
            Decision::Redirect { status, to, handler, why } => {
                exchange.handler = handler;
                let reason =
                    if matches!(why, Why::Secure) { Reason::SecureRedirect } else { Reason::PathRedirect };
                Act::Own(Own::Redirect { status, location: to.url(scheme, head.host) }, reason)
            }
            Decision::Refuse { status, handler, why } => self.refuse(exchange, &site, status, handler, why),
        }
    }

    fn refuse(
        &self,
        exchange: &mut Exchange,
        site: &Site,
        status: u16,
        handler: Option<usize>,
        why: Why,
    ) -> Act {
        exchange.handler = handler;
        let desk = handler.and_then(|handler| site.desks.get(handler));
        let reason = match why {
            Why::NoHandler => Reason::NoHandler,
            Why::Login | Why::Reading => Reason::LoginBlocked,
            Why::Reserved => Reason::Reserved,
            Why::BadPath => Reason::BadRequest,
            Why::Dots | Why::Secure => Reason::PathRedirect,
            Why::Missing(_) => Reason::FileMissing,
            Why::Forbidden => Reason::FileForbidden,
            Why::Unknown => Reason::FileUnavailable,
            Why::Overrun => Reason::MatchLimit,
        };
        if let Some(desk) = desk {
            if let Some(blocked) = &desk.login_blocked {
                blocked.inc();
                exchange.login = handler.map(|handler| site.map.handlers()[handler].login.as_str());
            }
            if status < 500
                && let Some(counter) = desk.static_results.get(StaticResult::of(status) as usize)
            {
                counter.inc();
            }
        }
        let page = (status >= 500).then_some(ErrorCode::Default);
        Act::Own(Own::Error { status, page, retry: status == 503 }, reason)
    }
}

fn origin_form(target: strict::Target<'_>) -> String {
    match target.query {
        Some(query) => format!("{}?{query}", target.path),
        None => target.path.to_owned(),
    }
}
