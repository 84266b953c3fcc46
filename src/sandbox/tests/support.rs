//! A sandbox to test, and two clients for it: grammers as published, and one that puts packets together by hand.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use grammers_crypto::aes;
use grammers_crypto::generate_key_data_from_nonce;
use grammers_mtsender::ConnectionParams;
use grammers_mtsender::InvocationError;
use grammers_mtsender::NoRetries;
use grammers_mtsender::SenderPool;
use grammers_mtsender::SenderPoolFatHandle;
use grammers_session::BoxFuture;
use grammers_session::Session;
use grammers_session::types::DcOption;
use grammers_session::types::PeerId;
use grammers_session::types::PeerInfo;
use grammers_session::types::UpdateState;
use grammers_session::types::UpdatesState;
use grammers_session::updates::UpdatesLike;
use grammers_tl_types as tl;
use num_bigint::BigUint;
use tl::Cursor;
use tl::Deserializable;
use tl::RemoteCall;
use tl::Serializable;
use tl::functions as f;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::domain::clock::Clock;
use crate::domain::ids::Ids;
use crate::lifecycle::OffsetClock;
use crate::lifecycle::SystemClock;
use crate::lifecycle::Tasks;
use crate::sandbox::NewBot;
use crate::sandbox::NewPerson;
use crate::sandbox::Sandbox;
use crate::sandbox::Settings;
use crate::sandbox::host::Hosts;
use crate::sandbox::wire::envelope::AuthKey;
use crate::sandbox::wire::envelope::Message;
use crate::sandbox::wire::envelope::tests::seal_as_client;
use crate::sandbox::wire::framing::Framing;
use crate::sandbox::wire::framing::Packer;
use crate::sandbox::wire::keyex::tests::test_rsa;
use crate::sandbox::wire::salts;
use crate::sandbox::wire::sha1;
use crate::sandbox::wire::srp;

pub(super) const ALICE: &str = "+15550100001";
pub(super) const API_HASH: &str = "0123456789abcdef0123456789abcdef";
/// Longer than anything that works takes; what hangs fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A running sandbox.
pub(super) struct Running {
    pub(super) sandbox: Sandbox,
    pub(super) clock: OffsetClock,
    pub(super) ids: Ids,
    tasks: Tasks,
}

impl Running {
    pub(super) async fn start(folder: &Path) -> Self {
        Self::start_with(folder, |_| {}).await
    }

    pub(super) async fn start_with(folder: &Path, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(folder, "127.0.0.1:0".parse().unwrap());
        settings.rsa_key_pem = Some(test_rsa().0.clone());
        change(&mut settings);
        let (clock, ids, tasks) =
            (OffsetClock::default(), Ids::from_seed(crate::lifecycle::os_seed().unwrap()), Tasks::new());
        let sandbox = Sandbox::start(settings, clock.clone(), ids.clone(), &tasks).await.unwrap();
        Self { sandbox, clock, ids, tasks }
    }

    /// With hosts as this function finds them.
    pub(super) async fn start_with_hosts(folder: &Path, hosts: Hosts) -> Self {
        Self::start_with(folder, |settings| settings.hosts = hosts).await
    }

    /// Ends every task, as a stop does; what is on disk is as after a kill, because nothing is written at the end.
    pub(super) async fn stop(self) {
        assert!(self.tasks.finish(PATIENCE).await, "a task did not end");
    }

    pub(super) fn person(&self, phone: &str) -> crate::sandbox::Person {
        self.person_with(phone, |_| {})
    }

    pub(super) fn person_with(
        &self,
        phone: &str,
        change: impl FnOnce(&mut NewPerson),
    ) -> crate::sandbox::Person {
        let mut person =
            NewPerson { phone: phone.to_owned(), first_name: "Alice".to_owned(), ..NewPerson::default() };
        change(&mut person);
        self.sandbox.add_person(person).unwrap()
    }

    pub(super) fn bot(&self, username: &str) -> crate::sandbox::Bot {
        let bot = NewBot { username: username.to_owned(), name: "Some bot".to_owned(), dc: None };
        self.sandbox.add_bot(bot).unwrap()
    }

    /// A client that is signed in as this bot.
    pub(super) async fn bot_client(&self, bot: &crate::sandbox::Bot) -> Grammers {
        let client = self.grammers(&[2]).await;
        let request = f::auth::ImportBotAuthorization {
            flags: 0,
            api_id: 7,
            api_hash: API_HASH.to_owned(),
            bot_auth_token: bot.token.clone(),
        };
        client.call(2, &request).await.unwrap();
        client
    }

    /// A client that is signed in as this person.
    pub(super) async fn person_client(&self, phone: &str) -> Grammers {
        let client = self.grammers(&[2]).await;
        client.sign_in(self, 2, phone).await;
        client
    }

    /// Plays a person over the control API; what that must answer.
    pub(super) async fn play(&self, phone: &str, what: &str, body: serde_json::Value) -> serde_json::Value {
        let (status, answer) =
            self.control("POST", &format!("/api/accounts/{phone}/{what}"), Some(body)).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Plays a person over the control API; the status and the code of the refusal.
    pub(super) async fn play_refused(
        &self,
        phone: &str,
        what: &str,
        body: serde_json::Value,
    ) -> (u16, String) {
        let (status, answer) =
            self.control("POST", &format!("/api/accounts/{phone}/{what}"), Some(body)).await;
        (status, answer["code"].as_str().unwrap_or_default().to_owned())
    }

    /// A person's messages after an id.
    pub(super) async fn messages(&self, phone: &str, after: i64) -> Vec<serde_json::Value> {
        let path = format!("/api/accounts/{phone}/messages?after={after}&wait=5");
        let (status, answer) = self.control("GET", &path, None).await;
        assert_eq!(status, 200, "{answer}");
        answer.as_array().unwrap().clone()
    }

    pub(super) fn address(&self, dc: i32) -> SocketAddrV4 {
        let network = self.sandbox.network();
        network.dcs.iter().find(|(id, _)| *id == dc).unwrap().1
    }

    pub(super) async fn new_key(&self, dc: i32) -> AuthKey {
        exchange(SocketAddr::V4(self.address(dc)), &self.ids).await
    }

    /// A key that the control API makes, without an exchange.
    pub(super) async fn ready_key(&self, dc: i32) -> AuthKey {
        let (_, made) = self.control("POST", "/api/keys", Some(serde_json::json!({"dc": dc}))).await;
        let bytes = grammers_crypto::hex::from_hex(made["auth_key"].as_str().unwrap());
        AuthKey::new(bytes.try_into().unwrap())
    }

    /// A grammers client with a fresh key in every data centre named.
    pub(super) async fn grammers(&self, dcs: &[i32]) -> Grammers {
        let mut options = HashMap::new();
        for dc in dcs {
            let key = self.new_key(*dc).await;
            options.insert(*dc, self.option(*dc, &key));
        }
        Grammers::new(options)
    }

    pub(super) fn option(&self, dc: i32, key: &AuthKey) -> DcOption {
        DcOption {
            id: dc,
            ipv4: self.address(dc),
            ipv6: std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, 1, 0, 0),
            auth_key: Some(*key.bytes()),
        }
    }

    pub(super) async fn raw(&self, dc: i32) -> Raw {
        let key = self.new_key(dc).await;
        self.raw_with(dc, key).await
    }

    /// A connection that has not said anything yet.
    pub(super) async fn connect(&self, dc: i32) -> Raw {
        self.raw_with(dc, AuthKey::new([0; 256])).await
    }

    pub(super) async fn raw_with(&self, dc: i32, key: AuthKey) -> Raw {
        let stream = TcpStream::connect(self.address(dc)).await.unwrap();
        let (read, write) = stream.into_split();
        Raw {
            reader: read,
            writer: write,
            packer: Packer::new(Framing::Full),
            salt: salts::current(&key, SystemClock.now().as_secs()),
            session: self.ids.int64(),
            key,
            last_id: 0,
            content: 0,
            pending: VecDeque::new(),
        }
    }

    /// Calls the control API; the status and the JSON.
    pub(super) async fn control(
        &self,
        method: &str,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> (u16, serde_json::Value) {
        let url = format!("http://{}{path}", self.sandbox.control_address());
        let client = reqwest::Client::new();
        let mut request = client.request(method.parse().unwrap(), url).timeout(PATIENCE);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text)))
    }

    pub(super) async fn fault(&self, fault: serde_json::Value) {
        let (status, answer) = self.control("POST", "/api/faults", Some(fault)).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// The newest code of a number; waits for one.
    pub(super) async fn code(&self, phone: &str) -> String {
        let path = format!("/api/accounts/{phone}/code?wait=5");
        let (status, answer) = self.control("GET", &path, None).await;
        assert_eq!(status, 200, "{answer}");
        answer["code"].as_str().unwrap().to_owned()
    }
}

/// Fails instead of hanging.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("took too long")
}

/// grammers as published: a sender pool and the smallest session that serves it.
pub(super) struct Grammers {
    pub(super) handle: SenderPoolFatHandle,
    pub(super) updates: mpsc::Receiver<UpdatesLike>,
    pub(super) session: Arc<TestSession>,
    runner: tokio::task::JoinHandle<()>,
}

impl Drop for Grammers {
    fn drop(&mut self) {
        self.runner.abort();
    }
}

impl Grammers {
    #[expect(clippy::disallowed_methods, reason = "a client's own task")]
    pub(super) fn new(options: HashMap<i32, DcOption>) -> Self {
        let session = Arc::new(TestSession { options: Mutex::new(options) });
        let params = ConnectionParams {
            device_model: "test".to_owned(),
            system_version: "1".to_owned(),
            app_version: "1".to_owned(),
            system_lang_code: "en".to_owned(),
            lang_code: "en".to_owned(),
            proxy_url: None,
            use_ipv6: false,
            retry_policy: Box::new(NoRetries),
            updates_channel_capacity: NonZeroUsize::new(1000).unwrap(),
            __non_exhaustive: (),
        };
        let pool = SenderPool::with_configuration(Arc::clone(&session), 7, params);
        Self { handle: pool.handle, updates: pool.updates, session, runner: tokio::spawn(pool.runner.run()) }
    }

    pub(super) async fn call<R: RemoteCall + Sync>(
        &self,
        dc: i32,
        request: &R,
    ) -> Result<R::Return, InvocationError> {
        soon(self.handle.invoke_in_dc(dc, request)).await
    }

    /// The name and number of the error that this call must end in.
    pub(super) async fn refused<R: RemoteCall + Sync>(&self, dc: i32, request: &R) -> String
    where
        R::Return: std::fmt::Debug,
    {
        match self.call(dc, request).await {
            Err(InvocationError::Rpc(error)) => match error.value {
                Some(value) => format!("{} {} {value}", error.code, error.name),
                None => format!("{} {}", error.code, error.name),
            },
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Asks for a code; its hash.
    pub(super) async fn send_code(&self, dc: i32, phone: &str) -> tl::types::auth::SentCode {
        let answer = self.call(dc, &send_code(phone)).await.unwrap();
        let tl::enums::auth::SentCode::Code(sent) = answer else { panic!("{answer:?}") };
        sent
    }

    /// Signs in with the code that the control API tells.
    pub(super) async fn sign_in(&self, sandbox: &Running, dc: i32, phone: &str) -> tl::types::User {
        let hash = self.send_code(dc, phone).await.phone_code_hash;
        let code = sandbox.code(phone).await;
        user(self.call(dc, &sign_in(phone, &hash, &code)).await.unwrap())
    }

    /// The next update that the server pushes or answers, of whatever kind, and who is named with it. Whom a short one
    /// leaves unnamed is learnt as clients do it: from the difference.
    pub(super) async fn update(&mut self) -> (tl::enums::Update, Vec<tl::types::User>) {
        loop {
            let UpdatesLike::Updates(told) = soon(self.updates.recv()).await.expect("no more updates") else {
                continue;
            };
            if let tl::enums::Updates::UpdateShortMessage(short) = &told {
                return Box::pin(self.in_full(short)).await;
            }
            if let tl::enums::Updates::Updates(updates) = told {
                let update = updates.updates.into_iter().next_back().unwrap();
                return (update, people(updates.users));
            }
        }
    }

    /// The message of a short update with everybody it names.
    async fn in_full(
        &self,
        short: &tl::types::UpdateShortMessage,
    ) -> (tl::enums::Update, Vec<tl::types::User>) {
        let request = f::updates::GetDifference {
            pts: short.pts - 1,
            pts_limit: None,
            pts_total_limit: None,
            date: short.date,
            qts: 0,
            qts_limit: None,
        };
        let (messages, users) = match self.call(2, &request).await.unwrap() {
            tl::enums::updates::Difference::Difference(all) => (all.new_messages, all.users),
            tl::enums::updates::Difference::Slice(part) => (part.new_messages, part.users),
            none
            @ (tl::enums::updates::Difference::Empty(_) | tl::enums::updates::Difference::TooLong(_)) => {
                panic!("{none:?}")
            }
        };
        let message =
            messages.into_iter().find(|message| message.id() == short.id).expect("the same message");
        let update = tl::types::UpdateNewMessage { message, pts: short.pts, pts_count: short.pts_count };
        (update.into(), people(users))
    }

    /// The next message that somebody else wrote, and who is named with it. grammers passes answers on as updates, too.
    pub(super) async fn new_message(&mut self) -> (tl::types::Message, Vec<tl::types::User>) {
        loop {
            if let (tl::enums::Update::NewMessage(new), users) = self.update().await {
                let message = full(new.message);
                if !message.out {
                    return (message, users);
                }
            }
        }
    }

    pub(super) async fn me(&self, dc: i32) -> Result<tl::types::User, InvocationError> {
        let users = self.call(dc, &get_self()).await?;
        match users.into_iter().next().unwrap() {
            tl::enums::User::User(user) => Ok(user),
            tl::enums::User::Empty(_) => panic!("nobody"),
        }
    }
}

pub(super) fn send_code(phone: &str) -> f::auth::SendCode {
    f::auth::SendCode {
        phone_number: phone.to_owned(),
        api_id: 7,
        api_hash: API_HASH.to_owned(),
        settings: tl::types::CodeSettings {
            allow_flashcall: false,
            current_number: false,
            allow_app_hash: false,
            allow_missed_call: false,
            allow_firebase: false,
            unknown_number: false,
            logout_tokens: None,
            token: None,
            app_sandbox: None,
        }
        .into(),
    }
}

pub(super) fn sign_in(phone: &str, hash: &str, code: &str) -> f::auth::SignIn {
    f::auth::SignIn {
        phone_number: phone.to_owned(),
        phone_code_hash: hash.to_owned(),
        phone_code: Some(code.to_owned()),
        email_verification: None,
    }
}

fn people(users: Vec<tl::enums::User>) -> Vec<tl::types::User> {
    let people = users.into_iter().map(|user| match user {
        tl::enums::User::User(user) => user,
        tl::enums::User::Empty(_) => panic!("nobody"),
    });
    people.collect()
}

/// A message that is there.
pub(super) fn full(message: tl::enums::Message) -> tl::types::Message {
    let tl::enums::Message::Message(message) = message else { panic!("{message:?}") };
    message
}

pub(super) fn peer_of(user: &tl::types::User) -> tl::enums::InputPeer {
    let (user_id, access_hash) = (user.id, user.access_hash.unwrap_or(0));
    tl::enums::InputPeer::User(tl::types::InputPeerUser { user_id, access_hash })
}

/// Somebody named without an access hash, as bots may.
pub(super) fn bare_peer(user_id: i64) -> tl::enums::InputPeer {
    tl::enums::InputPeer::User(tl::types::InputPeerUser { user_id, access_hash: 0 })
}

pub(in crate::sandbox) fn send_message(
    peer: tl::enums::InputPeer,
    message: &str,
    random_id: i64,
) -> f::messages::SendMessage {
    f::messages::SendMessage {
        no_webpage: false,
        silent: false,
        background: false,
        clear_draft: false,
        noforwards: false,
        update_stickersets_order: false,
        invert_media: false,
        allow_paid_floodskip: false,
        peer,
        reply_to: None,
        message: message.to_owned(),
        random_id,
        reply_markup: None,
        entities: None,
        schedule_date: None,
        schedule_repeat_period: None,
        send_as: None,
        quick_reply_shortcut: None,
        effect: None,
        allow_paid_stars: None,
        suggested_post: None,
        rich_message: None,
    }
}

pub(super) fn edit_message(
    peer: tl::enums::InputPeer,
    id: i32,
    message: &str,
    reply_markup: Option<tl::enums::ReplyMarkup>,
) -> f::messages::EditMessage {
    f::messages::EditMessage {
        no_webpage: false,
        invert_media: false,
        peer,
        id,
        message: Some(message.to_owned()),
        media: None,
        reply_markup,
        entities: None,
        schedule_date: None,
        schedule_repeat_period: None,
        quick_reply_shortcut_id: None,
        rich_message: None,
    }
}

pub(in crate::sandbox) fn reply_to(id: i32) -> tl::enums::InputReplyTo {
    tl::enums::InputReplyTo::Message(tl::types::InputReplyToMessage {
        reply_to_msg_id: id,
        top_msg_id: None,
        reply_to_peer_id: None,
        quote_text: None,
        quote_entities: None,
        quote_offset: None,
        monoforum_peer_id: None,
        todo_item_id: None,
        poll_option: None,
    })
}

/// One row of inline buttons: text and data, or text and address.
pub(in crate::sandbox) fn inline(buttons: &[(&str, &str)]) -> tl::enums::ReplyMarkup {
    let buttons = buttons
        .iter()
        .map(|(text, action)| {
            let r#type = if action.contains("://") {
                tl::enums::InlineButtonType::Url(tl::types::InlineButtonTypeUrl { url: (*action).to_owned() })
            } else {
                tl::enums::InlineButtonType::Callback(tl::types::InlineButtonTypeCallback {
                    requires_password: false,
                    data: action.as_bytes().to_vec(),
                })
            };
            tl::types::KeyboardInlineButton { style: None, text: (*text).to_owned(), r#type }.into()
        })
        .collect();
    tl::types::ReplyInlineMarkup {
        force_reply: false,
        rows: vec![tl::types::KeyboardInlineButtonRow { buttons }.into()],
    }
    .into()
}

/// A reply keyboard: a button that asks for the phone number, and one that says its text.
pub(super) fn phone_keyboard() -> tl::enums::ReplyMarkup {
    let button =
        |text: &str, r#type| tl::types::KeyboardButton { style: None, text: text.to_owned(), r#type }.into();
    let row = |button| tl::types::KeyboardButtonRow { buttons: vec![button] }.into();
    tl::types::ReplyKeyboardMarkup {
        resize: true,
        single_use: true,
        selective: false,
        persistent: false,
        force_reply: false,
        rows: vec![
            row(button("Share my number", tl::enums::ButtonType::RequestPhone)),
            row(button("No", tl::enums::ButtonType::Default)),
        ],
        placeholder: None,
    }
    .into()
}

/// The id of a message that was just sent.
pub(super) fn sent_id(answer: tl::enums::Updates) -> i32 {
    if let tl::enums::Updates::UpdateShortSentMessage(sent) = answer {
        return sent.id;
    }
    let tl::enums::Updates::Updates(mut updates) = answer else { panic!("{answer:?}") };
    let Some(tl::enums::Update::NewMessage(new)) = updates.updates.pop() else { panic!("nothing sent") };
    full(new.message).id
}

pub(super) fn get_self() -> f::users::GetUsers {
    f::users::GetUsers { id: vec![tl::enums::InputUser::UserSelf] }
}

pub(super) fn user(authorization: tl::enums::auth::Authorization) -> tl::types::User {
    let tl::enums::auth::Authorization::Authorization(tl::types::auth::Authorization {
        user: tl::enums::User::User(user),
        ..
    }) = authorization
    else {
        panic!("not signed in: {authorization:?}")
    };
    user
}

/// The proof for `auth.checkPassword`, made the way clients make it.
pub(super) fn password_proof(
    password: &tl::types::account::Password,
    text: &str,
) -> (i64, f::auth::CheckPassword) {
    let Some(tl::enums::PasswordKdfAlgo::Sha256Sha256Pbkdf2Hmacsha512iter100000Sha256ModPow(algorithm)) =
        &password.current_algo
    else {
        panic!("no algorithm")
    };
    let (m1, a) = grammers_crypto::two_factor_auth::calculate_2fa(
        &algorithm.salt1,
        &algorithm.salt2,
        &algorithm.p,
        &algorithm.g,
        password.srp_b.clone().unwrap(),
        password.secure_random.clone(),
        text,
    );
    let srp_id = password.srp_id.unwrap();
    let proof = tl::types::InputCheckPasswordSrp { srp_id, a: a.to_vec(), m1: m1.to_vec() };
    (srp_id, f::auth::CheckPassword { password: tl::enums::InputCheckPasswordSrp::Srp(proof) })
}

/// The least that a sender pool needs: data centres with keys.
#[derive(Debug)]
pub(super) struct TestSession {
    pub(super) options: Mutex<HashMap<i32, DcOption>>,
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<'static, Result<T, std::convert::Infallible>> {
    Box::pin(async move { Ok(value) })
}

impl Session for TestSession {
    type Error = std::convert::Infallible;

    fn home_dc_id(&self) -> Result<i32, Self::Error> {
        Ok(2)
    }

    fn set_home_dc_id(&self, _: i32) -> BoxFuture<'_, Result<(), Self::Error>> {
        ready(())
    }

    fn dc_option(&self, dc_id: i32) -> Result<Option<DcOption>, Self::Error> {
        Ok(self.options.lock().unwrap().get(&dc_id).cloned())
    }

    fn set_dc_option(&self, option: &DcOption) -> BoxFuture<'_, Result<(), Self::Error>> {
        self.options.lock().unwrap().insert(option.id, option.clone());
        ready(())
    }

    fn peer(&self, _: PeerId) -> BoxFuture<'_, Result<Option<PeerInfo>, Self::Error>> {
        ready(None)
    }

    fn cache_peer(&self, _: PeerInfo) -> BoxFuture<'_, Result<(), Self::Error>> {
        ready(())
    }

    fn updates_state(&self) -> BoxFuture<'_, Result<UpdatesState, Self::Error>> {
        ready(UpdatesState::default())
    }

    fn set_update_state(&self, _: UpdateState) -> BoxFuture<'_, Result<(), Self::Error>> {
        ready(())
    }
}

/// A client that puts every packet together by hand, in full framing.
pub(super) struct Raw {
    reader: tokio::net::tcp::OwnedReadHalf,
    writer: tokio::net::tcp::OwnedWriteHalf,
    packer: Packer,
    pub(super) key: AuthKey,
    pub(super) salt: i64,
    pub(super) session: i64,
    last_id: i64,
    content: i32,
    pending: VecDeque<Message>,
}

impl Raw {
    /// A fresh message id.
    pub(super) fn id(&mut self) -> i64 {
        self.id_at(0)
    }

    /// A fresh message id of a clock that is wrong by so many seconds.
    pub(super) fn id_at(&mut self, seconds: i64) -> i64 {
        let now = SystemClock.now().as_millis() + seconds * 1000;
        let id = ((now / 1000) << 32 | (now % 1000) << 22) & !3;
        if seconds != 0 {
            return id;
        }
        self.last_id = id.max(self.last_id + 4);
        self.last_id
    }

    /// The next sequence number.
    pub(super) fn seq_no(&mut self, content: bool) -> i32 {
        let seq_no = self.content * 2 + i32::from(content);
        self.content += i32::from(content);
        seq_no
    }

    /// A message of the right form.
    pub(super) fn message(&mut self, body: Vec<u8>, content: bool) -> Message {
        Message { id: self.id(), seq_no: self.seq_no(content), body }
    }

    /// The first request of a key: introduces the client.
    pub(super) fn introduction(&mut self) -> Message {
        let body = f::InvokeWithLayer {
            layer: tl::LAYER,
            query: f::InitConnection {
                api_id: 7,
                device_model: "raw".to_owned(),
                system_version: "1".to_owned(),
                app_version: "1".to_owned(),
                system_lang_code: "en".to_owned(),
                lang_pack: String::new(),
                lang_code: "en".to_owned(),
                proxy: None,
                params: None,
                query: f::help::GetConfig {},
            },
        };
        self.message(body.to_bytes(), true)
    }

    /// Sends a message in a packet of its own.
    pub(super) async fn send(&mut self, message: &Message) {
        let packet = seal_as_client(&self.key, self.salt, self.session, message);
        self.send_packet(&packet).await;
    }

    /// Sends any bytes as a packet.
    pub(super) async fn send_packet(&mut self, packet: &[u8]) {
        let frame = self.packer.pack(packet);
        self.send_bytes(&frame).await;
    }

    /// Sends any bytes. The server may have closed already.
    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.writer.write_all(bytes).await;
    }

    /// The next message from the server, containers taken apart; `None` at the end of the connection.
    pub(super) async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.pending.pop_front() {
                return Some(message);
            }
            let packet = soon(self.next_packet()).await?;
            let theirs = grammers_crypto::AuthKey::from_bytes(*self.key.bytes());
            let mut packet = packet;
            let plain = grammers_crypto::decrypt_data_v2(&mut packet, &theirs).unwrap();
            let mut cursor = Cursor::from_slice(plain);
            let _salt = i64::deserialize(&mut cursor).unwrap();
            assert_eq!(i64::deserialize(&mut cursor).unwrap(), self.session);
            let message = read_message(&mut cursor);
            if message.body[..4] == 0x73f1_f8dc_u32.to_le_bytes() {
                let mut cursor = Cursor::from_slice(&message.body[4..]);
                let count = i32::deserialize(&mut cursor).unwrap();
                for _ in 0..count {
                    self.pending.push_back(read_message(&mut cursor));
                }
            } else {
                self.pending.push_back(message);
            }
        }
    }

    /// One frame: a packet, or a transport error as `Err`.
    pub(super) async fn next_frame(&mut self) -> Option<Result<Vec<u8>, i32>> {
        let head = self.reader.read_i32_le().await.ok()?;
        if head < 0 {
            // Three times the code.
            let mut rest = [0; 8];
            self.reader.read_exact(&mut rest).await.ok()?;
            return Some(Err(-head));
        }
        let mut rest = vec![0; usize::try_from(head).unwrap() - 4];
        self.reader.read_exact(&mut rest).await.ok()?;
        rest.truncate(rest.len() - 4);
        Some(Ok(rest.split_off(4)))
    }

    async fn next_packet(&mut self) -> Option<Vec<u8>> {
        self.next_frame().await?.ok()
    }

    /// The next message with this constructor; others are passed over.
    pub(super) async fn find(&mut self, constructor: u32) -> Message {
        loop {
            let message = self.next().await.expect("the connection ended");
            if message.body[..4] == constructor.to_le_bytes() {
                return message;
            }
        }
    }

    /// The answer to a request: its message id, and the result's bytes.
    pub(super) async fn answer_to(&mut self, request: i64) -> (i64, Vec<u8>) {
        loop {
            let message = self.find(0xf35c_6d01).await;
            if message.body[4..12] == request.to_le_bytes() {
                return (message.id, message.body[12..].to_vec());
            }
        }
    }

    /// Introduces the client and waits until that is answered.
    pub(super) async fn introduce(&mut self) {
        let message = self.introduction();
        self.send(&message).await;
        self.answer_to(message.id).await;
    }

    /// Calls a method. The error's code and name when it is refused.
    pub(super) async fn call<R: RemoteCall + Sync>(&mut self, request: &R) -> Result<R::Return, String> {
        let message = self.message(request.to_bytes(), true);
        self.send(&message).await;
        let (_, result) = self.answer_to(message.id).await;
        read_result::<R>(&result)
    }

    /// The transport error that the connection ends with, if it does.
    pub(super) async fn transport_error(&mut self) -> Option<i32> {
        soon(async {
            loop {
                if let Err(code) = self.next_frame().await? {
                    return Some(code);
                }
            }
        })
        .await
    }

    /// This end's port.
    pub(super) fn local_port(&self) -> u16 {
        self.writer.local_addr().unwrap().port()
    }

    /// Sends a message; whether the connection took it.
    pub(super) async fn send_was_taken(&mut self, message: &Message) -> bool {
        let packet = seal_as_client(&self.key, self.salt, self.session, message);
        let frame = self.packer.pack(&packet);
        self.writer.write_all(&frame).await.is_ok()
    }

    /// The session id of the next packet.
    pub(super) async fn next_session_id(&mut self) -> i64 {
        let mut packet = soon(self.next_packet()).await.unwrap();
        let theirs = grammers_crypto::AuthKey::from_bytes(*self.key.bytes());
        let plain = grammers_crypto::decrypt_data_v2(&mut packet, &theirs).unwrap();
        i64::from_bytes(&plain[8..]).unwrap()
    }

    /// Whether the server closes the connection, whatever it says before.
    pub(super) async fn is_closed(&mut self) -> bool {
        soon(async {
            while self.next_frame().await.is_some() {}
            true
        })
        .await
    }
}

/// Reads what an `rpc_result` holds.
pub(super) fn read_result<R: RemoteCall + Sync>(result: &[u8]) -> Result<R::Return, String> {
    if let Ok(tl::enums::RpcError::Error(error)) = tl::enums::RpcError::from_bytes(result) {
        return Err(format!("{} {}", error.error_code, error.error_message));
    }
    let unpacked = crate::sandbox::wire::envelope::gunzip(result, &mut { u64::MAX });
    Ok(R::Return::from_bytes(unpacked.as_deref().unwrap_or(result)).unwrap())
}

fn read_message(cursor: &mut Cursor<'_>) -> Message {
    let id = i64::deserialize(cursor).unwrap();
    let seq_no = i32::deserialize(cursor).unwrap();
    let length = i32::deserialize(cursor).unwrap();
    let mut body = vec![0; usize::try_from(length).unwrap()];
    cursor.read_exact(&mut body).unwrap();
    Message { id, seq_no, body }
}

/// Makes an authorisation key the way the service does: the client's half of the exchange, in intermediate framing.
pub(super) async fn exchange(address: SocketAddr, ids: &Ids) -> AuthKey {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut asking = Asking { stream, packer: Packer::new(Framing::Intermediate), id: 0 };
    asking.stream.write_all(&[0xee; 4]).await.unwrap();
    let nonce = ids.bytes();
    let tl::enums::ResPq::Pq(pq) = asking.ask(&f::ReqPqMulti { nonce }).await;
    assert_eq!(pq.nonce, nonce);
    let rsa = &test_rsa().1;
    assert_eq!(pq.server_public_key_fingerprints, [rsa.fingerprint()]);
    let (p, q) = grammers_crypto::factorize(u64::from_be_bytes(pq.pq.clone().try_into().unwrap()));
    let (p, q) = (BigUint::from(p).to_bytes_be(), BigUint::from(q).to_bytes_be());
    let (server_nonce, new_nonce) = (pq.server_nonce, ids.bytes());
    let inner = tl::enums::PQInnerData::Data(tl::types::PQInnerData {
        pq: pq.pq,
        p: p.clone(),
        q: q.clone(),
        nonce,
        server_nonce,
        new_nonce,
    });
    let key = grammers_crypto::rsa::Key::new(&rsa.modulus().to_string(), "65537").unwrap();
    let request = f::ReqDhParams {
        nonce,
        server_nonce,
        p,
        q,
        public_key_fingerprint: rsa.fingerprint(),
        encrypted_data: grammers_crypto::rsa::encrypt_hashed(&inner.to_bytes(), &key, &ids.bytes()),
    };
    let tl::enums::ServerDhParams::Ok(mut params) = asking.ask(&request).await else { panic!("refused") };
    let (aes_key, iv) = generate_key_data_from_nonce(&server_nonce, &new_nonce);
    aes::ige_decrypt(&mut params.encrypted_answer, &aes_key, &iv);
    let tl::enums::ServerDhInnerData::Data(answer) =
        tl::enums::ServerDhInnerData::from_bytes(&params.encrypted_answer[20..]).unwrap();
    let b = BigUint::from_bytes_be(&ids.bytes::<256>());
    let inner = tl::enums::ClientDhInnerData::Data(tl::types::ClientDhInnerData {
        nonce,
        server_nonce,
        retry_id: 0,
        g_b: srp::power(&b).to_bytes_be(),
    })
    .to_bytes();
    let mut encrypted_data = [&sha1(&[&inner])[..], &inner].concat();
    encrypted_data.resize(encrypted_data.len().next_multiple_of(16), 0);
    aes::ige_encrypt(&mut encrypted_data, &aes_key, &iv);
    let request = f::SetClientDhParams { nonce, server_nonce, encrypted_data };
    let tl::enums::SetClientDhParamsAnswer::DhGenOk(_) = asking.ask(&request).await else {
        panic!("refused")
    };
    let shared = BigUint::from_bytes_be(&answer.g_a).modpow(&b, &srp::prime());
    AuthKey::new(srp::padded(&shared))
}

struct Asking {
    stream: TcpStream,
    packer: Packer,
    id: i64,
}

impl Asking {
    async fn ask<R: RemoteCall + Sync>(&mut self, request: &R) -> R::Return {
        let body = request.to_bytes();
        self.id += 4;
        let mut packet = vec![0; 8];
        packet.extend(self.id.to_le_bytes());
        packet.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        packet.extend(body);
        self.stream.write_all(&self.packer.pack(&packet)).await.unwrap();
        let length = soon(self.stream.read_u32_le()).await.unwrap();
        let mut answer = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut answer).await.unwrap();
        R::Return::from_bytes(&answer[20..]).unwrap()
    }
}
