//! Entities as clients see them: in what is pushed, in what is looked up, after edits and restarts.

use grammers_tl_types as tl;
use tl::functions as f;

use super::support::ALICE;
use super::support::Running;
use super::support::bare_peer;
use super::support::edit_message;
use super::support::full;
use super::support::send_message;
use super::support::sent_id;

fn code(offset: i32, length: i32) -> tl::enums::MessageEntity {
    tl::types::MessageEntityCode { offset, length }.into()
}

#[tokio::test]
async fn entities_travel_with_their_text() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let alice = sandbox.person(ALICE);
    let bot = sandbox.bot("some_bot");
    sandbox.play(ALICE, "open", serde_json::json!({"link": "https://t.me/some_bot?start=x"})).await;
    let (mut person, client) = (sandbox.person_client(ALICE).await, sandbox.bot_client(&bot).await);

    // As `updateShortMessage`, for it has nothing below it; the bold part is looked at, the link is not.
    let mut message = send_message(bare_peer(alice.id), "🛍 shop.example", 1);
    let link = tl::types::MessageEntityUrl { offset: 3, length: 12 };
    let bold = tl::types::MessageEntityBold { offset: 0, length: 2 };
    message.entities = Some(vec![code(3, 12), bold.clone().into(), link.into()]);
    let id = sent_id(client.call(2, &message).await.unwrap());
    let (seen, _) = person.new_message().await;
    assert_eq!(seen.entities, Some(vec![code(3, 12), bold.into()]));

    let mut edit = edit_message(bare_peer(alice.id), id, "done: shop.example", None);
    edit.entities = Some(vec![code(6, 12)]);
    client.call(2, &edit).await.unwrap();
    edit.entities = Some(vec![code(6, 13)]);
    assert_eq!(client.refused(2, &edit).await, "400 ENTITY_BOUNDS_INVALID");
    edit.entities = None;
    edit.message = Some("gone".to_owned());

    let asked = f::messages::GetMessages { id: vec![tl::types::InputMessageId { id: seen.id }.into()] };
    let tl::enums::messages::Messages::Messages(found) = person.call(2, &asked).await.unwrap() else {
        panic!("all there are")
    };
    assert_eq!(full(found.messages[0].clone()).entities, Some(vec![code(6, 12)]));
    let played = sandbox.messages(ALICE, i64::from(seen.id) - 1).await;
    let expected = serde_json::json!([{"type": "code", "offset": 6, "length": 12}]);
    assert_eq!(played[0]["entities"], expected);
    client.call(2, &edit).await.unwrap();
    let tl::enums::messages::Messages::Messages(found) = person.call(2, &asked).await.unwrap() else {
        panic!("all there are")
    };
    assert_eq!(full(found.messages[0].clone()).entities, None, "another text has its own");
    sandbox.stop().await;
}
