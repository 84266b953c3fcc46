//! Where webhooks must not go, and do not: by the URL, by what a name resolves to, by a redirect, and by a resolver that
//! changes its answer. A trap listens where an attacker would like to get; it counts who comes.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use ipnet::IpNet;
use telegram_connector::domain::webhook_target::{BadTarget, WebhookTarget};
use telegram_connector::webhooks::client::{Client, Exchange, Post, PostError};
use telegram_connector::webhooks::resolver::{Addresses, Names};
use url::Url;

use crate::support::{Receiver, Reply};

/// This machine in every notation we know. `PORT` is the trap's.
const THIS_MACHINE: [&str; 18] = [
    "https://127.0.0.1:PORT/",
    "https://127.0.0.1:PORT",
    "http://127.0.0.1:PORT/",
    "https://127.1:PORT/",
    "https://127.0.1:PORT/",
    "https://2130706433:PORT/",
    "https://0x7f000001:PORT/",
    "https://0x7f.1:PORT/",
    "https://0x7F.0x0.0x0.0x1:PORT/",
    "https://017700000001:PORT/",
    "https://0177.0.0.01:PORT/",
    "https://127.0.0.1.:PORT/",
    "https://%31%32%37.0.0.1:PORT/",
    "https://①②⑦.0.0.1:PORT/",
    "https://127。0。0。1:PORT/",
    "https://[::ffff:127.0.0.1]:PORT/",
    "https://[::FFFF:7f00:1]:PORT/",
    "https://[0:0:0:0:0:ffff:7f00:0001]:PORT/",
];

/// Other targets that are refused for their URL alone.
const BY_URL: [&str; 65] = [
    // Other spellings of the way to this machine and its networks.
    "https://127.255.255.254/",
    "https://0.0.0.0/",
    "https://0/",
    "https://0x0:8443/",
    "https://[::]/",
    "https://[::1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::127.0.0.1]/",
    "https://[::ffff:0:127.0.0.1]/",
    "https://[64:ff9b::127.0.0.1]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    // Private networks.
    "https://10.0.0.1/",
    "https://10.255.255.255/",
    "https://012.0.0.1/",
    "https://100.64.0.1/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://192.168.0.1/",
    "https://192.168.257/",
    "https://3232235521/",
    "https://[::ffff:10.0.0.1]/",
    "https://[64:ff9b::a00:1]/",
    "https://[2002:a00:1::1]/",
    "https://[fc00::1]/",
    "https://[fd12:3456:789a::1]/",
    "https://[fec0::1]/",
    // Link-local, and the metadata services of clouds.
    "https://169.254.169.254/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "https://2852039166/",
    "https://0xa9fea9fe/",
    "https://169.254.43518/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[64:ff9b::169.254.169.254]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fd00:ec2::254]/",
    "https://metadata.google.internal/computeMetadata/v1/",
    // Multicast, broadcast, reserved, documentation, benchmarks.
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://240.0.0.1/",
    "https://192.0.2.1/",
    "https://198.18.0.1/",
    "https://[ff02::1]/",
    "https://[2001:db8::1]/",
    "https://[100::1]/",
    "https://[5f00::1]/",
    // Names that only mean something inside.
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://app.localhost/",
    "https://printer.local/",
    "https://db.internal/",
    "https://db/",
    "https://router.home.arpa/",
    "https://kubernetes.default.svc.cluster.local/",
    // URLs in which two programs read two hosts, or that are no web addresses.
    "https://example.com@127.0.0.1/",
    "https://example.com\\@127.0.0.1/",
    "https://127.0.0.1\\.example.com/",
    "https:127.0.0.1/",
    "https:///127.0.0.1/",
    "http://example.com/",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "https://example.com:22/",
];

/// What a name that looks public may resolve to, and must not.
const BY_RESOLVER: [&[&str]; 22] = [
    &["127.0.0.1"],
    &["127.0.0.53"],
    &["0.0.0.0"],
    &["10.0.0.5"],
    &["100.100.100.200"],
    &["169.254.169.254"],
    &["172.17.0.1"],
    &["192.168.1.1"],
    &["198.18.0.1"],
    &["224.0.0.251"],
    &["255.255.255.255"],
    &["::"],
    &["::1"],
    &["::ffff:127.0.0.1"],
    &["::ffff:169.254.169.254"],
    &["64:ff9b::7f00:1"],
    &["2002:7f00:1::1"],
    &["fe80::1"],
    &["fd00:ec2::254"],
    // Among honest ones, in whatever place.
    &["93.184.215.14", "127.0.0.1"],
    &["127.0.0.1", "93.184.215.14"],
    &["2606:2800:21f:cb07:6820:80da:af6b:8b2c", "93.184.215.14", "::1"],
];

/// Answers as it is told, one answer after the other, the last one for ever; counts who asks.
#[derive(Debug, Default)]
struct Told {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: Mutex<usize>,
}

impl Told {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let list = |list: &&[&str]| list.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self { answers: Mutex::new(answers.iter().map(list).collect()), asked: Mutex::default() })
    }
}

#[async_trait::async_trait]
impl Names for Told {
    async fn addresses(&self, _host: &str) -> Addresses {
        *self.asked.lock().unwrap() += 1;
        let mut answers = self.answers.lock().unwrap();
        let last = answers.len() == 1;
        let answer = if last { answers.front().cloned() } else { answers.pop_front() };
        Ok(answer.unwrap())
    }
}

fn networks(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|network| network.parse().unwrap()).collect()
}

async fn post(client: &Client, url: &str) -> Result<Exchange, PostError> {
    let url = Url::parse(url).unwrap();
    client.post(Post { url: &url, headers: &[], body: b"{}" }).await
}

/// All that is refused by its URL, at the port where the trap is.
fn refused_by_url(port: u16) -> Vec<String> {
    let here = THIS_MACHINE.iter().map(|url| url.replace("PORT", &port.to_string()));
    here.chain(BY_URL.iter().map(|url| (*url).to_owned())).collect()
}

/// A receiver at 127.0.0.2 and a trap at 127.0.0.1, at the same port, so that only the address tells them apart.
async fn receiver_and_trap() -> (Receiver, Receiver) {
    loop {
        let trap = Receiver::new().await;
        let at = format!("127.0.0.2:{}", trap.port());
        // Another test may have that port at that address.
        if std::net::TcpListener::bind(&at).is_ok() {
            return (Receiver::listening(&at).await, trap);
        }
    }
}

#[tokio::test]
async fn what_is_refused_by_its_url_is_refused_when_written_and_when_delivered() {
    let trap = Receiver::new().await;
    let client = Client::new(Vec::new()).with_names(Told::new(&[&["127.0.0.1"]]));
    for text in refused_by_url(trap.port()) {
        let refused = WebhookTarget::parse(&text, &[]);
        assert!(refused.is_err(), "{text}");
        // A store may hold what an older version, or another allow list, let in.
        if let Ok(url) = Url::parse(&text) {
            let refused = client.post(Post { url: &url, headers: &[], body: b"{}" }).await;
            // The parser has made an ordinary URL of some odd spellings: then the address is what is refused.
            assert!(matches!(refused, Err(PostError::Refused(_))), "{text}: {refused:?}");
        }
    }
    assert_eq!(trap.connections(), 0);
}

#[tokio::test]
async fn an_allowed_address_does_not_excuse_the_rest_of_the_url() {
    let (trap, allow) = (Receiver::new().await, networks(&["127.0.0.0/8"]));
    let client = Client::new(allow.clone()).with_names(Told::new(&[&["127.0.0.1"]]));
    for text in
        ["http://u:p@HERE/", "http://HERE/#part", "gopher://HERE/", "http://127.0.0.1:25/", "http://a..b/"]
    {
        let text = text.replace("HERE", &format!("127.0.0.1:{}", trap.port()));
        assert!(WebhookTarget::parse(&text, &allow).is_err(), "{text}");
        let refused = post(&client, &text).await;
        assert!(matches!(refused, Err(PostError::Refused(_))), "{text}: {refused:?}");
    }
    assert_eq!(trap.connections(), 0);
}

/// The other tests here could not fail if these spellings led nowhere.
#[tokio::test]
async fn every_notation_of_this_machine_does_lead_here_once_it_is_allowed() {
    let trap = Receiver::new().await;
    let allow = networks(&["127.0.0.0/8"]);
    let client = Client::new(allow.clone());
    for text in THIS_MACHINE {
        // The trap speaks no TLS.
        let text = text.replace("PORT", &trap.port().to_string()).replace("https:", "http:");
        let target = WebhookTarget::parse(&text, &allow).unwrap();
        assert_eq!(post(&client, target.as_str()).await.unwrap().status, 200, "{text}");
    }
    assert_eq!(trap.connections(), THIS_MACHINE.len());
}

#[tokio::test]
async fn what_a_name_leads_to_is_judged_before_anybody_connects() {
    let trap = Receiver::new().await;
    let url = format!("https://hooks.example:{}/", trap.port());
    assert!(WebhookTarget::parse(&url, &[]).is_ok(), "the name tells nothing");
    for answer in BY_RESOLVER {
        let client = Client::new(Vec::new()).with_names(Told::new(&[answer]));
        let refused = post(&client, &url).await.unwrap_err();
        assert!(matches!(refused, PostError::Refused(BadTarget::LeadsTo { .. })), "{answer:?}: {refused:?}");
        let told = refused.to_string();
        assert!(told.contains("CONNECTOR_WEBHOOK_ALLOW") && !told.contains(answer[0]), "{told}");
    }
    // `http` goes to the allow list only, be the rest as public as it may.
    let client = Client::new(networks(&["10.0.0.0/8"])).with_names(Told::new(&[&["93.184.215.14"]]));
    let refused = post(&client, "http://hooks.example/").await.unwrap_err();
    assert!(matches!(refused, PostError::Refused(BadTarget::PlainHttpLeadsTo { .. })), "{refused:?}");
    let client = Client::new(Vec::new()).with_names(Told::new(&[&[]]));
    assert!(matches!(post(&client, &url).await, Err(PostError::Unresolved(_))));
    assert_eq!(trap.connections(), 0);
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let (receiver, trap) = receiver_and_trap().await;
    let client = Client::new(networks(&["127.0.0.2/32"]));
    let mut sent = 0;
    let targets = refused_by_url(trap.port());
    for (n, target) in targets.iter().enumerate() {
        // A header is bytes of ASCII; the odd ones are in the table for the parser's sake.
        let location = Url::parse(target).map_or_else(|_| target.clone(), |url| url.to_string());
        let status = [301, 302, 303, 307, 308][n % 5];
        receiver.answer_next(Reply::status(status).header("Location", &location));
        assert_eq!(post(&client, &receiver.url("/")).await.unwrap().status, status, "{target}");
        receiver.answer_next(Reply::redirect(target));
        assert_eq!(post(&client, &receiver.url("/")).await.unwrap().status, 302, "{target}");
        sent += 2;
    }
    assert_eq!((receiver.connections(), trap.connections()), (sent, 0));
}

#[tokio::test]
async fn a_resolver_that_changes_its_answer_gets_nobody_in() {
    let (receiver, trap) = receiver_and_trap().await;
    let url = format!("http://rebind.example:{}/", receiver.port());
    let names = Told::new(&[
        &["127.0.0.2"],
        &["127.0.0.1"],
        &["127.0.0.2"],
        &["127.0.0.2", "127.0.0.1"],
        &["127.0.0.1", "127.0.0.2"],
        &["::ffff:127.0.0.2"],
        &["::ffff:127.0.0.1"],
        &["127.0.0.1"],
    ]);
    let asked = Arc::clone(&names);
    let client = Client::new(networks(&["127.0.0.2/32"])).with_names(names);
    let mut let_in = Vec::new();
    for _ in 0..9 {
        match post(&client, &url).await {
            Ok(exchange) => let_in.push(exchange.status == 200),
            Err(PostError::Refused(BadTarget::PlainHttpLeadsTo { address, .. })) => {
                assert_eq!(address.to_canonical(), IpAddr::from([127, 0, 0, 1]));
                let_in.push(false);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(let_in, [true, false, true, false, false, true, false, false, false]);
    assert_eq!(
        *asked.asked.lock().unwrap(),
        9,
        "one look-up for a delivery: what was judged is what is used"
    );
    assert_eq!((receiver.connections(), trap.connections()), (3, 0));
}
