//! Accepts connections that send at once what there is to send. Without `TCP_NODELAY` a small event of a stream waits for
//! the acknowledgement of the one before it, which the other side holds back for 40 ms.

use std::io;

use poem::http::uri::Scheme;
use poem::listener::{Acceptor, TcpAcceptor};
use poem::web::{LocalAddr, RemoteAddr};
use tokio::net::TcpStream;

/// A `TcpAcceptor` whose connections have `TCP_NODELAY` set (RFC 9293, section 3.7.4).
pub(super) struct PromptAcceptor(pub(super) TcpAcceptor);

impl Acceptor for PromptAcceptor {
    type Io = TcpStream;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.0.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(TcpStream, LocalAddr, RemoteAddr, Scheme)> {
        let accepted = self.0.accept().await?;
        if let Err(error) = accepted.0.set_nodelay(true) {
            tracing::debug!(%error, "a connection stays slow to send");
        }
        Ok(accepted)
    }
}
