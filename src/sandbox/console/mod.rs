//! The control API: makes people and bots, orders faults, moves the clock. Calls only: their shapes are in `bodies`,
//! what they do is in `hub` and `world`, who may call is in `guard`. Playing a person is `people`.
#![expect(clippy::unused_async, reason = "poem-openapi takes async handlers only")]

mod bodies;
mod errors;
mod guard;
mod links;
mod people;
mod phone;

use std::time::Duration;

use grammers_tl_types as tl;
use poem::EndpointExt;
use poem::Response;
use poem::Route;
use poem::Server;
use poem::endpoint::make_sync;
use poem::listener::TcpAcceptor;
use poem::web::Html;
use poem_openapi::OpenApi;
use poem_openapi::OpenApiService;
use poem_openapi::param::Path;
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::domain::clock::Clock;
use crate::domain::ids::Ids;
use crate::domain::page_policy::scripted_page;
use crate::lifecycle::network_sleep;

use super::Bot;
use super::NewBot;
use super::NewPerson;
use super::Sandbox;
use super::faults::Fault;
use super::hub::Hub;
use super::wire::envelope::AuthKey;
use super::wire::keyex::NewKey;
use super::world::AccountId;
use super::world::Phone;
use super::world::World;
use super::world::WorldError;

use bodies::AccountBody;
use bodies::Advance;
use bodies::BotBody;
use bodies::CallBody;
use bodies::CodeBody;
use bodies::DataCentreBody;
use bodies::KeyBody;
use bodies::MessageBody;
use bodies::NewAccount;
use bodies::NewBotBody;
use bodies::NewKeyBody;
use bodies::NowBody;
use bodies::OkBody;
use bodies::ServerBody;
use bodies::VersionBody;
use bodies::message_body;
use errors::Refusal;
use people::People;

/// The longest that a request may wait for something to happen, seconds.
const MAX_WAIT: u32 = 25;
/// How long requests may go on after the sandbox was told to stop.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// Serves the control API until the sandbox stops.
pub(super) async fn serve(sandbox: Sandbox, listener: TcpListener, public: bool) {
    let stopping = sandbox.hub.tasks.stopping();
    let acceptor = match listener.into_std().and_then(TcpAcceptor::from_std) {
        Ok(acceptor) => acceptor,
        Err(error) => {
            tracing::error!(%error, "the sandbox control API cannot listen");
            return;
        }
    };
    let served = Server::new_with_acceptor(acceptor)
        .run_with_graceful_shutdown(routes(sandbox, public), stopping.cancelled(), Some(SHUTDOWN_LIMIT))
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the sandbox control API ended");
    }
}

fn routes(sandbox: Sandbox, public: bool) -> impl poem::Endpoint<Output = Response> {
    let apis = (Api { sandbox: sandbox.clone() }, People { sandbox });
    let service = OpenApiService::new(apis, "Sandbox Telegram", env!("CARGO_PKG_VERSION"))
        .description("Plays the people and bots of the sandbox Telegram.");
    let docs = service.swagger_ui_html();
    let policy = scripted_page(&docs);
    let docs = make_sync(move |_| Html(docs.clone()));
    let docs = phone::guarded(Route::new().at("/", docs), &policy);
    let document = service.spec_endpoint();
    phone::add_to(Route::new())
        .nest("/docs", docs)
        .at("/openapi.json", document)
        .nest_no_strip("/api", service)
        .before(move |request| async move { guard::check(request, public).await })
        .catch_all_error(errors::json_errors)
        .map_to_response()
}

#[derive(Debug)]
struct Api {
    sandbox: Sandbox,
}

#[OpenApi]
impl Api {
    /// People, oldest first.
    #[oai(path = "/api/accounts", method = "get")]
    async fn accounts(&self) -> Json<Vec<AccountBody>> {
        let now = self.hub().clock.now();
        let look = |world: &World| {
            world.people().filter_map(|account| AccountBody::of(world, account, now)).collect()
        };
        Json(self.hub().look(look))
    }

    /// Makes a person.
    #[oai(path = "/api/accounts", method = "post")]
    async fn add_account(&self, body: Json<NewAccount>) -> Result<Json<AccountBody>, Refusal> {
        let sandbox = self.sandbox.clone();
        let person = NewPerson {
            phone: body.0.phone,
            first_name: body.0.first_name,
            last_name: body.0.last_name,
            username: body.0.username,
            two_factor_password: body.0.two_factor_password,
            lang_code: body.0.lang_code,
            dc: body.0.dc,
        };
        // A password costs a tenth of a second of computing.
        let made = tokio::task::spawn_blocking(move || sandbox.add_person(person))
            .await
            .map_err(|_| WorldError::NotKept)??;
        let now = self.hub().clock.now();
        let look = |world: &World| {
            let account = world.account(AccountId(made.id))?;
            AccountBody::of(world, account, now)
        };
        Ok(Json(self.hub().look(look).ok_or(WorldError::NoSuchAccount)?))
    }

    /// Bots, oldest first.
    #[oai(path = "/api/bots", method = "get")]
    async fn bots(&self) -> Json<Vec<BotBody>> {
        let bots = self.hub().look(|world| world.bots().filter_map(Bot::of).collect::<Vec<_>>());
        Json(bots.into_iter().map(Into::into).collect())
    }

    /// Makes a bot.
    #[oai(path = "/api/bots", method = "post")]
    async fn add_bot(&self, body: Json<NewBotBody>) -> Result<Json<BotBody>, Refusal> {
        let bot = NewBot { username: body.0.username, name: body.0.name, dc: body.0.dc };
        Ok(Json(self.sandbox.add_bot(bot)?.into()))
    }

    /// A person's messages, oldest first; waits for one to come when there is none after `after`.
    #[oai(path = "/api/accounts/:phone/messages", method = "get")]
    async fn messages(
        &self,
        phone: Path<String>,
        after: Query<Option<i32>>,
        wait: Query<Option<u32>>,
    ) -> Result<Json<Vec<MessageBody>>, Refusal> {
        let phone = parse_phone(&phone.0)?;
        let after = after.0.unwrap_or(0);
        let account = self.hub().look(|world| world.by_phone(&phone).map(|account| account.id));
        let mail = self.hub().mail(account.ok_or(WorldError::NoSuchAccount)?);
        let look = |world: &World| {
            let Some(account) = world.by_phone(&phone) else {
                return Some(Err(WorldError::NoSuchAccount));
            };
            let messages: Vec<MessageBody> = world
                .messages_after(account.id, after)
                .map(|message| message_body(world, account.id.0, &message))
                .collect();
            (!messages.is_empty()).then_some(Ok(messages))
        };
        let messages = self.wait_for(wait.0, mail, look).await.unwrap_or(Ok(vec![]))?;
        Ok(Json(messages))
    }

    /// Which state of the world this is; with `after` and `wait` once it is another one, so that a page need not ask
    /// again and again.
    #[oai(path = "/api/changes", method = "get")]
    async fn changes(&self, after: Query<Option<u64>>, wait: Query<Option<u32>>) -> Json<VersionBody> {
        let versions = self.hub().changes();
        let version = || *versions.borrow();
        let another = |_: &World| Some(version()).filter(|version| Some(*version) != after.0);
        let changed = self.wait_for(wait.0, versions.clone(), another).await;
        Json(VersionBody { version: changed.unwrap_or_else(version) })
    }

    /// The newest unused login code of a number, also of one without an account; waits for one to come.
    #[oai(path = "/api/accounts/:phone/code", method = "get")]
    async fn code(&self, phone: Path<String>, wait: Query<Option<u32>>) -> Result<Json<CodeBody>, Refusal> {
        let phone = parse_phone(&phone.0)?;
        let (clock, changes) = (&self.hub().clock, self.hub().changes());
        let found = self.wait_for(wait.0, changes, |world| world.newest_code(&phone, clock.now())).await;
        found
            .map(|code| Json(CodeBody { code }))
            .ok_or_else(|| Refusal::not_found("no unused login code for this number"))
    }

    /// The faults in force, with what is left of them.
    #[oai(path = "/api/faults", method = "get")]
    async fn faults(&self) -> Result<Json<Vec<serde_json::Value>>, Refusal> {
        let faults = self.hub().faults.list();
        let shown = faults.into_iter().map(|(fault, left)| shown_fault(&fault, left));
        Ok(Json(shown.collect::<Result<_, _>>()?))
    }

    /// Orders a fault
    ///
    /// Until it is deleted, or as often as `times` says:
    /// - `{"method":"auth.sendCode","error":"FLOOD_WAIT_30","times":1}`: calls of a method (`*`: of any) are refused; with
    ///   `"code"` by this code, with `"account"` (a phone number or a user name) only those of this account
    /// - `{"method":"*","delay_ms":500}`: they are answered later
    /// - `{"cut_instead_of_answer":"messages.sendMessage","times":1}`: carried out, then cut
    /// - `{"disconnect_every":10}`: every tenth call is cut before it is carried out
    /// - `{"silent":true}`, `{"refuse_connections":true}`: until the same with `false`
    /// - `{"drop_pushes":3}`: so many updates are not pushed
    /// - `{"difference_slice":2}`, `{"difference_too_long":1}`: what `updates.getDifference` answers
    /// - `{"wrong_salt":3}`: so many packets are refused for their salt
    /// - `{"wrong_session_id":true}`: the next message names another session
    /// - `{"sent_code":{"type":"email_setup","times":1}}`: what `auth.sendCode` answers (`email_setup`, `payment`, `email`,
    ///   `success`, `app`, `sms`)
    /// - `{"bad_srp_prime":true}`: 2FA with an unknown prime
    ///
    /// At once:
    /// - `{"disconnect":"now"}`: open connections are cut
    /// - `{"freeze":"now"}`: open connections never answer again, and stay open; new ones work
    /// - `{"revoke":"+1…"}`, `{"ban":"+1…"}`, `{"migrate":{"phone":"+1…","dc":4}}`: the account's sessions end
    /// - `{"forget_key":"+1…"}`, `{"forget_key":"all"}`: their keys are unknown (transport error 404)
    #[oai(path = "/api/faults", method = "post")]
    async fn add_fault(&self, body: Json<serde_json::Value>) -> Result<Json<serde_json::Value>, Refusal> {
        let fault: Fault = serde_json::from_value(body.0).map_err(|_| Refusal::invalid("no such fault"))?;
        let shown = shown_fault(&fault, None)?;
        self.hub().order(fault)?;
        Ok(Json(shown))
    }

    /// Takes every fault back; calls that are being held up go on at once.
    #[oai(path = "/api/faults", method = "delete")]
    async fn clear_faults(&self) -> Json<OkBody> {
        self.hub().faults.clear();
        Json(OkBody { ok: true })
    }

    /// Moves business time forward.
    #[oai(path = "/api/clock", method = "post")]
    async fn clock(&self, body: Json<Advance>) -> Result<Json<NowBody>, Refusal> {
        let now = self.hub().advance_clock(Duration::from_secs(body.0.advance_seconds))?;
        Ok(Json(NowBody { now: now.as_millis() }))
    }

    /// Empties the world.
    #[oai(path = "/api/reset", method = "post")]
    async fn reset(&self) -> Result<Json<OkBody>, Refusal> {
        self.hub().reset()?;
        Ok(Json(OkBody { ok: true }))
    }

    /// The methods that were called.
    #[oai(path = "/api/calls", method = "get")]
    async fn calls(&self) -> Json<Vec<CallBody>> {
        let calls = self.hub().calls();
        let bodies = calls.iter().map(|(method, seen)| CallBody {
            method: (*method).to_owned(),
            count: seen.count,
            unknown: seen.unknown,
        });
        Json(bodies.collect())
    }

    /// What any MTProto client needs to join.
    #[oai(path = "/api/server", method = "get")]
    async fn server(&self) -> Json<ServerBody> {
        let network = self.sandbox.network();
        let dcs =
            network.dcs.iter().map(|(id, address)| DataCentreBody { id: *id, address: address.to_string() });
        Json(ServerBody { dcs: dcs.collect(), rsa_public_key: network.rsa_public_key, layer: tl::LAYER })
    }

    /// Makes an authorisation key for a client that cannot set an RSA key.
    #[oai(path = "/api/keys", method = "post")]
    async fn add_key(&self, body: Json<NewKeyBody>) -> Result<Json<KeyBody>, Refusal> {
        let hub = self.hub();
        let Some((dc, address)) = hub.data_centres.iter().find(|(id, _)| *id == body.0.dc) else {
            return Err(WorldError::DataCentreInvalid.into());
        };
        let new = random_key(&hub.ids);
        hub.add_key(*dc, &new)?;
        Ok(Json(KeyBody {
            dc: *dc,
            address: address.to_string(),
            auth_key: grammers_crypto::hex::to_hex(new.key.bytes()),
        }))
    }
}

impl Api {
    fn hub(&self) -> &Hub {
        &self.sandbox.hub
    }

    /// Looks until there is something to see, the time is up, or the sandbox stops; again whenever there were changes.
    async fn wait_for<C: Send + Sync, T>(
        &self,
        seconds: Option<u32>,
        mut changes: watch::Receiver<C>,
        look: impl Fn(&World) -> Option<T>,
    ) -> Option<T> {
        let hub = self.hub();
        let stopping = hub.tasks.stopping();
        let limit = Duration::from_secs(u64::from(seconds.unwrap_or(0).min(MAX_WAIT)));
        let mut time_up = std::pin::pin!(network_sleep(limit));
        loop {
            if let Some(found) = hub.look(&look) {
                return Some(found);
            }
            if limit.is_zero() {
                return None;
            }
            tokio::select! {
                seen = changes.changed() => seen.ok()?,
                () = &mut time_up => return None,
                () = stopping.cancelled() => return None,
            }
        }
    }
}

fn parse_phone(written: &str) -> Result<Phone, WorldError> {
    Phone::parse(written).ok_or(WorldError::PhoneInvalid)
}

fn random_key(ids: &Ids) -> NewKey {
    NewKey { key: AuthKey::new(ids.bytes()), first_salt: ids.int64(), expires_in: None }
}

fn shown_fault(fault: &Fault, left: Option<u32>) -> Result<serde_json::Value, Refusal> {
    let mut shown = serde_json::to_value(fault)
        .map_err(|_| Refusal::Internal(Refusal::body("INTERNAL", "internal error")))?;
    if let (Some(left), Some(fields)) = (left, shown.as_object_mut()) {
        fields.insert("left".to_owned(), left.into());
    }
    Ok(shown)
}
