//! Whose address it is, as far as limits go: an address of IPv4, and of IPv6 the /64 that one subscriber has; and how much of
//! it a log may tell.

use std::net::IpAddr;
use std::net::Ipv6Addr;

/// What one subscriber has one of.
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(network).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// Whether it is this machine's own.
pub const fn is_here(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// As much of an address as says where trouble comes from and not who it is: an IPv4 /24, an IPv6 /48; this machine's own
/// whole.
pub fn network_of(address: IpAddr) -> String {
    match address.to_canonical() {
        address if address.is_loopback() => address.to_string(),
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{}/48", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}
