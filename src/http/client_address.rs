//! Whose request it is: the peer's address, or what a proxy that the operator trusts says of it
//! (`CONNECTOR_TRUSTED_PROXIES`). Nothing else in a header is believed.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use poem::http::HeaderMap;

pub(super) use crate::domain::subscriber::network_of;

/// The client's address. The chain is read from our end; the first address that is not a trusted proxy's is the client.
/// When `X-Forwarded-For` and `Forwarded` (RFC 7239) disagree, one of them is the client's own invention: neither
/// counts.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.to_canonical();
    if !is_trusted(&peer) {
        return peer;
    }
    let client = |chain: Vec<&str>| {
        let mut nearest = peer;
        for hop in chain.iter().rev() {
            let Some(address) = hop_address(hop) else { break };
            nearest = address;
            if !is_trusted(&address) {
                break;
            }
        }
        nearest
    };
    let chains = [forwarded_for(headers), forwarded(headers)];
    let mut clients = chains.into_iter().filter(|chain| !chain.is_empty()).map(client);
    match (clients.next(), clients.next()) {
        (Some(one), Some(two)) if one != two => peer,
        (Some(one), _) => one,
        (None, _) => peer,
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect()
}

fn forwarded_for(headers: &HeaderMap) -> Vec<&str> {
    values(headers, "x-forwarded-for")
}

fn forwarded(headers: &HeaderMap) -> Vec<&str> {
    let for_parameter = |element: &&str| element.split(';').any(is_for);
    let elements = values(headers, "forwarded").into_iter().filter(for_parameter);
    elements
        .filter_map(|element| {
            element.split(';').find(|pair| is_for(pair))?.split_once('=').map(|(_, hop)| hop)
        })
        .collect()
}

fn is_for(pair: &str) -> bool {
    pair.split_once('=').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("for"))
}

/// `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]:80`, `2001:db8::1`, any of them quoted.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim().trim_matches('"');
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address =
        bare.parse::<IpAddr>().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderName;

    use super::*;

    fn client(peer: &str, headers: &[(&'static str, &str)], trusted: &[&str]) -> String {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), &headers.collect(), &trusted).to_string()
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
    fn forwarded_is_understood_and_a_disagreement_counts_for_nothing() {
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        let standard = [("forwarded", "for=\"[2001:db8::1]:4711\";proto=https, for=10.0.0.9")];
        assert_eq!(client("10.1.2.3", &standard, &trusted), "2001:db8::1");
        assert_eq!(client("fd00::1", &[("forwarded", "proto=http;For=192.0.2.43")], &trusted), "192.0.2.43");
        let both = [("forwarded", "for=192.0.2.43"), ("x-forwarded-for", "192.0.2.44")];
        assert_eq!(client("10.1.2.3", &both, &trusted), "10.1.2.3");
        let agreeing = [("forwarded", "for=192.0.2.43"), ("x-forwarded-for", "192.0.2.43:555")];
        assert_eq!(client("10.1.2.3", &agreeing, &trusted), "192.0.2.43");
    }
}
