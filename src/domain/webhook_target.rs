//! Where a webhook may go: which URLs a project may name, and which addresses may be connected to. Rules only: names are
//! resolved, and the addresses behind them checked again, in `webhooks/client.rs`.
//!
//! Two doors. Everybody's targets are `https` and public. The operator may open networks with `CONNECTOR_WEBHOOK_ALLOW`:
//! those may be private, and `http`. What is not clearly public is refused, not the other way round.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use ipnet::IpNet;
use ipnet::Ipv4Net;
use ipnet::Ipv6Net;
use thiserror::Error;
use url::Host;
use url::Url;

/// The longest URL that is taken, in bytes.
pub const LONGEST_URL: usize = 2048;

/// A URL that a project's webhooks may be sent to, as far as the URL alone can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookTarget(Url);

impl WebhookTarget {
    /// Reads what a developer wrote. `allow` is `CONNECTOR_WEBHOOK_ALLOW`.
    ///
    /// # Errors
    /// When no delivery to it could ever be allowed, or when it is written so that two programs could read two different
    /// hosts in it.
    pub fn parse(text: &str, allow: &[IpNet]) -> Result<Self, BadTarget> {
        if text.len() > LONGEST_URL {
            return Err(BadTarget::TooLong);
        }
        // The parser drops tabs and line ends, and takes `\` for `/`, as browsers do.
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(BadTarget::NotAUrl);
        }
        let (scheme, rest) = text.split_once(':').ok_or(BadTarget::Scheme)?;
        if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
            return Err(BadTarget::Scheme);
        }
        // `https:example.com` and `https:////example.com` are URLs to the parser, and something else to others.
        let rest = rest.strip_prefix("//").ok_or(BadTarget::NotAUrl)?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(BadTarget::Credentials);
        }
        if authority.is_empty() {
            return Err(BadTarget::NotAUrl);
        }
        let url = Url::parse(text).map_err(|_| BadTarget::NotAUrl)?;
        check(&url, allow)?;
        Ok(Self(url))
    }

    /// The URL, its host in the one notation that is left: a lower-case ASCII name, or an address.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Why a webhook cannot go there. The texts are for the developer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadTarget {
    /// Not a URL, or not one that everybody reads alike.
    #[error("the webhook URL is not a valid URL")]
    NotAUrl,
    /// More than [`LONGEST_URL`] bytes.
    #[error("the webhook URL is longer than {LONGEST_URL} bytes")]
    TooLong,
    /// Neither `https` nor `http`.
    #[error("the webhook URL must begin with https://")]
    Scheme,
    /// `http`, and not to a network of the allow list.
    #[error(
        "the webhook URL must begin with https://: http is only for the networks in CONNECTOR_WEBHOOK_ALLOW"
    )]
    PlainHttp,
    /// A user name or password.
    #[error("the webhook URL must not contain a user name or a password")]
    Credentials,
    /// A `#…`, which is never sent.
    #[error("the webhook URL must not contain a fragment (#…): it would not be sent")]
    Fragment,
    /// A host that is no name and no address.
    #[error("the webhook URL has no valid host name")]
    HostName,
    /// A port where something other than HTTP listens.
    #[error("webhooks are not sent to port {0}")]
    Port(u16),
    /// A name that only means something inside somebody's network.
    #[error("{0} is not a public name, and CONNECTOR_WEBHOOK_ALLOW does not permit any private network")]
    LocalName(String),
    /// The URL holds an address that is not public.
    #[error("{0} is not a public address, and CONNECTOR_WEBHOOK_ALLOW does not permit it")]
    NotPublic(IpAddr),
    /// The name leads to an address that is not public.
    #[error(
        "{name} does not lead to a public address, and CONNECTOR_WEBHOOK_ALLOW does not permit where it leads"
    )]
    LeadsTo {
        /// The host of the URL.
        name: String,
        /// What it resolved to. Not told: the operator's name servers may know more than the developer.
        address: IpAddr,
    },
    /// The name of an `http` URL leads out of the allow list.
    #[error(
        "{name} does not lead to the networks in CONNECTOR_WEBHOOK_ALLOW, and http is only for these: use https"
    )]
    PlainHttpLeadsTo {
        /// The host of the URL.
        name: String,
        /// What it resolved to. Not told, as above.
        address: IpAddr,
    },
}

/// Checks a parsed URL. Asked again before each delivery, because the allow list may have changed since.
///
/// # Errors
/// As [`WebhookTarget::parse`].
pub fn check(url: &Url, allow: &[IpNet]) -> Result<(), BadTarget> {
    let plain = match url.scheme() {
        "https" => false,
        "http" => true,
        _ => return Err(BadTarget::Scheme),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadTarget::Credentials);
    }
    if url.fragment().is_some() {
        return Err(BadTarget::Fragment);
    }
    if let Some(port) = url.port().filter(|port| NOT_HTTP.contains(port)) {
        return Err(BadTarget::Port(port));
    }
    match url.host() {
        None => Err(BadTarget::HostName),
        Some(Host::Domain(name)) => check_name(name, plain, allow),
        Some(Host::Ipv4(address)) => check_literal(address.into(), plain, allow),
        Some(Host::Ipv6(address)) => check_literal(address.into(), plain, allow),
    }
}

/// Checks one of the addresses that the URL's host name resolved to, right before connecting to it.
///
/// # Errors
/// When it must not be connected to.
pub fn check_address(url: &Url, address: IpAddr, allow: &[IpNet]) -> Result<(), BadTarget> {
    let plain = url.scheme() != "https";
    if may_reach(address, plain, allow) {
        return Ok(());
    }
    let name = url.host_str().unwrap_or_default().to_owned();
    Err(if plain {
        BadTarget::PlainHttpLeadsTo { name, address }
    } else {
        BadTarget::LeadsTo { name, address }
    })
}

fn may_reach(address: IpAddr, plain: bool, allow: &[IpNet]) -> bool {
    // An IPv4 address in IPv6 notation reaches the IPv4 address, so the IPv4 networks decide.
    let address = address.to_canonical();
    allow.iter().any(|network| network.contains(&address)) || (!plain && is_public(address))
}

fn check_literal(address: IpAddr, plain: bool, allow: &[IpNet]) -> Result<(), BadTarget> {
    if may_reach(address, plain, allow) {
        Ok(())
    } else if plain {
        Err(BadTarget::PlainHttp)
    } else {
        Err(BadTarget::NotPublic(address))
    }
}

/// Endings that no public name has: RFC 6761, 6762, 8375, ICANN's reservation of `internal`, and what people use.
/// The single-label names are on top of these. `test`, `example` and `invalid` merely never resolve.
const LOCAL_ENDINGS: [&str; 10] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "home.arpa",
];

fn check_name(name: &str, plain: bool, allow: &[IpNet]) -> Result<(), BadTarget> {
    if plain && allow.is_empty() {
        return Err(BadTarget::PlainHttp);
    }
    // A final dot leaves an empty label: such a name is another name to a certificate and to a `Host` header.
    let well_formed = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if name.len() > 253 || !name.split('.').all(well_formed) {
        return Err(BadTarget::HostName);
    }
    let ends_in = |ending: &str| {
        name.strip_suffix(ending).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    if allow.is_empty() && (!name.contains('.') || LOCAL_ENDINGS.into_iter().any(ends_in)) {
        return Err(BadTarget::LocalName(name.to_owned()));
    }
    Ok(())
}

/// Ports where something listens that could take a request for its own language: the "bad ports" of the Fetch standard
/// (fetch.spec.whatwg.org, section 2.9), which begin with 0.
const NOT_HTTP: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// What of IPv4 is not for everybody: IANA's special-purpose registry, multicast, and the rest of class E.
const NOT_PUBLIC_V4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 8),
    v4(10, 0, 0, 8),
    v4(100, 64, 0, 10),
    v4(127, 0, 0, 8),
    // Link-local, and the metadata services of the clouds.
    v4(169, 254, 0, 16),
    v4(172, 16, 0, 12),
    v4(192, 0, 0, 24),
    v4(192, 0, 2, 24),
    v4(192, 88, 99, 24),
    v4(192, 168, 0, 16),
    v4(198, 18, 0, 15),
    v4(198, 51, 100, 24),
    v4(203, 0, 113, 24),
    v4(224, 0, 0, 4),
    v4(240, 0, 0, 4),
];

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

/// All that is given out of IPv6.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// What of [`GLOBAL_V6`] is not for everybody. The first holds Teredo and the third is 6to4: both hide an IPv4 address
/// and are out of use.
const NOT_PUBLIC_V6: [Ipv6Net; 4] =
    [v6(0x2001, 0, 0, 23), v6(0x2001, 0xdb8, 0, 32), v6(0x2002, 0, 0, 16), v6(0x3fff, 0, 0, 20)];

/// The well-known prefix of NAT64 (RFC 6052): in a network without IPv4 every IPv4 host has its address here.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// Whether an address belongs to the public internet: global unicast, and not set aside for anything.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) if NAT64.contains(&address) => {
            let [.., a, b, c, d] = address.octets();
            is_public(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !NOT_PUBLIC_V6.iter().any(|network| network.contains(&address))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|network| network.parse().unwrap()).collect()
    }

    #[test]
    fn ordinary_targets_pass() {
        for text in [
            "https://example.com/hook",
            "https://example.com",
            "HTTPS://Example.COM:8443/a/b?c=d&e=%20f",
            "https://hooks.my_app.example.co.uk/",
            "https://bücher.example/hook",
            "https://93.184.215.14/hook",
            "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/hook",
            // A public host as a network without IPv4 sees it.
            "https://[64:ff9b::5db8:d70e]/",
            "https://[::ffff:93.184.215.14]/",
        ] {
            let target = WebhookTarget::parse(text, &[]);
            assert!(target.is_ok(), "{text}: {target:?}");
        }
        let target = WebhookTarget::parse("https://Bücher.example/hook", &[]).unwrap();
        assert_eq!(target.as_str(), "https://xn--bcher-kva.example/hook");
        // Endings are whole labels.
        for name in ["thelocalhost.com", "mylocal.example", "notinternal.com", "atcorp.dev", "my-home.net"] {
            assert!(WebhookTarget::parse(&format!("https://{name}/"), &[]).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_refusal_says_why_and_how_to_permit_it() {
        let refusal = |text: &str, allow: &[IpNet]| WebhookTarget::parse(text, allow).unwrap_err();
        let allow = networks(&["10.0.0.0/8", "fd00::/8"]);
        assert_eq!(refusal("ftp://example.com/", &[]), BadTarget::Scheme);
        assert_eq!(refusal("example.com/hook", &[]), BadTarget::Scheme);
        assert_eq!(refusal("http://example.com/", &[]), BadTarget::PlainHttp);
        assert_eq!(refusal("http://93.184.215.14/", &allow), BadTarget::PlainHttp);
        assert_eq!(refusal("https:example.com", &[]), BadTarget::NotAUrl);
        assert_eq!(refusal("https:///example.com", &[]), BadTarget::NotAUrl);
        assert_eq!(refusal("https://user@example.com/", &[]), BadTarget::Credentials);
        assert_eq!(refusal("https://:pw@example.com/", &[]), BadTarget::Credentials);
        assert_eq!(refusal("https://@example.com/", &[]), BadTarget::Credentials);
        assert_eq!(refusal("https://example.com\\@10.0.0.1/", &[]), BadTarget::NotAUrl);
        assert_eq!(refusal("https://exam\tple.com/", &[]), BadTarget::NotAUrl);
        assert_eq!(refusal(" https://example.com/", &[]), BadTarget::NotAUrl);
        assert_eq!(refusal("https://example.com/#a", &[]), BadTarget::Fragment);
        assert_eq!(refusal("https://example.com:25/", &[]), BadTarget::Port(25));
        assert_eq!(refusal("https://10.0.0.1:0/", &allow), BadTarget::Port(0));
        for malformed in ["a..example.com", "example.com.", "-a.example.com", "a*.example.com"] {
            assert_eq!(refusal(&format!("https://{malformed}/"), &allow), BadTarget::HostName, "{malformed}");
        }
        let long = format!("https://example.com/{}", "a".repeat(LONGEST_URL));
        assert_eq!(refusal(&long, &[]), BadTarget::TooLong);
        for text in ["https://127.0.0.1/", "https://localhost/", "http://10.1.1.1/", "https://[::1]/"] {
            let told = refusal(text, &[]).to_string();
            assert!(told.contains("CONNECTOR_WEBHOOK_ALLOW"), "{text}: {told}");
        }
        let url = Url::parse("https://hook.example/").unwrap();
        // Not the address: only the operator's name servers may know it.
        let told = check_address(&url, "10.0.0.1".parse().unwrap(), &[]).unwrap_err().to_string();
        assert_eq!(
            told,
            "hook.example does not lead to a public address, and CONNECTOR_WEBHOOK_ALLOW does not permit where it leads"
        );
    }

    #[test]
    fn the_allow_list_opens_networks_and_http_to_them_and_nothing_else() {
        let allow = networks(&["10.0.0.0/8", "fd00::/8"]);
        for text in [
            "http://10.1.2.3:8080/hook",
            "https://10.1.2.3/hook",
            "http://[fd00::1]/",
            "http://[::ffff:10.0.0.1]/",
            // Names: their addresses are checked when they are known.
            "http://app:8080/hook",
            "https://app.internal/hook",
            "http://localhost:3000/",
        ] {
            assert!(WebhookTarget::parse(text, &allow).is_ok(), "{text}");
        }
        for text in ["https://127.0.0.1/", "http://127.0.0.1/", "https://[fe80::1]/", "https://[::a00:1]/"] {
            assert!(WebhookTarget::parse(text, &allow).is_err(), "{text}");
        }
        let (http, https) =
            (Url::parse("http://app.example/").unwrap(), Url::parse("https://app.example/").unwrap());
        let reach = |url: &Url, address: &str| check_address(url, address.parse().unwrap(), &allow);
        assert!(reach(&http, "10.9.9.9").is_ok() && reach(&https, "10.9.9.9").is_ok());
        assert!(reach(&https, "93.184.215.14").is_ok() && reach(&https, "127.0.0.1").is_err());
        let told = reach(&http, "93.184.215.14").unwrap_err().to_string();
        assert!(told.contains("CONNECTOR_WEBHOOK_ALLOW"), "{told}");
        // All of IPv6 is not all of IPv4 in IPv6 notation.
        assert!(WebhookTarget::parse("https://[::ffff:127.0.0.1]/", &networks(&["::/0"])).is_err());
    }

    #[test]
    fn only_the_public_internet_is_public() {
        let edges = [
            ("1.0.0.0", true),
            ("0.255.255.255", false),
            ("9.255.255.255", true),
            ("11.0.0.0", true),
            ("100.63.255.255", true),
            ("100.64.0.0", false),
            ("100.127.255.255", false),
            ("100.128.0.0", true),
            ("126.255.255.255", true),
            ("128.0.0.0", true),
            ("169.253.255.255", true),
            ("169.254.169.254", false),
            ("172.15.255.255", true),
            ("172.31.255.255", false),
            ("172.32.0.0", true),
            ("192.0.0.8", false),
            ("192.0.1.0", true),
            ("192.88.99.1", false),
            ("198.17.255.255", true),
            ("198.19.255.255", false),
            ("223.255.255.255", true),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::8.8.8.8", false),
            ("::ffff:8.8.8.8", true),
            ("::ffff:127.0.0.1", false),
            ("::ffff:0:8.8.8.8", false),
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b::169.254.169.254", false),
            ("64:ff9b:1::8.8.8.8", false),
            ("100::1", false),
            ("1fff:ffff::1", false),
            ("2000::1", true),
            ("2001::1", false),
            ("2001:1ff:ffff::1", false),
            ("2001:200::1", true),
            ("2001:db8::1", false),
            ("2002:808:808::1", false),
            ("2003::1", true),
            ("3ffe::1", true),
            ("3fff:fff::1", false),
            ("3fff:1000::1", true),
            ("4000::1", false),
            ("5f00::1", false),
            ("fc00::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ];
        for (address, public) in edges {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    proptest! {
        #[test]
        fn what_the_standard_library_calls_private_is_not_public(bits: u32) {
            let address = Ipv4Addr::from(bits);
            let private = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_documentation()
                || address.is_unspecified();
            prop_assert!(!private || !is_public(address.into()));
            prop_assert_eq!(is_public(address.to_ipv6_mapped().into()), is_public(address.into()));
            prop_assert!(!is_public(address.to_ipv6_compatible().into()));
        }

        #[test]
        fn what_is_in_the_allow_list_passes_in_each_notation(bits: u32, prefix in 0_u8..=32, host: u32) {
            let network = Ipv4Net::new(Ipv4Addr::from(bits), prefix).unwrap().trunc();
            let address = Ipv4Addr::from(u32::from(network.network()) | (host & u32::from(network.hostmask())));
            let number = u32::from(address);
            let allow = [IpNet::V4(network)];
            for host in [
                address.to_string(), number.to_string(), format!("{number:#x}"), format!("0{number:o}"),
                format!("[{}]", address.to_ipv6_mapped()),
            ] {
                for scheme in ["http", "https"] {
                    let text = format!("{scheme}://{host}/hook");
                    prop_assert!(WebhookTarget::parse(&text, &allow).is_ok(), "{}", text);
                    // And what is not in it passes only where it is public, and only by https.
                    let passes = scheme == "https" && is_public(address.into());
                    prop_assert_eq!(WebhookTarget::parse(&text, &[]).is_ok(), passes, "{}", text);
                }
            }
        }

        #[test]
        fn what_passes_once_passes_again_as_it_was_normalised(text in "https?://[a-z0-9.:@\\[\\]%#/-]{1,24}") {
            if let Ok(target) = WebhookTarget::parse(&text, &[]) {
                prop_assert_eq!(WebhookTarget::parse(target.as_str(), &[]), Ok(target));
            }
        }
    }
}
