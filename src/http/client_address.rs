//! Whose request it is: the peer's address, or what a proxy that the operator trusts says of it
//! (`CONNECTOR_TRUSTED_PROXIES`). Nothing else in a header is believed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Once;

use ipnet::IpNet;
use poem::http::header::FORWARDED;
use poem::http::{HeaderMap, HeaderName};

use crate::domain::subscriber::is_here;
pub(super) use crate::domain::subscriber::network_of;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who sends a request, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// The address that limits and logs go by.
    pub(super) address: IpAddr,
    /// Whether it is a program on this machine that talks to us directly. What any proxy has touched never is, whatever
    /// its headers say.
    pub(super) here: bool,
}

impl Client {
    /// Reads the chain of hops from our end; the first address that is not a trusted proxy's is the client's. A hop that
    /// cannot be read ends the chain. Where there are both headers, `X-Forwarded-For` counts: proxies that set neither
    /// delete neither, and it is the one that they set.
    pub(super) fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        let here = is_here(peer) && !came_through_proxy(headers);
        Self { address: client_address(peer, headers, trusted), here }
    }
}

fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(&peer) {
        return peer;
    }
    let mut hops = elements(headers, X_FORWARDED_FOR);
    if hops.is_empty() {
        hops = elements(headers, FORWARDED).into_iter().map(for_parameter).collect();
    }
    let mut nearest = peer;
    for hop in hops.iter().rev() {
        let Some(address) = hop_address(hop) else { break };
        nearest = address;
        if !is_trusted(&address) {
            break;
        }
    }
    nearest
}

/// Says once that there may be a proxy that nobody told us of: all its clients would share one address, and its limits.
pub(super) fn warn_of_unlisted_proxy(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) {
    static SAID: Once = Once::new();
    if is_unlisted_proxy(peer.to_canonical(), headers, trusted) {
        SAID.call_once(|| {
            tracing::warn!(
                peer = network_of(peer),
                "X-Forwarded-For or Forwarded came from an address that is not in CONNECTOR_TRUSTED_PROXIES and does not \
                 count: if that is your proxy, name it there, or all who come through it have one address and one limit"
            );
        });
    }
}

fn is_unlisted_proxy(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> bool {
    let is_told = headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(FORWARDED);
    is_told && !trusted.iter().any(|network| network.contains(&peer))
}

/// Whether there is any sign of a proxy.
pub(super) fn came_through_proxy(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        name == "forwarded" || name == "via" || name.starts_with("x-forwarded-") || name == "x-real-ip"
    })
}

/// All elements of a list, in the order of the hops. One that is no text spoils no other.
fn elements(headers: &HeaderMap, name: HeaderName) -> Vec<&[u8]> {
    let values = headers.get_all(name).iter();
    values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).collect()
}

/// What `Forwarded` (RFC 7239) says of whom a proxy was asked by: nothing, where it does not say.
fn for_parameter(element: &[u8]) -> &[u8] {
    let pairs = element.split(|byte| *byte == b';');
    let mut pairs = pairs.filter_map(|pair| {
        let (name, value) = pair.split_at_checked(pair.iter().position(|byte| *byte == b'=')?)?;
        name.trim_ascii().eq_ignore_ascii_case(b"for").then(|| value.strip_prefix(b"=").unwrap_or(value))
    });
    pairs.next().unwrap_or_default()
}

/// `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]:80`, `2001:db8::1`, any of them quoted.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?.trim().trim_matches('"');
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address =
        bare.parse::<IpAddr>().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use poem::http::{HeaderName, HeaderValue};

    use super::*;

    fn whole(peer: &str, headers: &[(&'static str, &[u8])], trusted: &[&str]) -> (String, bool) {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap()));
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.append(name, value);
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let Client { address, here } = Client::of(peer.parse().unwrap(), &all, &trusted);
        (address.to_string(), here)
    }

    fn client(peer: &str, headers: &[(&'static str, &str)], trusted: &[&str]) -> String {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        whole(peer, &headers, trusted).0
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let claim = [("x-forwarded-for", "203.0.113.7")];
        assert_eq!(client("198.51.100.1", &claim, &[]), "198.51.100.1");
        assert_eq!(client("198.51.100.1", &claim, &["10.0.0.0/8"]), "198.51.100.1");
        assert_eq!(client("10.1.2.3", &claim, &["10.0.0.0/8"]), "203.0.113.7");
        assert_eq!(client("::ffff:10.1.2.3", &claim, &["10.0.0.0/8"]), "203.0.113.7");
        assert_eq!(client("10.1.2.3", &[], &["10.0.0.0/8"]), "10.1.2.3");
    }

    #[test]
    fn the_chain_is_read_from_our_end_so_that_a_client_cannot_prepend_to_it() {
        let trusted = ["10.0.0.0/8"];
        let forged = [("x-forwarded-for", "1.1.1.1, 203.0.113.7, 10.9.9.9")];
        assert_eq!(client("10.1.2.3", &forged, &trusted), "203.0.113.7");
        let garbage = [("x-forwarded-for", "203.0.113.7, unknown")];
        assert_eq!(client("10.1.2.3", &garbage, &trusted), "10.1.2.3");
        let all_ours = [("x-forwarded-for", "10.0.0.5")];
        assert_eq!(client("10.1.2.3", &all_ours, &trusted), "10.0.0.5");
    }

    #[test]
    fn a_log_tells_the_network_and_not_the_person() {
        for (address, network) in [
            ("81.2.69.142", "81.2.69.0/24"),
            ("::ffff:81.2.69.142", "81.2.69.0/24"),
            ("2001:db8:1:2::3", "2001:db8:1::/48"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
        ] {
            assert_eq!(network_of(address.parse().unwrap()), network);
        }
    }

    #[test]
    fn forwarded_is_understood_and_counts_where_there_is_nothing_else() {
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        let standard = [("forwarded", "for=\"[2001:db8::1]:4711\";proto=https, for=10.0.0.9")];
        assert_eq!(client("10.1.2.3", &standard, &trusted), "2001:db8::1");
        assert_eq!(client("fd00::1", &[("forwarded", "proto=http;For=192.0.2.43")], &trusted), "192.0.2.43");
        let both = [("forwarded", "for=192.0.2.43"), ("x-forwarded-for", "192.0.2.44")];
        assert_eq!(client("10.1.2.3", &both, &trusted), "192.0.2.44");
        let untold = [("forwarded", "for=192.0.2.43, proto=https")];
        assert_eq!(client("10.1.2.3", &untold, &trusted), "10.1.2.3", "a hop that nobody knows");
        let agreeing = [("forwarded", "for=192.0.2.43"), ("x-forwarded-for", "192.0.2.43:555")];
        assert_eq!(client("10.1.2.3", &agreeing, &trusted), "192.0.2.43");
    }

    #[test]
    fn a_proxy_that_is_not_named_is_noticed() {
        let told =
            HeaderMap::from_iter([(HeaderName::from_static("forwarded"), HeaderValue::from_static(""))]);
        let (peer, other) = ("10.1.2.3".parse().unwrap(), "127.0.0.1".parse().unwrap());
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        assert!(is_unlisted_proxy(peer, &told, &[]) && is_unlisted_proxy(other, &told, &trusted));
        assert!(
            !is_unlisted_proxy(peer, &told, &trusted) && !is_unlisted_proxy(peer, &HeaderMap::new(), &[])
        );
    }

    #[test]
    fn behind_a_proxy_on_this_machine_nobody_makes_themselves_this_machine() {
        let trusted = ["127.0.0.0/8", "::1/128"];
        let from = |headers: &[(&'static str, &[u8])]| whole("127.0.0.1", headers, &trusted);
        let proxy: (&'static str, &[u8]) = ("x-forwarded-for", b"203.0.113.7");
        let theirs = ("203.0.113.7".to_owned(), false);
        assert_eq!(from(&[proxy]), theirs);
        assert_eq!(from(&[("forwarded", b"for=1.2.3.4"), proxy]), theirs, "the chains disagree");
        assert_eq!(from(&[("x-forwarded-for", b"\xff, 203.0.113.7")]), theirs, "no text, and the proxy's");
        assert_eq!(from(&[("x-forwarded-for", b"\xff"), proxy]), theirs, "in a line of its own");
        assert_eq!(from(&[("x-forwarded-for", b"127.0.0.1, 203.0.113.7")]), theirs);
        for header in ["x-forwarded-for", "forwarded", "via", "x-forwarded-proto", "x-real-ip"] {
            for value in [&b"\xff"[..], b"", b"unknown", b"127.0.0.1", b"for=127.0.0.1"] {
                assert!(!from(&[(header, value)]).1, "{header}: {value:?}");
                assert!(!whole("127.0.0.1", &[(header, value)], &[]).1, "{header}: {value:?}");
            }
        }
        assert_eq!(from(&[]), ("127.0.0.1".to_owned(), true));
        assert_eq!(whole("::ffff:127.0.0.1", &[], &[]), ("127.0.0.1".to_owned(), true));
        assert!(!whole("10.1.2.3", &[], &["10.0.0.0/8"]).1);
    }
}
