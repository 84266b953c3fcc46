//! TL objects made from what the world knows, as one particular account may see them: users and the configuration.
//! Messages are in `message`, what is pushed in `update`.

mod message;
mod update;

use std::collections::BTreeSet;
use std::net::SocketAddrV4;

use grammers_tl_types as tl;
use tl::Deserializable;
use tl::Serializable;
use tl::enums as e;
use tl::types as t;

use crate::domain::clock::Timestamp;

use super::world::Account;
use super::world::AccountId;
use super::world::World;

pub(crate) use message::dialog;
pub(crate) use message::message;
pub(crate) use message::people_in;
pub(crate) use update::answer_in_full;
pub(crate) use update::answer_of_text;
pub(crate) use update::callback_query;
pub(crate) use update::changed_message;
pub(crate) use update::deleted_message;
pub(crate) use update::deletion;
pub(crate) use update::edited_message;
pub(crate) use update::new_message;
pub(crate) use update::renamed;

/// An instant as Telegram writes dates: Unix seconds.
pub(crate) fn date(at: Timestamp) -> i32 {
    i32::try_from(at.as_secs()).unwrap_or(i32::MAX)
}

fn peer(account: AccountId) -> e::Peer {
    e::Peer::User(t::PeerUser { user_id: account.0 })
}

/// An account as `viewer` sees it. The number is told to its owner only.
pub(crate) fn user(world: &World, viewer: AccountId, id: AccountId) -> e::User {
    let Some(account) = world.account(id) else {
        return e::User::Empty(t::UserEmpty { id: id.0 });
    };
    let own = viewer == id;
    let bot = account.is_bot();
    let service = World::is_service(id);
    let phone = account.phone().filter(|_| own || service).map(|phone| phone.digits().to_owned());
    e::User::User(t::User {
        is_self: own,
        contact: false,
        mutual_contact: false,
        deleted: false,
        bot,
        bot_chat_history: false,
        bot_nochats: bot,
        verified: service,
        restricted: false,
        min: false,
        bot_inline_geo: false,
        support: service,
        scam: false,
        apply_min_photo: false,
        fake: false,
        bot_attach_menu: false,
        premium: false,
        attach_menu_enabled: false,
        bot_can_edit: false,
        close_friend: false,
        stories_hidden: false,
        stories_unavailable: true,
        contact_require_premium: false,
        bot_business: false,
        bot_has_main_app: false,
        bot_forum_view: false,
        bot_forum_can_manage_topics: false,
        bot_can_manage_bots: false,
        bot_guestchat: false,
        bot_guard: false,
        id: id.0,
        access_hash: Some(world.access_hash(viewer, id)),
        first_name: Some(account.first_name.clone()),
        last_name: account.last_name.clone(),
        username: account.username.clone(),
        phone,
        photo: None,
        status: None,
        bot_info_version: bot.then_some(1),
        restriction_reason: None,
        bot_inline_placeholder: None,
        lang_code: lang_code(world, viewer, account),
        emoji_status: None,
        usernames: None,
        stories_max_id: None,
        color: None,
        profile_color: None,
        bot_active_users: None,
        bot_verification_icon: None,
        send_paid_messages_stars: None,
        linked_community_id: None,
    })
}

/// Only bots are told.
fn lang_code(world: &World, viewer: AccountId, account: &Account) -> Option<String> {
    account.lang_code().filter(|_| world.is_bot(viewer)).map(str::to_owned)
}

/// Several accounts, each once.
pub(crate) fn users(
    world: &World,
    viewer: AccountId,
    ids: impl IntoIterator<Item = AccountId>,
) -> Vec<e::User> {
    let ids: BTreeSet<AccountId> = ids.into_iter().collect();
    ids.into_iter().map(|id| user(world, viewer, id)).collect()
}

/// `users.userFull`; `None` never happens unless the schema has changed under us.
pub(crate) fn full_user(world: &World, viewer: AccountId, id: AccountId) -> Option<e::users::UserFull> {
    // With every flag off only four fields of `userFull` are left; decoding them is shorter than naming the sixty others.
    let settings = e::PeerSettings::Settings(t::PeerSettings::from_bytes(&[0; 4]).ok()?);
    let notify = e::PeerNotifySettings::Settings(t::PeerNotifySettings::from_bytes(&[0; 4]).ok()?);
    let mut bare = vec![0; 8];
    id.0.serialize(&mut bare);
    settings.serialize(&mut bare);
    notify.serialize(&mut bare);
    0i32.serialize(&mut bare);
    Some(e::users::UserFull::Full(t::users::UserFull {
        full_user: e::UserFull::Full(t::UserFull::from_bytes(&bare).ok()?),
        chats: vec![],
        users: users(world, viewer, [viewer, id]),
    }))
}

/// `config`: the sandbox's own data centres and no others, or a client wanders off to a real one.
pub(crate) fn config(data_centres: &[(i32, SocketAddrV4)], this_dc: i32, date: i32) -> e::Config {
    let dc_options = data_centres
        .iter()
        .map(|(id, address)| {
            e::DcOption::Option(t::DcOption {
                ipv6: false,
                media_only: false,
                tcpo_only: false,
                cdn: false,
                r#static: true,
                this_port_only: true,
                id: *id,
                ip_address: address.ip().to_string(),
                port: i32::from(address.port()),
                secret: None,
            })
        })
        .collect();
    e::Config::Config(t::Config {
        default_p2p_contacts: false,
        preload_featured_stickers: false,
        revoke_pm_inbox: true,
        blocked_mode: false,
        force_try_ipv6: false,
        date,
        expires: date.saturating_add(3600),
        test_mode: true,
        this_dc,
        dc_options,
        dc_txt_domain_name: String::new(),
        chat_size_max: 200,
        megagroup_size_max: 200_000,
        forwarded_count_max: 100,
        online_update_period_ms: 210_000,
        offline_blur_timeout_ms: 5_000,
        offline_idle_timeout_ms: 30_000,
        online_cloud_timeout_ms: 300_000,
        notify_cloud_delay_ms: 30_000,
        notify_default_delay_ms: 1_500,
        push_chat_period_ms: 60_000,
        push_chat_limit: 2,
        edit_time_limit: 172_800,
        revoke_time_limit: i32::MAX,
        revoke_pm_time_limit: i32::MAX,
        rating_e_decay: 2_419_200,
        stickers_recent_limit: 200,
        channels_read_media_period: 604_800,
        tmp_sessions: None,
        call_receive_timeout_ms: 20_000,
        call_ring_timeout_ms: 90_000,
        call_connect_timeout_ms: 30_000,
        call_packet_timeout_ms: 10_000,
        me_url_prefix: "https://t.me/".to_owned(),
        autoupdate_url_prefix: None,
        gif_search_username: None,
        venue_search_username: None,
        img_search_username: None,
        static_maps_provider: None,
        caption_length_max: 1024,
        message_length_max: 4096,
        webfile_dc_id: this_dc,
        suggested_lang_code: None,
        lang_pack_version: None,
        base_lang_pack_version: None,
        reactions_default: None,
        autologin_token: None,
    })
}
