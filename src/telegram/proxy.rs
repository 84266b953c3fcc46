//! The SOCKS5 proxy in front of Telegram (`TELEGRAM_PROXY`): grammers gets it as a URL with the address resolved here,
//! because its own resolver panics where there is no resolv.conf; our key exchange dials through it too.

use std::net::{SocketAddr, SocketAddrV4};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;
use url::Url;

use crate::domain::ids::Secret;

/// A SOCKS5 proxy, with a user name and password or without.
#[derive(Clone, Debug)]
pub struct Proxy {
    host: url::Host<String>,
    port: u16,
    login: Option<Secret<(String, String)>>,
}

/// Not the URL of a SOCKS5 proxy. Says nothing of its contents, which hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not the URL of a SOCKS5 proxy, as in socks5://user:password@host:1080 (without characters that need escaping)"
)]
pub struct BadProxy;

/// A connection to a data centre, through a proxy or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Proxy {
    /// Reads `socks5://user:password@host:port`; user and password may be absent.
    ///
    /// # Errors
    /// [`BadProxy`].
    pub fn parse(url: &str) -> Result<Self, BadProxy> {
        let url = Url::parse(url).map_err(|_| BadProxy)?;
        let host = url.host_str().ok_or(BadProxy)?;
        // The url crate parses hosts of unknown schemes as opaque text.
        let host = url::Host::parse(host).map_err(|_| BadProxy)?;
        let port = url.port().ok_or(BadProxy)?;
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        if url.scheme() != "socks5" || !bare {
            return Err(BadProxy);
        }
        let (user, password) = (url.username(), url.password().unwrap_or_default());
        if user.contains('%') || password.contains('%') {
            return Err(BadProxy); // grammers would send the escapes as they stand
        }
        let login = (!user.is_empty()).then(|| Secret::new((user.to_owned(), password.to_owned())));
        Ok(Self { host, port, login })
    }

    async fn address(&self) -> std::io::Result<SocketAddr> {
        match &self.host {
            url::Host::Ipv4(address) => Ok((*address, self.port).into()),
            url::Host::Ipv6(address) => Ok((*address, self.port).into()),
            url::Host::Domain(name) => {
                let mut addresses = tokio::net::lookup_host((name.as_str(), self.port)).await?;
                addresses.next().ok_or_else(|| std::io::Error::other("the proxy's name has no address"))
            }
        }
    }

    /// The proxy as a URL whose host is an address, for grammers.
    pub(super) async fn resolved_url(&self) -> std::io::Result<String> {
        let address = self.address().await?;
        Ok(match &self.login {
            None => format!("socks5://{address}"),
            Some(login) => {
                let (user, password) = login.reveal();
                format!("socks5://{user}:{password}@{address}")
            }
        })
    }

    async fn dial(&self, target: SocketAddrV4) -> std::io::Result<Socks5Stream<TcpStream>> {
        let proxy = self.address().await?;
        let target = SocketAddr::V4(target);
        let dialled = match &self.login {
            None => Socks5Stream::connect(proxy, target).await,
            Some(login) => {
                let (user, password) = login.reveal();
                Socks5Stream::connect_with_password(proxy, target, user, password).await
            }
        };
        dialled.map_err(|error| std::io::Error::other(format!("the proxy refuses: {error}")))
    }
}

/// A TCP connection to a data centre, through the proxy where there is one.
pub(super) async fn dial(target: SocketAddrV4, proxy: Option<&Proxy>) -> std::io::Result<Box<dyn Stream>> {
    Ok(match proxy {
        None => Box::new(TcpStream::connect(target).await?),
        Some(proxy) => Box::new(proxy.dial(target).await?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_proxy_url_is_read_whole_or_refused_without_repeating_it() {
        let plain = Proxy::parse("socks5://127.0.0.1:1080").unwrap();
        assert_eq!(plain.resolved_url().await.unwrap(), "socks5://127.0.0.1:1080");
        let login = Proxy::parse("socks5://user:planted@localhost:1080").unwrap();
        assert!(login.resolved_url().await.unwrap().starts_with("socks5://user:planted@"));
        assert!(!format!("{login:?}").contains("planted"));
        for url in [
            "http://user:planted@host:1080",
            "socks5://user:planted@host",
            "socks5://:1080",
            "host:1080",
            "socks5://host:1080/path",
            "socks5://user:planted%40@host:1080",
            "",
        ] {
            let error = Proxy::parse(url).unwrap_err();
            assert!(!error.to_string().contains("planted"), "{url}");
        }
    }
}
