//! Requests of the Telegram API: takes the wrappers off, finds the method, refuses what must not be decoded.
//! What a method does is in `look`, `messages`, `people` and `sign_in`; what happens in the world is in `world`, and what
//! Telegram calls a refusal in `errors`.

mod errors;
mod look;
mod markup;
mod messages;
mod people;
mod sign_in;

use std::num::NonZeroUsize;

use grammers_tl_types as tl;
use tl::Cursor;
use tl::Deserializable;
use tl::Identifiable;
use tl::RemoteCall;
use tl::Serializable;
use tl::functions as f;

use super::hub::Hub;
use super::wire::envelope::GZIP_PACKED;
use super::wire::envelope::constructor;
use super::wire::envelope::gunzip;
use super::world::CallbackAnswer;
use super::world::DeviceId;
use super::world::Press;
use super::world::Refusal;
use super::world::Sender;
use super::world::World;

pub(crate) use errors::RpcError;

/// How many wrappers a request may have.
const MAX_WRAPPERS: usize = 16;
/// How often a request may name a type that contains itself: decoding recurses, and the stack ends.
const MAX_NESTING: usize = 32;

/// The constructors through which a request that the sandbox decodes can nest.
const NESTING: [u32; 4] = [
    tl::types::JsonArray::CONSTRUCTOR_ID,
    tl::types::JsonObject::CONSTRUCTOR_ID,
    tl::types::InputPeerUserFromMessage::CONSTRUCTOR_ID,
    tl::types::InputPeerChannelFromMessage::CONSTRUCTOR_ID,
];

/// What the sandbox has not and whose decoding could recurse without end or fill the memory: rich messages, and media
/// within media.
const UNSUPPORTED: [u32; 6] = [
    tl::types::InputRichMessage::CONSTRUCTOR_ID,
    tl::types::InputRichMessageHtml::CONSTRUCTOR_ID,
    tl::types::InputRichMessageMarkdown::CONSTRUCTOR_ID,
    tl::types::InputMediaInvoice::CONSTRUCTOR_ID,
    tl::types::InputMediaPaidMedia::CONSTRUCTOR_ID,
    tl::types::InputMediaPoll::CONSTRUCTOR_ID,
];

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) device: DeviceId,
    /// The data centre that was asked.
    pub(crate) dc: i32,
}

/// A request without its wrappers.
#[derive(Debug)]
pub(crate) struct Call {
    id: u32,
    arguments: Vec<u8>,
    /// What `initConnection` inside `invokeWithLayer` said.
    introduction: Option<Introduction>,
    /// Wrapped in `invokeWithoutUpdates`.
    pub(crate) without_updates: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Introduction {
    layer: Option<i32>,
    api_id: i32,
}

/// The unread rest of a wrapper: the wrapped request.
struct Rest(Vec<u8>);

impl Deserializable for Rest {
    fn deserialize(cursor: &mut Cursor<'_>) -> tl::deserialize::Result<Self> {
        let mut rest = Vec::new();
        cursor.read_to_end(&mut rest)?;
        Ok(Self(rest))
    }
}

impl Call {
    /// Takes the wrappers off a request's body; `None` when they cannot be read. One of them may be gzip, within what
    /// its packet may still inflate to, bytes.
    pub(crate) fn read(mut body: Vec<u8>, inflatable: &mut u64) -> Option<Self> {
        let mut compressed = false;
        let (mut introduction, mut layer, mut without_updates) = (None, None, false);
        for _ in 0..MAX_WRAPPERS {
            if nests_deeply(&body) {
                return None;
            }
            let rest = body.get(4..)?;
            body = match constructor(&body) {
                f::InvokeWithLayer::<Rest>::CONSTRUCTOR_ID => {
                    let wrapper = f::InvokeWithLayer::<Rest>::from_bytes(rest).ok()?;
                    layer = Some(wrapper.layer);
                    wrapper.query.0
                }
                f::InitConnection::<Rest>::CONSTRUCTOR_ID => {
                    let wrapper = f::InitConnection::<Rest>::from_bytes(rest).ok()?;
                    let api_id = wrapper.api_id;
                    introduction = Some(Introduction { layer, api_id });
                    wrapper.query.0
                }
                f::InvokeWithoutUpdates::<Rest>::CONSTRUCTOR_ID => {
                    without_updates = true;
                    f::InvokeWithoutUpdates::<Rest>::from_bytes(rest).ok()?.query.0
                }
                // Requests are carried out in the order they come, so there is nothing to wait for.
                f::InvokeAfterMsg::<Rest>::CONSTRUCTOR_ID => {
                    f::InvokeAfterMsg::<Rest>::from_bytes(rest).ok()?.query.0
                }
                f::InvokeAfterMsgs::<Rest>::CONSTRUCTOR_ID => {
                    f::InvokeAfterMsgs::<Rest>::from_bytes(rest).ok()?.query.0
                }
                GZIP_PACKED if !std::mem::replace(&mut compressed, true) => gunzip(&body, inflatable)?,
                GZIP_PACKED => return None,
                id => {
                    return Some(Self { id, arguments: rest.to_vec(), introduction, without_updates });
                }
            };
        }
        None
    }

    /// The method's name, as in the TL schema.
    pub(crate) fn method(&self) -> &'static str {
        tl::name_for_id(self.id)
    }

    /// Decodes the arguments, lets `handle` answer, encodes the answer. A handler that answers another type than the
    /// method has does not compile.
    fn answer<R>(&self, handle: impl FnOnce(R) -> Result<R::Return, RpcError>) -> Result<Vec<u8>, RpcError>
    where
        R: RemoteCall + Deserializable,
        R::Return: Serializable,
    {
        handle(self.decode()?).map(|answer| answer.to_bytes())
    }

    fn decode<R: Deserializable>(&self) -> Result<R, RpcError> {
        if words(&self.arguments).any(|word| UNSUPPORTED.contains(&word)) {
            return Err(Refusal::MediaInvalid.into());
        }
        let mut cursor = Cursor::from_slice(&self.arguments);
        let request = R::deserialize(&mut cursor).map_err(|_| RpcError::new(400, "INPUT_REQUEST_INVALID"))?;
        if cursor.pos() < self.arguments.len() {
            return Err(RpcError::new(400, "INPUT_REQUEST_TOO_LONG"));
        }
        Ok(request)
    }
}

/// Whether decoding these bytes could recurse too deeply. Counts what looks like a nesting constructor.
fn nests_deeply(body: &[u8]) -> bool {
    words(body).filter(|word| NESTING.contains(word)).count() > MAX_NESTING
}

/// Everything in there that a decoder could take for a constructor.
fn words(body: &[u8]) -> impl Iterator<Item = u32> {
    body.chunks_exact(4).map(constructor)
}

/// What a request leads to.
#[derive(Debug)]
pub(crate) enum Reply {
    Now(Result<Vec<u8>, RpcError>),
    /// A button was pressed: the bot's answer, to be put into words by [`pressed`].
    Later(Press),
}

/// The answer to a press that has been waited for.
///
/// # Errors
/// When none came.
pub(crate) fn pressed(answer: Result<CallbackAnswer, Refusal>) -> Result<Vec<u8>, RpcError> {
    Ok(messages::pressed(answer?))
}

/// Carries out a request, or answers what Telegram would answer.
pub(crate) fn dispatch(hub: &Hub, caller: Caller, call: &Call) -> Reply {
    hub.count_call(call.method());
    let outcome = introduced(hub, caller, call).and_then(|()| match before_sign_in(hub, caller, call) {
        Some(outcome) => outcome.map(|body| Reply::Now(Ok(body))),
        None => after_sign_in(hub, caller, call),
    });
    outcome.unwrap_or_else(|error| {
        if error.name == "INPUT_METHOD_INVALID" {
            hub.note_unknown(call.method());
        }
        tracing::debug!(method = call.method(), code = error.code, error = %error.name, "refused");
        Reply::Now(Err(error))
    })
}

/// A device must say what it is before anything else, once.
fn introduced(hub: &Hub, caller: Caller, call: &Call) -> Result<(), RpcError> {
    match call.introduction {
        Some(Introduction { layer: None, .. }) => Err(RpcError::new(400, "CONNECTION_LAYER_INVALID")),
        Some(Introduction { layer: Some(layer), .. }) if layer < 1 => {
            Err(RpcError::new(400, "CONNECTION_LAYER_INVALID"))
        }
        Some(Introduction { api_id, .. }) if api_id <= 0 => Err(RpcError::new(400, "API_ID_INVALID")),
        Some(Introduction { .. }) => Ok(hub.transact(|world, _| world.introduce(caller.device))?),
        None => hub
            .look(|world| world.device(caller.device).is_some_and(|device| device.introduced))
            .then_some(())
            .ok_or_else(|| RpcError::new(400, "CONNECTION_NOT_INITED")),
    }
}

/// Methods that need no authorisation; `None` when this is another.
fn before_sign_in(hub: &Hub, caller: Caller, call: &Call) -> Option<Result<Vec<u8>, RpcError>> {
    Some(match call.id {
        f::help::GetConfig::CONSTRUCTOR_ID => {
            call.answer(|_: f::help::GetConfig| Ok(look::config(hub, caller)))
        }
        f::help::GetNearestDc::CONSTRUCTOR_ID => {
            call.answer(|_: f::help::GetNearestDc| Ok(look::nearest_dc(caller)))
        }
        f::auth::SendCode::CONSTRUCTOR_ID => call.answer(|request| sign_in::send_code(hub, caller, &request)),
        f::auth::ResendCode::CONSTRUCTOR_ID => {
            call.answer(|request| sign_in::resend_code(hub, caller, &request))
        }
        f::auth::CancelCode::CONSTRUCTOR_ID => {
            call.answer(|request| sign_in::cancel_code(hub, caller, &request))
        }
        f::auth::SignIn::CONSTRUCTOR_ID => call.answer(|request| sign_in::sign_in(hub, caller, &request)),
        f::account::GetPassword::CONSTRUCTOR_ID => {
            call.answer(|_: f::account::GetPassword| sign_in::get_password(hub, caller))
        }
        f::auth::CheckPassword::CONSTRUCTOR_ID => {
            call.answer(|request| sign_in::check_password(hub, caller, request))
        }
        f::auth::ImportBotAuthorization::CONSTRUCTOR_ID => {
            call.answer(|request| sign_in::import_bot(hub, caller, &request))
        }
        f::auth::ImportAuthorization::CONSTRUCTOR_ID => {
            call.answer(|request| sign_in::import_authorization(hub, caller, &request))
        }
        f::auth::LogOut::CONSTRUCTOR_ID => call.answer(|_: f::auth::LogOut| sign_in::log_out(hub, caller)),
        _ => return None,
    })
}

/// Methods of somebody.
fn after_sign_in(hub: &Hub, caller: Caller, call: &Call) -> Result<Reply, RpcError> {
    let account = hub.transact(|world, _| world.signed_in(caller.device))??;
    let me = Sender { account, device: Some(caller.device) };
    if call.id == f::messages::GetBotCallbackAnswer::CONSTRUCTOR_ID {
        return messages::press(hub, account, &call.decode()?).map(Reply::Later);
    }
    let outcome = match about_accounts(hub, me, call) {
        Some(outcome) => outcome,
        None => in_chats(hub, me, call),
    };
    outcome.map(|body| Reply::Now(Ok(body)))
}

/// Methods about accounts and their updates; `None` when this is another.
fn about_accounts(hub: &Hub, me: Sender, call: &Call) -> Option<Result<Vec<u8>, RpcError>> {
    let account = me.account;
    Some(match call.id {
        f::auth::ExportAuthorization::CONSTRUCTOR_ID => {
            call.answer(|request| sign_in::export_authorization(hub, account, &request))
        }
        f::updates::GetState::CONSTRUCTOR_ID => {
            call.answer(|_: f::updates::GetState| Ok(look::state(hub, account)))
        }
        f::updates::GetDifference::CONSTRUCTOR_ID => {
            call.answer(|request| look::difference(hub, account, &request))
        }
        f::users::GetUsers::CONSTRUCTOR_ID => call.answer(|request| people::users(hub, account, &request)),
        f::users::GetFullUser::CONSTRUCTOR_ID => {
            call.answer(|request| people::full_user(hub, account, &request))
        }
        f::contacts::ResolveUsername::CONSTRUCTOR_ID => {
            call.answer(|request| people::resolve_username(hub, account, &request))
        }
        f::contacts::ResolvePhone::CONSTRUCTOR_ID => {
            call.answer(|request| people::resolve_phone(hub, account, &request))
        }
        f::contacts::Block::CONSTRUCTOR_ID => {
            call.answer(|request: f::contacts::Block| people::block(hub, account, &request.id, true))
        }
        f::contacts::Unblock::CONSTRUCTOR_ID => {
            call.answer(|request: f::contacts::Unblock| people::block(hub, account, &request.id, false))
        }
        f::account::UpdateUsername::CONSTRUCTOR_ID => {
            call.answer(|request| people::rename(hub, me, &request))
        }
        f::account::UpdateStatus::CONSTRUCTOR_ID => call.answer(|_: f::account::UpdateStatus| Ok(true)),
        _ => return None,
    })
}

/// Methods of private chats.
fn in_chats(hub: &Hub, me: Sender, call: &Call) -> Result<Vec<u8>, RpcError> {
    let account = me.account;
    match call.id {
        f::messages::SendMessage::CONSTRUCTOR_ID => call.answer(|request| messages::send(hub, me, request)),
        f::messages::SendMedia::CONSTRUCTOR_ID => {
            call.answer(|request| messages::send_media(hub, me, request))
        }
        f::messages::StartBot::CONSTRUCTOR_ID => {
            call.answer(|request| messages::start_bot(hub, me, &request))
        }
        f::messages::EditMessage::CONSTRUCTOR_ID => call.answer(|request| messages::edit(hub, me, request)),
        f::messages::DeleteMessages::CONSTRUCTOR_ID => {
            call.answer(|request| messages::delete(hub, me, &request))
        }
        f::messages::GetHistory::CONSTRUCTOR_ID => {
            call.answer(|request| messages::history(hub, account, &request))
        }
        f::messages::GetDialogs::CONSTRUCTOR_ID => {
            call.answer(|request| messages::dialogs(hub, account, &request))
        }
        f::messages::GetMessages::CONSTRUCTOR_ID => {
            call.answer(|request| messages::get(hub, account, &request))
        }
        f::messages::ReadHistory::CONSTRUCTOR_ID => {
            call.answer(|request| messages::read_history(hub, account, &request))
        }
        f::messages::SetBotCallbackAnswer::CONSTRUCTOR_ID => {
            call.answer(|request| messages::answer_press(hub, account, request))
        }
        // Without a consequence here, so not worth decoding.
        f::messages::SetTyping::CONSTRUCTOR_ID | f::bots::SetBotCommands::CONSTRUCTOR_ID => {
            Ok(true.to_bytes())
        }
        _ => Err(RpcError::new(400, "INPUT_METHOD_INVALID")),
    }
}

/// The slice size of a difference: the fault's, else what the client asks for, within Telegram's bounds.
fn slice_size(hub: &Hub, asked: Option<i32>) -> usize {
    const DEFAULT: usize = 100;
    hub.faults.difference_slice().unwrap_or_else(|| {
        asked
            .and_then(|asked| usize::try_from(asked).ok())
            .and_then(NonZeroUsize::new)
            .map_or(DEFAULT, |asked| asked.get().min(DEFAULT))
    })
}

/// Changes the world for a method.
fn change<T>(
    hub: &Hub,
    act: impl FnOnce(&mut World, crate::domain::clock::Timestamp) -> Result<T, Refusal>,
) -> Result<T, RpcError> {
    Ok(hub.transact(act)??)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sandbox::wire::envelope::MAX_INFLATED;
    use crate::sandbox::wire::envelope::gzip;

    fn read(body: Vec<u8>) -> Option<Call> {
        Call::read(body, &mut { MAX_INFLATED })
    }

    fn wrapped(api_id: i32) -> Vec<u8> {
        f::InvokeWithLayer {
            layer: tl::LAYER,
            query: f::InitConnection {
                api_id,
                device_model: "d".to_owned(),
                system_version: "s".to_owned(),
                app_version: "a".to_owned(),
                system_lang_code: "en".to_owned(),
                lang_pack: String::new(),
                lang_code: "en".to_owned(),
                proxy: None,
                params: None,
                query: f::help::GetConfig {},
            },
        }
        .to_bytes()
    }

    #[test]
    fn wrappers_come_off_whatever_they_hold() {
        let call = read(wrapped(7)).unwrap();
        assert_eq!(call.method(), "help.getConfig");
        let introduction = Introduction { layer: Some(tl::LAYER), api_id: 7 };
        assert_eq!(call.introduction, Some(introduction));
        let quiet = f::InvokeWithoutUpdates { query: f::updates::GetState {} };
        let call = read(quiet.to_bytes()).unwrap();
        assert_eq!((call.method(), call.without_updates), ("updates.getState", true));
    }

    #[test]
    fn a_request_is_compressed_once_and_within_what_its_packet_may_inflate_to() {
        let quiet =
            |body: &[u8]| [&f::InvokeWithoutUpdates::<Rest>::CONSTRUCTOR_ID.to_le_bytes()[..], body].concat();
        let packed = gzip(&wrapped(7)).unwrap();
        let mut inflatable = MAX_INFLATED;
        let call = Call::read(quiet(&packed), &mut inflatable).unwrap();
        let length = u64::try_from(wrapped(7).len()).unwrap();
        assert_eq!((call.method(), inflatable), ("help.getConfig", MAX_INFLATED - length));
        assert!(Call::read(quiet(&packed), &mut { length }).is_some());
        let mut little = length - 1;
        assert!(Call::read(quiet(&packed), &mut little).is_none());
        assert_eq!(little, 0, "what was inflated in vain counts");
        assert!(read(quiet(&gzip(&quiet(&packed)).unwrap())).is_none());
    }

    #[test]
    fn arguments_must_fit_to_the_last_byte() {
        let outcome = |body: Vec<u8>| read(body).unwrap().answer(|_: f::account::UpdateStatus| Ok(true));
        let body = f::account::UpdateStatus { offline: true }.to_bytes();
        assert!(outcome(body.clone()).is_ok());
        let name = |body: Vec<u8>| outcome(body).unwrap_err().name;
        assert_eq!(name(body[..4].to_vec()), "INPUT_REQUEST_INVALID");
        assert_eq!(name([body, vec![0; 4]].concat()), "INPUT_REQUEST_TOO_LONG");
    }

    #[test]
    fn endless_nesting_does_not_reach_the_decoder() {
        let mut wrappers = Vec::new();
        for _ in 0..100_000 {
            wrappers.extend(tl::types::InputPeerUserFromMessage::CONSTRUCTOR_ID.to_le_bytes());
        }
        let users = [&f::users::GetFullUser::CONSTRUCTOR_ID.to_le_bytes()[..], &wrappers].concat();
        assert!(read(users).is_none());
        let endless = f::InvokeWithoutUpdates::<Rest>::CONSTRUCTOR_ID.to_le_bytes().repeat(1000);
        assert!(read(endless).is_none());
    }

    fn message(rich_message: Option<tl::enums::InputRichMessage>) -> f::messages::SendMessage {
        let mut message =
            crate::sandbox::tests::support::send_message(tl::enums::InputPeer::PeerSelf, "text", 1);
        message.rich_message = rich_message;
        message
    }

    #[test]
    fn what_could_recurse_without_end_is_refused_before_it_is_decoded() {
        let refused = |body: Vec<u8>| {
            let call = read(body)?;
            Some(call.answer(|_: f::messages::SendMessage| unreachable!()).unwrap_err().name)
        };
        let rich = tl::types::InputRichMessage {
            rtl: false,
            noautolink: false,
            blocks: vec![],
            photos: None,
            documents: None,
            users: None,
        };
        let mut body = message(Some(rich.into())).to_bytes();
        // Blocks within blocks, a hundred thousand deep.
        for _ in 0..100_000 {
            body.extend(tl::types::PageBlockCover::CONSTRUCTOR_ID.to_le_bytes());
        }
        assert_eq!(refused(body).as_deref(), Some("MEDIA_INVALID"));
        let media: Vec<u8> = std::iter::once(f::messages::SendMedia::CONSTRUCTOR_ID)
            .chain([0; 8])
            .chain(std::iter::repeat_n(tl::types::InputMediaPaidMedia::CONSTRUCTOR_ID, 100_000))
            .flat_map(u32::to_le_bytes)
            .collect();
        assert_eq!(refused(media).as_deref(), Some("MEDIA_INVALID"));
        let mut peers = f::messages::SendMessage::CONSTRUCTOR_ID.to_le_bytes().to_vec();
        peers.extend([0; 4]);
        for _ in 0..100_000 {
            peers.extend(tl::types::InputPeerChannelFromMessage::CONSTRUCTOR_ID.to_le_bytes());
        }
        assert_eq!(refused(peers), None);
    }

    #[test]
    fn the_deepest_nesting_that_is_decoded_fits_the_stack() {
        let mut peer = tl::enums::InputPeer::PeerSelf;
        for _ in 0..MAX_NESTING {
            peer = tl::types::InputPeerUserFromMessage { peer, msg_id: 1, user_id: 1 }.into();
        }
        let mut deep = message(None);
        deep.peer = peer;
        // A thread has 2 MiB, as a worker of the runtime has.
        let decoded = std::thread::spawn(move || {
            let call = read(deep.to_bytes())?;
            call.answer(|_: f::messages::SendMessage| Err(RpcError::new(400, "X"))).err()
        });
        assert_eq!(decoded.join().unwrap().unwrap().name, "X");
    }

    proptest! {
        #[test]
        fn a_message_with_any_byte_changed_is_read_or_refused(
            position in 0usize..200,
            value: u8,
            cut in 0usize..200,
        ) {
            use crate::sandbox::tests::support;
            let mut bot = message(None);
            bot.reply_markup = Some(support::inline(&[("Yes", "y"), ("Help", "https://example.com/")]));
            bot.reply_to = Some(support::reply_to(1));
            let mut body = bot.to_bytes();
            let position = position % body.len();
            body[position] = value;
            body.truncate(body.len().saturating_sub(cut.saturating_sub(100)));
            if let Some(call) = read(body) {
                let _ = call.answer(|request: f::messages::SendMessage| {
                    let markup = request.reply_markup.map(markup::read).transpose()?;
                    if let Some(Some(markup)) = markup {
                        markup.check()?;
                    }
                    Err(RpcError::new(400, "X"))
                });
            }
        }

        #[test]
        fn hostile_requests_are_read_or_refused(
            wrapper in prop::sample::select(vec![
                f::InvokeWithLayer::<Rest>::CONSTRUCTOR_ID,
                f::InitConnection::<Rest>::CONSTRUCTOR_ID,
                f::InvokeAfterMsgs::<Rest>::CONSTRUCTOR_ID,
                f::auth::SendCode::CONSTRUCTOR_ID,
                f::users::GetUsers::CONSTRUCTOR_ID,
                f::messages::SendMedia::CONSTRUCTOR_ID,
                f::messages::EditMessage::CONSTRUCTOR_ID,
                GZIP_PACKED,
            ]),
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let body = [&wrapper.to_le_bytes()[..], &bytes].concat();
            if let Some(call) = read(body) {
                let _ = call.answer(|_: f::auth::SendCode| Err(RpcError::new(400, "X")));
                let _ = call.answer(|_: f::users::GetUsers| Ok(vec![]));
                let _ = call.answer(|_: f::messages::SendMedia| Err(RpcError::new(400, "X")));
                let _ = call.answer(|_: f::messages::EditMessage| Err(RpcError::new(400, "X")));
            }
        }

        #[test]
        fn a_request_with_any_byte_changed_is_read_or_refused(position in 0usize..100, value: u8) {
            let mut body = wrapped(1);
            let position = position % body.len();
            body[position] = value;
            let _ = read(body);
        }
    }
}
