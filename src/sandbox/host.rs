//! Which host a connection comes from. All clients of a sandbox usually share one machine, so the process that owns the
//! other end of a loopback connection stands in for a host; otherwise the IP address does.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// What is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Process(u32),
    Address(IpAddr),
    /// The other end is gone already, or this system does not tell: no host to accuse.
    Unknown,
}

impl Host {
    /// Whether two connections certainly come from different hosts.
    pub(crate) fn differs(self, other: Self) -> bool {
        self != other && self != Self::Unknown && other != Self::Unknown
    }
}

/// Finds the host behind a peer's address. Replaceable, because a test process is one host only.
#[derive(Clone)]
pub(crate) struct Hosts(Arc<dyn Fn(SocketAddr) -> Host + Send + Sync>);

impl Hosts {
    /// Finds hosts by `find`.
    #[cfg(test)]
    pub(crate) fn new(find: impl Fn(SocketAddr) -> Host + Send + Sync + 'static) -> Self {
        Self(Arc::new(find))
    }

    /// The host behind `peer`. Reads `/proc`, so not on a thread that must not block.
    pub(crate) fn find(&self, peer: SocketAddr) -> Host {
        (self.0)(peer)
    }
}

impl Default for Hosts {
    fn default() -> Self {
        Self(Arc::new(host_of))
    }
}

impl fmt::Debug for Hosts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hosts")
    }
}

fn host_of(peer: SocketAddr) -> Host {
    if !peer.ip().to_canonical().is_loopback() {
        return Host::Address(peer.ip().to_canonical());
    }
    socket_inode(peer).and_then(owner_of).map_or(Host::Unknown, Host::Process)
}

/// The inode of the socket whose *local* address is `address`.
fn socket_inode(address: SocketAddr) -> Option<u64> {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = std::fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let local = parse_address(fields.nth(1)?)?;
            let inode = fields.nth(7)?.parse().ok().filter(|inode| *inode != 0)?;
            let same =
                local.ip().to_canonical() == address.ip().to_canonical() && local.port() == address.port();
            same.then_some(inode)
        })
    })
}

/// An address as `/proc/net/tcp` writes it: 32-bit words in the machine's order, then the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::from(four),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?)),
    };
    Some(SocketAddr::new(ip, port))
}

/// The process that has the socket open.
fn owner_of(inode: u64) -> Option<u32> {
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.filter_map(Result::ok).find_map(|process| {
        let id = process.file_name().to_str()?.parse().ok()?;
        let files = std::fs::read_dir(process.path().join("fd")).ok()?;
        files
            .filter_map(Result::ok)
            .any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == Path::new(&wanted)))
            .then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn addresses_read_as_the_kernel_writes_them() {
        if cfg!(target_endian = "little") {
            assert_eq!(parse_address("0100007F:1388"), Some("127.0.0.1:5000".parse().unwrap()));
            assert_eq!(
                parse_address("0000000000000000FFFF00000100007F:1388").unwrap().ip().to_canonical(),
                "127.0.0.1".parse::<IpAddr>().unwrap()
            );
        }
        assert_eq!(parse_address("nonsense"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_loopback_connection_leads_to_the_process_that_made_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, peer) = listener.accept().unwrap();
        assert_eq!(host_of(peer), Host::Process(std::process::id()));
        drop(client);
    }

    #[test]
    fn only_two_known_hosts_can_differ() {
        let (one, two) = (Host::Process(1), Host::Process(2));
        assert!(one.differs(two));
        assert!(!one.differs(one));
        assert!(!one.differs(Host::Unknown));
        assert!(one.differs(Host::Address([10, 0, 0, 1].into())));
    }
}
