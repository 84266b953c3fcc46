//! `TELEGRAM_PROXY`: everything that goes to Telegram goes through a real SOCKS5 server, the key exchange too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fast_socks5::server::Socks5ServerProtocol;
use fast_socks5::{ReplyError, Socks5Command};
use serde_json::json;
use telegram_connector::telegram::Proxy;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{ALICE, Options, World};

/// A SOCKS5 server that knows one user, and how many connections it has carried.
pub(crate) async fn socks5_server() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, carried) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&carried);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move { carry(stream, &count).await });
        }
    });
    (address, carried)
}

async fn carry(stream: TcpStream, count: &AtomicUsize) -> Option<()> {
    let check = |user: String, password: String| user == "user" && password == "planted";
    let (protocol, _) = Socks5ServerProtocol::accept_password_auth(stream, check).await.ok()?;
    let (protocol, command, target) = protocol.read_command().await.ok()?;
    assert_eq!(command, Socks5Command::TCPConnect);
    let (host, port) = target.into_string_and_port();
    let Ok(mut onward) = TcpStream::connect((host, port)).await else {
        protocol.reply_error(&ReplyError::ConnectionRefused).await.ok()?;
        return None;
    };
    let mut back = protocol.reply_success("127.0.0.1:0".parse().unwrap()).await.ok()?;
    count.fetch_add(1, Ordering::SeqCst);
    tokio::io::copy_bidirectional(&mut back, &mut onward).await.ok()?;
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_goes_through_the_proxy_whole() {
    let (address, carried) = socks5_server().await;
    let proxy = Proxy::parse(&format!("socks5://user:planted@{address}")).unwrap();
    let world = World::with(Options { proxy: Some(proxy), ..Options::default() }).await;
    world.signed_in_as(ALICE).await;
    assert!(carried.load(Ordering::SeqCst) >= 2, "the key exchange and the connection");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_is_telegram_out_of_reach_and_its_password_is_not_told() {
    let (address, carried) = socks5_server().await;
    let proxy = Proxy::parse(&format!("socks5://user:wrong-planted@{address}")).unwrap();
    let world = World::with(Options { proxy: Some(proxy), ..Options::default() }).await;
    let answer = world.sign_in(json!({ "phone": ALICE })).await;
    assert_eq!(answer.refusal(), (503, "TELEGRAM_UNREACHABLE".into()));
    assert!(!answer.body.contains("planted"), "{answer:?}");
    assert_eq!((carried.load(Ordering::SeqCst), world.calls("auth.sendCode").await), (0, 0));
    world.end().await;
}
