//! Making one batch of the updates that have come while the last one was being taken: what many people do at once takes the
//! store one turn and not one each. What becomes of a batch is `reader`'s business.

use futures_util::FutureExt as _;
use grammers_mtsender::{InvocationError, UpdatesReceiver};
use grammers_session::updates::State;
use grammers_tl_types as tl;

/// How many updates make a batch to which no more is added.
const ENOUGH: usize = 256;

/// Adds to a batch what is there already, and waits for nothing. The error, if any, is of what comes after the batch.
///
/// A difference gets nothing added: it may be a slice, and asking for the next one, which is what `next` does then, would be
/// broken off and begun again. Otherwise nothing is lost with a `next` that is broken off: it waits for its channel only, or
/// for a difference that it asks for again.
pub(super) fn gather(
    receiver: &mut UpdatesReceiver,
    updates: &mut Vec<(tl::enums::Update, State)>,
    users: &mut Vec<tl::enums::User>,
) -> Option<InvocationError> {
    while (1..ENOUGH).contains(&updates.len()) && !updates.iter().any(|(update, _)| is_of_difference(update))
    {
        match receiver.next().now_or_never()? {
            Ok((more, theirs, _chats)) => {
                updates.extend(more);
                users.extend(theirs);
            }
            Err(error) => return Some(error),
        }
    }
    None
}

/// What grammers makes of a message in a difference has no position of its own.
fn is_of_difference(update: &tl::enums::Update) -> bool {
    matches!(update, tl::enums::Update::NewMessage(new) if new.pts_count == 0)
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "sandbox")]
    mod with_a_sandbox {
        use std::sync::Arc;
        use std::sync::Mutex;
        use std::time::Duration;

        use futures_util::FutureExt as _;
        use serde_json::json;
        use tokio::sync::Semaphore;

        use crate::domain::account::TelegramSession;
        use crate::domain::ids::Ids;
        use crate::domain::ids::Secret;
        use crate::domain::login::Phone;
        use crate::lifecycle::OffsetClock;
        use crate::lifecycle::Tasks;
        use crate::lifecycle::os_seed;
        use crate::sandbox::NewPerson;
        use crate::sandbox::Sandbox;
        use crate::telegram::Account;
        use crate::telegram::AccountEvent;
        use crate::telegram::EventSink;
        use crate::telegram::Network;
        use crate::telegram::Settings;
        use crate::telegram::sign_in;

        async fn post(sandbox: &Sandbox, path: &str, body: serde_json::Value) {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let url = format!("http://{}{path}", sandbox.control_address());
            client.post(url).json(&body).send().await.unwrap().error_for_status().unwrap();
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn what_comes_while_a_batch_is_taken_is_the_next_batch_in_its_order() {
            let (folder, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
            let ids = Ids::from_seed(os_seed().unwrap());
            let place =
                crate::sandbox::Settings::new(folder.path().to_owned(), "127.0.0.1:0".parse().unwrap());
            let sandbox = Sandbox::start(place, OffsetClock::default(), ids.clone(), &tasks).await.unwrap();
            for phone in ["+15550100001", "+15550100002"] {
                let person = NewPerson {
                    phone: phone.to_owned(),
                    first_name: "Person".to_owned(),
                    ..NewPerson::default()
                };
                sandbox.add_person(person).unwrap();
            }
            let joined = sandbox.network();
            let network = Network::other(joined.dcs.into_iter().collect(), &joined.rsa_public_key).unwrap();
            let settings = Settings::new(1, Secret::new("hash".to_owned()), network);
            // What is told is taken once it is permitted.
            let (told, permitted) =
                (Arc::new(Mutex::new(Vec::<Vec<String>>::new())), Arc::new(Semaphore::new(0)));
            let sink: EventSink = {
                let (told, permitted) = (Arc::clone(&told), Arc::clone(&permitted));
                Arc::new(move |_, events| {
                    let texts = events.iter().map(|event| {
                        let AccountEvent::Message { text, .. } = event else { panic!("{event:?}") };
                        text.clone()
                    });
                    told.lock().unwrap().push(texts.collect());
                    let permitted = Arc::clone(&permitted);
                    async move {
                        permitted.acquire().await.unwrap().forget();
                        true
                    }
                    .boxed()
                })
            };
            let alice = Account::new(TelegramSession::default(), settings, ids, tasks.clone(), sink);
            post(&sandbox, "/api/faults", json!({ "sent_code": { "type": "success", "times": 1 } })).await;
            let phone = Phone::parse("+15550100001").unwrap();
            assert!(matches!(sign_in::send_code(&alice, &phone).await, Ok(sign_in::SentBy::Nothing)));
            alice.supervise();
            let bob_writes = async |text: &str| {
                let sent = json!({ "to": "+15550100001", "text": text });
                post(&sandbox, "/api/accounts/+15550100002/send", sent).await;
            };
            let batches = |number: usize| {
                let told = Arc::clone(&told);
                async move {
                    while told.lock().unwrap().len() < number {
                        crate::lifecycle::network_sleep(Duration::from_millis(5)).await;
                    }
                }
            };
            bob_writes("1").await;
            batches(1).await;
            for text in ["2", "3", "4"] {
                bob_writes(text).await;
            }
            // Answers come after the updates that were sent before them; the second answer, after those are handed on.
            alice.whoami().await.unwrap();
            alice.whoami().await.unwrap();
            permitted.add_permits(1);
            batches(2).await;
            assert_eq!(*told.lock().unwrap(), [vec!["1"], vec!["2", "3", "4"]]);
            let before = alice.session().updates;
            permitted.add_permits(1);
            bob_writes("5").await;
            batches(3).await;
            // The position moves past a batch once it is taken, and past all of it.
            assert_eq!(alice.session().updates.pts, before.pts + 3);
            permitted.add_permits(1);
            alice.close().await;
            assert!(tasks.finish(Duration::from_secs(5)).await);
        }
    }
}
