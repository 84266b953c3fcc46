//! Whose address it is, as far as limits go: an address of IPv4, and of IPv6 the /64 that one subscriber has.

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
