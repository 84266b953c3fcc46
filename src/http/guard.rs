//! Who may call: the operator. With a token, the one who holds it; without one, programs on this machine that talk to
//! us directly, never a page from elsewhere and never anything that came through a proxy (contract, section 2).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use poem::http::HeaderMap;
use poem::http::header;
use poem::{Request, RequestBody};
use poem_openapi::registry::Registry;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::caller::bearer;
use super::caller::client_address;
use super::caller::register_bearer;
use super::client_address::came_through_proxy;
use super::error::ApiError;
use crate::audit;
use crate::audit::Audit;
use crate::audit::Who;
use crate::domain::clock::Clock;
use crate::domain::ids::Secret;
use crate::flows::slowing::Slowing;

const SCHEME: &str = "operator";
/// From this length on, bytes, a token cannot be guessed, however quickly somebody asks.
const UNGUESSABLE: usize = 16;

/// What the guard goes by.
#[derive(Clone)]
pub(crate) struct OperatorPolicy {
    /// `CONNECTOR_ADMIN_TOKEN`.
    token: Option<Secret<String>>,
    /// Whether listener and public URL are both loopback.
    loopback: bool,
    /// How often others have guessed.
    slowing: Arc<Slowing>,
    /// How often others have asked without a token to guess: that fills no log.
    asked: Arc<Slowing>,
    /// When it is.
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for OperatorPolicy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OperatorPolicy").field("loopback", &self.loopback).finish_non_exhaustive()
    }
}

impl OperatorPolicy {
    /// Nobody has tried yet.
    pub(crate) fn new(token: Option<Secret<String>>, loopback: bool, clock: Arc<dyn Clock>) -> Self {
        Self { token, loopback, slowing: Arc::default(), asked: Arc::default(), clock }
    }

    /// Lets the operator in. Who guesses waits longer and longer, and fills no log. The right token waits only where it is
    /// short and has not been seen from that address: a neighbour's guesses must not keep the operator out.
    fn try_as_operator(&self, headers: &HeaderMap, from: Option<IpAddr>) -> Result<(), ApiError> {
        let (now, place) = (self.clock.now(), from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let admitted = self.admits(headers);
        let guessable = self.token.as_ref().map(|token| token.reveal().len() < UNGUESSABLE);
        match (admitted, guessable) {
            (Ok(()), None | Some(false)) => Ok(()),
            (Ok(()), Some(true)) => {
                let attempt = self.slowing.operator(place, now).map_err(ApiError::rate_limited)?;
                self.slowing.succeeded(attempt, now);
                Ok(())
            }
            (Err(why), Some(_)) if bearer(headers).is_some() => {
                self.slowing.not_operator(place, now).map_err(ApiError::rate_limited)?;
                audit::record(&Who::Stranger(from), &Audit::OperatorRefused { why });
                Err(ApiError::unauthorized(why))
            }
            // There was nothing to guess with, or nothing to guess.
            (Err(why), _) => {
                if self.asked.not_operator(place, now).is_ok() {
                    audit::record(&Who::Stranger(from), &Audit::OperatorRefused { why });
                }
                Err(ApiError::unauthorized(why))
            }
        }
    }

    /// Whether a request with these headers is the operator's.
    fn admits(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let Some(token) = &self.token else {
            return self.admits_without_token(headers);
        };
        let Some(presented) = bearer(headers) else {
            return Err("send Authorization: Bearer <CONNECTOR_ADMIN_TOKEN>");
        };
        if token.is(presented) { Ok(()) } else { Err("the operator's token is wrong") }
    }

    fn admits_without_token(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        if !self.loopback {
            return Err(
                "this service has no CONNECTOR_ADMIN_TOKEN, so only a loopback listener answers this",
            );
        }
        if came_through_proxy(headers) {
            return Err("set CONNECTOR_ADMIN_TOKEN to use this through a proxy");
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) else {
            return Err("send one Host header");
        };
        // A name that resolves to loopback is not enough: that is how DNS rebinding comes in.
        if !is_loopback_name(host) {
            return Err("set CONNECTOR_ADMIN_TOKEN to use this under another name than localhost");
        }
        if headers.contains_key(header::ORIGIN) {
            let origin = text(headers, header::ORIGIN.as_str()).unwrap_or_default();
            if !origin.strip_prefix("http://").is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
                return Err("a page from elsewhere may not call this");
            }
        }
        // Developers choose where our webhooks go, and may be allowed loopback.
        if headers.contains_key("webhook-id") {
            return Err("a webhook may not call this");
        }
        match headers.get("sec-fetch-site").map(header::HeaderValue::as_bytes) {
            None | Some(b"same-origin" | b"none") => Ok(()),
            Some(_) => Err("a page from elsewhere may not call this"),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => address,
            Some((address, port)) if port.strip_prefix(':').is_some_and(is_port) => address,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "::1"
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

/// Proof that the caller is the operator, and from where. As a handler's first argument it is demanded before the body is
/// read.
pub(super) struct Operator(Option<IpAddr>);

impl Operator {
    /// For the audit log.
    pub(super) const fn who(&self) -> Who {
        Who::Operator(self.0)
    }
}

impl<'a> ApiExtractor<'a> for Operator {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register_bearer(
            registry,
            SCHEME,
            "The value of CONNECTOR_ADMIN_TOKEN. Without one configured, nothing is needed on this machine.",
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    fn has_security_fallback() -> bool {
        true
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let policy = request.data::<Arc<OperatorPolicy>>();
        let from = client_address(request);
        let Some(policy) = policy else { return Err(ApiError::unauthorized("nobody may call this").into()) };
        policy.try_as_operator(request.headers(), from)?;
        Ok(Self(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::OffsetClock;

    fn guarded_by(token: Option<&str>, loopback: bool) -> OperatorPolicy {
        let token = token.map(|token| Secret::new(token.to_owned()));
        OperatorPolicy::new(token, loopback, Arc::new(OffsetClock::default()))
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn only_loopback_names_pass_for_loopback() {
        for host in ["localhost", "LOCALHOST:5000", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:5000"] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "localhost:5000.evil.example",
            "127.0.0.1.nip.io",
            "127.0.0.2",
            "[::1].evil.example",
            "[::2]",
            "",
            "localhost:",
        ] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }

    #[test]
    fn without_a_token_only_direct_callers_on_this_machine_pass() {
        let policy = guarded_by(None, true);
        let local = ("host", "localhost:5000");
        assert!(policy.admits(&headers(&[local])).is_ok());
        assert!(policy.admits(&headers(&[local, ("origin", "http://localhost:5000")])).is_ok());
        assert!(policy.admits(&headers(&[local, ("sec-fetch-site", "same-origin")])).is_ok());
        for hostile in [
            ("origin", "http://evil.example"),
            ("origin", "http://localhost:3000"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "1.2.3.4"),
            ("via", "1.1 proxy"),
            ("webhook-id", "msg_1"),
        ] {
            assert!(policy.admits(&headers(&[local, hostile])).is_err(), "{hostile:?}");
        }
        assert!(policy.admits(&headers(&[("host", "rebound.example:5000")])).is_err());
        assert!(policy.admits(&headers(&[])).is_err());
        assert!(guarded_by(None, false).admits(&headers(&[local])).is_err());
    }

    #[test]
    fn with_a_token_only_its_holder_passes_wherever_from() {
        let policy = guarded_by(Some("s3cret"), false);
        assert!(policy.admits(&headers(&[("authorization", "Bearer s3cret")])).is_ok());
        assert!(policy.admits(&headers(&[("authorization", "bearer s3cret"), ("via", "1.1 x")])).is_ok());
        for value in ["Bearer s3cre", "Bearer s3crets", "Bearer ", "Basic s3cret", "s3cret"] {
            assert!(policy.admits(&headers(&[("authorization", value)])).is_err(), "{value}");
        }
        assert!(policy.admits(&headers(&[("host", "localhost")])).is_err());
    }

    #[test]
    fn whatever_a_neighbour_asks_the_operator_gets_in() {
        let from: Option<IpAddr> = "203.0.113.7".parse().ok();
        let bearer = |token: &str| headers(&[("authorization", &format!("Bearer {token}"))]);
        for (token, is_known) in [("planted-and-so-long", false), ("short", true)] {
            let policy = guarded_by(Some(token), false);
            let comes = |token: &str| policy.try_as_operator(&bearer(token), from).is_ok();
            assert!(!is_known || comes(token));
            for _ in 0..200 {
                assert!(policy.try_as_operator(&headers(&[]), from).is_err() && !comes("guess"));
            }
            assert!(policy.slowing.not_operator(from.unwrap(), policy.clock.now()).is_err(), "guesses wait");
            assert!((0..200).all(|_| comes(token)), "{token}");
        }
        let policy = guarded_by(Some("short"), false);
        for _ in 0..200 {
            assert!(policy.try_as_operator(&headers(&[]), from).is_err());
        }
        assert!(policy.try_as_operator(&bearer("short"), from).is_ok(), "nobody has guessed");
    }
}
