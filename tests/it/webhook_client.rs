//! The client that delivers webhooks, against receivers of every kind: what it sends, what it takes for an answer, and
//! that no receiver costs more than its time. Where it may go at all is in `webhook_targets.rs`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use telegram_connector::webhooks::client::{Client, Exchange, Post, PostError, Stage};
use telegram_connector::webhooks::resolver::{Addresses, Names};
use url::Url;

use crate::support::{Receiver, Reply};

/// A client that may reach this machine.
fn client() -> Client {
    Client::new(vec!["127.0.0.0/8".parse().unwrap()])
}

async fn post(client: &Client, url: &str) -> Result<Exchange, PostError> {
    let url = Url::parse(url).unwrap();
    let headers = [
        ("Content-Type", "application/json".to_owned()),
        ("X-Bondify-Signature", "ab12".to_owned()),
        ("webhook-id", "msg_1".to_owned()),
    ];
    client.post(Post { url: &url, headers: &headers, body: b"{\"a\":\"\xc3\xa9\"}" }).await
}

/// A name server for a test.
#[derive(Debug)]
enum Told {
    /// Every name has these addresses.
    Always(&'static [[u8; 4]]),
    /// It never answers.
    Never,
}

#[async_trait::async_trait]
impl Names for Told {
    async fn addresses(&self, _host: &str) -> Addresses {
        match self {
            Self::Always(addresses) => Ok(addresses.iter().copied().map(IpAddr::from).collect()),
            Self::Never => std::future::pending().await,
        }
    }
}

/// Every name is this machine.
const THIS_MACHINE: Told = Told::Always(&[[127, 0, 0, 1]]);

#[tokio::test]
async fn the_bytes_arrive_as_they_are_and_the_answer_comes_back() {
    let receiver = Receiver::new().await;
    receiver.answer_next(Reply::status(202).header("Retry-After", "7").body("taken"));
    let exchange = post(&client(), &receiver.url("/hook%20a?b=c&d={e}|f^g`h")).await.unwrap();
    assert_eq!((exchange.status, exchange.text().as_str()), (202, "taken"));
    assert_eq!((exchange.retry_after, exchange.cut), (Some(Duration::from_secs(7)), false));

    let request = receiver.next().await;
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hook%20a?b=c&d={e}|f^g`h"));
    assert_eq!(request.body, b"{\"a\":\"\xc3\xa9\"}");
    let names: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "Host",
            "User-Agent",
            "Accept",
            "Connection",
            "Content-Type",
            "X-Bondify-Signature",
            "Webhook-Id",
            "Content-Length"
        ],
        "nothing else is sent: no cookies, no trace, no Accept-Encoding"
    );
    assert_eq!(request.header("host"), Some(format!("127.0.0.1:{}", receiver.port()).as_str()));
    assert_eq!(request.header("user-agent"), Some("telegram-connector/0.1.0"));
    assert_eq!(request.header("x-bondify-signature"), Some("ab12"));
}

#[tokio::test]
async fn a_slow_answer_is_an_answer() {
    let (receiver, client) =
        (Receiver::listening("[::1]:0").await, Client::new(vec!["::1/128".parse().unwrap()]));
    receiver.answer_next(Reply::status(204).held());
    let url = receiver.url("/");
    let working = async {
        assert_eq!(receiver.next().await.json()["a"], "é");
        receiver.release(1);
    };
    let (exchange, ()) = tokio::join!(post(&client, &url), working);
    assert_eq!(exchange.unwrap().status, 204);
}

#[tokio::test]
async fn cookies_are_forgotten_and_no_connection_is_used_twice() {
    let (receiver, client) = (Receiver::new().await, client());
    receiver.answer_with(Reply::status(200).header("Set-Cookie", "a=b").header("Connection", "keep-alive"));
    for _ in 0..3 {
        assert_eq!(post(&client, &receiver.url("/")).await.unwrap().status, 200);
    }
    assert!(receiver.requests().iter().all(|request| request.header("cookie").is_none()));
    assert_eq!((receiver.requests().len(), receiver.connections()), (3, 3));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_nobody_walks_in() {
    let (receiver, trap) = (Receiver::new().await, Receiver::new().await);
    for status in [300, 301, 302, 303, 307, 308] {
        receiver.answer_next(Reply::status(status).header("Location", &trap.url("/secret")));
        assert_eq!(post(&client(), &receiver.url("/")).await.unwrap().status, status);
    }
    assert_eq!((receiver.connections(), trap.connections()), (6, 0));
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_given_up() {
    let (receiver, client) = (Receiver::new().await, client().with_limit(Duration::from_millis(500)));
    let head = b"HTTP/1.1 200 OK\r\n".to_vec();
    for reply in [
        Reply::silence(),
        Reply::Stall(b"HTTP/1.1 200 O".to_vec()),
        Reply::Drip(head.clone(), b"X-Slow: 1\r\n".to_vec()),
        // Interim answers, for ever.
        Reply::Drip(Vec::new(), b"HTTP/1.1 102 Processing\r\n\r\n".to_vec()),
        Reply::status(200).held(),
    ] {
        receiver.answer_next(reply.clone());
        let given_up = post(&client, &receiver.url("/")).await.unwrap_err();
        assert!(matches!(given_up, PostError::TimedOut(_)), "{reply:?}: {given_up}");
    }

    // Somebody accepts and never speaks TLS.
    let https = receiver.url("/").replace("http:", "https:");
    receiver.answer_with(Reply::silence());
    let given_up = post(&client, &https).await.unwrap_err();
    assert!(matches!(given_up, PostError::TimedOut(_)), "{given_up}");

    let client = client.with_names(Arc::new(Told::Never));
    let given_up = post(&client, "https://hook.example/").await.unwrap_err();
    assert_eq!(given_up, PostError::TimedOut(Stage::LookingUp));
    assert_eq!(given_up.to_string(), "no answer in time, while looking up the host name");
}

/// Posts to a receiver that sends a head and stalls. The limit must leave time for the head, however busy the machine is,
/// and the test waits until it is over: a short one first.
async fn stalled(reply: Reply) -> Exchange {
    let receiver = Receiver::new().await;
    receiver.answer_with(reply);
    for seconds in [2, 20, 200] {
        let client = client().with_limit(Duration::from_secs(seconds));
        match post(&client, &receiver.url("/")).await {
            Err(PostError::TimedOut(_)) => {}
            answer => return answer.unwrap(),
        }
    }
    panic!("the head is not taken for an answer");
}

#[tokio::test]
async fn the_head_is_the_answer_whatever_becomes_of_the_body() {
    let receiver = Receiver::new().await;
    let patient = client();
    let endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for (reply, kept) in [
        (Reply::Endless(endless.clone(), vec![b'x'; 1000]), 4096),
        (Reply::Endless(chunked.clone(), b"a\r\n0123456789\r\n".to_vec()), 4096),
        (Reply::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()), 3),
        (Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()), 3),
        (Reply::Raw([&chunked[..], b"3\r\nabc\r\nnonsense"].concat()), 3),
        (Reply::status(200).body(vec![b'x'; 5000]), 4096),
    ] {
        let exchange = if matches!(reply, Reply::Stall(_)) {
            stalled(reply).await
        } else {
            receiver.answer_next(reply);
            post(&patient, &receiver.url("/")).await.unwrap()
        };
        assert_eq!((exchange.status, exchange.body.len(), exchange.cut), (200, kept, true), "{exchange:?}");
    }
    receiver.answer_next(Reply::status(500).body(vec![b'x'; 4096]));
    let exchange = post(&patient, &receiver.url("/")).await.unwrap();
    assert_eq!((exchange.status, exchange.body.len(), exchange.cut), (500, 4096, false));
}

#[tokio::test]
async fn what_is_compressed_stays_compressed() {
    use std::io::Write as _;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![0; 2_000_000]).unwrap();
    let bomb = bomb.finish().unwrap();
    let receiver = Receiver::new().await;
    receiver.answer_with(Reply::status(200).header("Content-Encoding", "gzip").body(&bomb));
    let exchange = post(&client(), &receiver.url("/")).await.unwrap();
    assert_eq!(exchange.body, bomb);
}

#[tokio::test]
async fn what_is_no_answer_is_a_broken_connection_and_says_nothing_of_what_was_sent() {
    let receiver = Receiver::new().await;
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-Many: 1\r\n".repeat(1000));
    for reply in [
        Reply::hang_up(),
        Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        Reply::Raw(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        Reply::Raw(b"HTTP/0.9 hello\r\n\r\n".to_vec()),
        Reply::Raw(long.into_bytes()),
        Reply::Raw(many.into_bytes()),
        Reply::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X-Endless: 1\r\n".to_vec()),
    ] {
        receiver.answer_next(reply);
        let broken = post(&client(), &receiver.url("/hook?token=planted")).await.unwrap_err();
        assert!(matches!(broken, PostError::Connection(_)), "{broken:?}");
        let told = broken.to_string();
        assert!(!told.contains("planted") && !told.contains("ab12"), "{told}");
    }
    // A port that is taken, so that nobody else gets it meanwhile, and where nobody listens.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refused = post(&client(), &format!("http://{}/", taken.local_addr().unwrap())).await.unwrap_err();
    assert!(refused.to_string().contains("refused"), "{refused}");
}

#[tokio::test]
async fn tls_is_checked_against_the_name_and_the_authorities() {
    let receiver = Receiver::tls().await;
    let named = |name: &str| format!("https://{name}:{}/hook", receiver.port());
    let strangers = client().with_names(Arc::new(THIS_MACHINE));
    let refused = post(&strangers, &named("hook.example")).await.unwrap_err();
    assert_eq!(refused.to_string(), "TLS: invalid peer certificate: UnknownIssuer");

    let friends = client().with_names(Arc::new(THIS_MACHINE)).trusting(receiver.certificate.clone());
    let refused = post(&friends, &named("other.example")).await.unwrap_err();
    assert!(matches!(&refused, PostError::Tls(why) if why.contains("not valid for name")), "{refused}");
    assert!(receiver.requests().is_empty(), "nothing was said to somebody else");

    assert_eq!(post(&friends, &named("hook.example")).await.unwrap().status, 200);
    assert_eq!(post(&friends, &named("127.0.0.1")).await.unwrap().status, 200);
    let host = format!("hook.example:{}", receiver.port());
    assert_eq!(receiver.next().await.header("host"), Some(host.as_str()));

    // A server that speaks first, and no TLS.
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", plain.local_addr().unwrap());
    let speaking = async {
        let (mut socket, _) = plain.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        socket
    };
    let (refused, _socket) = tokio::join!(post(&friends, &url), speaking);
    assert!(matches!(refused, Err(PostError::Tls(_))), "{refused:?}");
}

#[tokio::test]
async fn a_dead_address_does_not_hide_a_living_one() {
    let receiver = Receiver::new().await;
    // Nobody listens at the first.
    let client = client().with_names(Arc::new(Told::Always(&[[127, 0, 0, 9], [127, 0, 0, 1]])));
    let url = format!("http://hook.example:{}/", receiver.port());
    assert_eq!(post(&client, &url).await.unwrap().status, 200);
    assert_eq!(receiver.next().await.method, "POST");
}
