//! Every fault of Telegram and of the way to it (`mtproto.md` section 11, issue 6): what guards against it, which test shows
//! it, and how that test was seen to fail without the guard. Each was: with the guard switched off as the last column
//! says, the test failed (or hung until it was stopped, where that is what the guard prevents); with it, it passes.
//!
//! Tests without a file are in this folder, by the file's name: `ended`, `floods`, `missed`, `network`, `people`.
//!
//! | fault | guard | test | seen to fail with |
//! |---|---|---|---|
//! | cut | reader goes on from its position (`reader.rs`); the outbox calls again (`outbox/telling.rs`) | `account::traps_1_and_2_…`, `confirm_restart::sign_ins_are_decided_although_every_message_is_followed_by_a_cut` | given up instead of called again |
//! | cut instead of answer | stored `random_id` (`sending.rs`), `RANDOM_ID_DUPLICATE` is success (`errors.rs`) | `confirm_restart::a_prompt_is_sent_exactly_once_…`, `conversation::a_message_whose_answer_is_lost_…`; of a sign-in: `sign_in::a_sign_in_whose_answer_is_lost_is_found_done` | a new `random_id` each time; the error as an error |
//! | silent data centre, also one that accepts TCP and stays silent | time limits (`connection.rs`, `account.rs`), watchdog | `account::trap_5_…`, `account::traps_5_and_6_…`, `bots::closing_while_telegram_is_silent_…` | no time limit; no watchdog |
//! | frozen connection | watchdog, time limit, a late connection is thrown away (`connection.rs`) | `network::a_connection_that_freezes_…`, `network::a_sign_in_whose_connection_freezes_…`, `network::a_prompt_whose_connection_freezes_…` | no watchdog; no limit (hangs); kept; a new `random_id`; not called again (hangs) |
//! | forgotten key (404) | a known key is not replaced (`session.rs`), and is an end (`errors.rs`) | `ended::a_key_that_is_forgotten`, `account::trap_8_…`, `session::trap_8_…` | taken for out of reach; replaced |
//! | wrong salt | grammers says it again; one that is refused for ever meets the time limit | `network::refused_salts_…`, `network::a_data_centre_that_refuses_every_salt_…` | no limit (hangs) |
//! | wrong session id (grammers panics) | the end of the connection's task (`account.rs`), watchdog | `account::trap_7_…` | neither (one is enough) |
//! | dropped pushes | position kept, `catch_up` (`reader.rs`) | `account::trap_4_…`, `account::a_difference_that_never_comes_…` | no catching up; no watchdog |
//! | small difference slices | position moves after the whole batch (`reader.rs`) | `account::trap_3_…` (both) | no catching up; the position first |
//! | `differenceTooLong`, position refused | chats are read again before the position moves (`rereading.rs`) | `missed`, `account::a_position_that_telegram_refuses_…` | not read; the position first; floods not waited out |
//! | flood, asked over HTTP: sendCode, signIn, resendCode, getPassword, checkPassword, logOut, importBotAuthorization | 429 with Telegram's number, no retry (`errors.rs`, `NoRetries`) | `floods`, `sign_in::what_telegram_says_…`, `sign_in::a_flood_while_submitting_…` | not known as a flood; logOut's passed over; the 2FA hint insisted upon |
//! | cancelCode | a courtesy (`gateway.rs`) | `sign_in::a_code_can_be_abandoned_whatever_telegram_says` | not tried: there is no switch, no answer is used |
//! | getConfig, getUsers | the pause before the next connection (`account.rs`) | `floods::the_beginning_of_a_connection` | the pause left out |
//! | getState | no part of the sign-in's success (`sign_in.rs`); any answer is a sign of life (`watchdog.rs`) | `floods::the_update_position_after_a_sign_in`, `account::a_flood_on_the_watchdogs_call_…` | the account closed; taken for silence |
//! | getDifference | waited out by the same connection (`reader.rs`) | `account::a_flood_on_the_difference_…` | taken for an end |
//! | sendMessage, editMessage | the account waits (`outbox`) | `confirm::a_prompt_that_nobody_can_be_sent_…`, `floods::the_outcome_of_a_prompt` | tried again at once |
//! | setBotCallbackAnswer | the decision comes first, the answer is tried once (`confirm/mod.rs`) | `floods::the_answer_to_a_tap` | tried again |
//! | getDialogs, getHistory | waited out (`rereading.rs`) | `missed::what_people_wrote_meanwhile_…` | not waited out |
//! | importBotAuthorization of a running bot | waited out (`bot.rs`) | `bots::a_new_token_does_not_cut_a_flood_short` | tried again at once |
//! | of one account | a queue for each account (`outbox/mod.rs`) | `floods::of_one_account_slows_no_other` | one queue for all (hangs); tried again at once |
//! | migration, at sign-in | followed (`sign_in.rs`) | `sign_in::an_account_that_lives_elsewhere_is_followed`, `bots::a_bot_that_lives_…` | 303 as an error |
//! | migration in mid-use | an end (`account.rs`) | `ended::an_account_that_moves_…` | taken for an ordinary error |
//! | revoked session | an end: final, told, left alone (`ending.rs`, `account.rs`) | `ended::a_session_that_is_revoked`, `account/tests.rs` | 401 as an error; not closed (calls go on); reason not told; `generate` not 503; the end taken back |
//! | banned account | the same; `PHONE_NUMBER_BANNED` is 403 and ends the attempt | `ended::an_account_that_is_banned`, `ended::a_banned_number_…`, `people::who_is_banned_…` | 401 as an error; not closed; the name not known |
//! | a bot's session | it signs in again; a refused token rests (`bot.rs`), and nobody is sent to it (`flows/accounts.rs`) | `bots::a_bot_whose_session_telegram_ends_…`, `ended::a_bot_that_is_deactivated_…` | not signing in again; links to it |
//! | blocked bot | given up and noted (`outbox/telling.rs`) | `people` | tried again |
//! | `AUTH_KEY_DUPLICATED` | an end (`errors.rs`) | `account::a_session_used_from_two_hosts_…`, `ended::a_key_used_twice_…` | 406 as an error; not closed |
//! | latency | slow is not dead (`watchdog.rs`, limit 20 s) | `network::latency_slows_and_breaks_nothing` | a call of 300 ms taken for silence |

mod ended;
mod floods;
mod missed;
mod network;
mod people;

fn id(message: &serde_json::Value) -> i64 {
    message["id"].as_i64().unwrap()
}
