//! Hostile bytes on live connections: they end their own connection, and nobody else notices.

use std::net::SocketAddr;
use std::time::Duration;

use grammers_tl_types as tl;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tl::Serializable;
use tl::functions as f;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::support::ALICE;
use super::support::PATIENCE;
use super::support::Running;
use super::support::soon;
use crate::sandbox::wire::envelope::Message;
use crate::sandbox::wire::envelope::tests::seal_as_client;
use crate::sandbox::wire::framing::Framing;
use crate::sandbox::wire::framing::Packer;

/// What a hostile peer may send: rubbish, or something good with a part missing or changed.
fn streams(good: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let rubbish = prop::collection::vec(any::<u8>(), 0..2_000);
    let bent = (prop::sample::select(good), any::<u16>(), any::<u8>(), any::<bool>()).prop_map(
        |(mut stream, position, value, cut)| {
            let position = usize::from(position) % stream.len();
            if cut {
                stream.truncate(position);
            } else if let Some(byte) = stream.get_mut(position) {
                *byte ^= value | 1;
            }
            stream
        },
    );
    prop_oneof![rubbish, bent]
}

#[tokio::test]
async fn hostile_bytes_end_their_connection_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let alice = sandbox.person(ALICE);
    let client = sandbox.grammers(&[2]).await;
    client.sign_in(&sandbox, 2, ALICE).await;
    let address = SocketAddr::V4(sandbox.address(2));
    let mut runner = TestRunner::deterministic();
    let strategy = streams(good_streams(&sandbox).await);
    for round in 0..200 {
        let bytes = strategy.new_tree(&mut runner).unwrap().current();
        let mut peer = TcpStream::connect(address).await.unwrap();
        // The sandbox may close before all is written.
        let _ = peer.write_all(&bytes).await;
        let _ = peer.shutdown().await;
        // It must also let go: no answer without an end.
        let mut rest = Vec::new();
        let _ = soon(peer.read_to_end(&mut rest)).await;
        if round % 20 == 0 {
            assert_eq!(client.me(2).await.unwrap().id, alice.id);
        }
    }
    assert_eq!(client.me(2).await.unwrap().id, alice.id);
    sandbox.stop().await;
}

/// A key exchange's first packet, and packets under a real key.
async fn good_streams(sandbox: &Running) -> Vec<Vec<u8>> {
    let mut client = sandbox.raw(2).await;
    let mut good = Vec::new();
    let mut add = |packet: &[u8]| {
        for (framing, opening) in [(Framing::Full, &[][..]), (Framing::Intermediate, &[0xee; 4])] {
            good.push([opening, &Packer::new(framing).pack(packet)].concat());
        }
    };
    let body = f::ReqPqMulti { nonce: [7; 16] }.to_bytes();
    let mut plain = vec![0; 16];
    plain.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    plain.extend(body);
    add(&plain);
    let hello = client.introduction();
    add(&seal_as_client(&client.key, client.salt, client.session, &hello));
    let hostile = prop::collection::vec(any::<u8>(), 4..400);
    let mut runner = TestRunner::deterministic();
    for constructor in [0x73f1_f8dc_u32, 0x3072_cfa1, 0xda9b_0d0d, 0x62d6_b459, 0xda69_fb52] {
        for _ in 0..10 {
            let mut bytes = hostile.new_tree(&mut runner).unwrap().current();
            bytes.truncate(bytes.len() / 4 * 4);
            let body = [&constructor.to_le_bytes()[..], &bytes].concat();
            let message = Message { id: client.id(), seq_no: 1, body };
            add(&seal_as_client(&client.key, client.salt, client.session, &message));
        }
    }
    good
}

#[tokio::test]
async fn who_only_holds_connections_open_is_shown_out() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start_with(folder.path(), |settings| {
        settings.limits.connections = 3;
        settings.limits.handshake = Duration::from_secs(1);
    })
    .await;
    // A key exchange is slow on a busy machine, and would be shown out, too.
    let (first, second) = (sandbox.ready_key(2).await, sandbox.ready_key(2).await);
    let mut client = sandbox.raw_with(2, first).await;
    client.introduce().await;
    let mut idlers = vec![sandbox.connect(2).await, sandbox.connect(3).await];
    let mut half = idlers.pop().unwrap();
    half.send_bytes(&[0xee, 0xee, 0xee, 0xee, 40, 0, 0]).await;
    // Both places are taken, so a fourth connection is closed at once or as soon as it is seen.
    let mut fourth = sandbox.connect(4).await;
    assert!(fourth.is_closed().await);
    assert!(half.is_closed().await);
    assert!(idlers[0].is_closed().await);
    // Who has spoken may go on, and newcomers find room again.
    client.call(&f::help::GetNearestDc {}).await.unwrap();
    sandbox.raw_with(2, second).await.introduce().await;
    sandbox.stop().await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let mut client = sandbox.raw(2).await;
    client.introduce().await;
    let closed = tokio::time::timeout(PATIENCE, async {
        // Answers of 5 KB that nobody takes: the socket's buffers fill, then the queue.
        for _ in 0..200_000 {
            let ask = client.message(f::GetFutureSalts { num: 64 }.to_bytes(), true);
            if !client.send_was_taken(&ask).await {
                return true;
            }
        }
        false
    });
    assert!(closed.await.unwrap(), "the connection is still open");
    sandbox.stop().await;
}
