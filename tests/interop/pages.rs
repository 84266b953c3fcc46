//! The pages that people use, in a real browser: the demo with the virtual phone from the click to the proof, and the
//! virtual phone by itself. `browser.mjs` drives; what it saw is judged here.

use serde_json::{Value, json};

use crate::support::ALICE;
use crate::swagger::Demo;

/// What every page must be wherever it was looked at: not wider than a phone, readable without a mouse.
fn fits(seen: &Value) {
    assert_eq!(seen["tooWide"], json!([]), "wider than 360 px");
    assert_eq!(seen["nameless"], json!([]), "controls that a screen reader cannot name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_signs_in_on_the_demo_page_with_the_virtual_phone() {
    let demo = Demo::start(&[]);
    let seen = demo.in_a_browser("demo", None);
    fits(&seen);
    assert_eq!(seen["beforeTheClick"], json!([]), "the phone acted before the person did");
    assert!(seen["prompt"].as_str().unwrap().contains("Chrom"), "where from is not told: {seen}");
    assert_eq!(seen["hello"], "Hello, Alice");
    assert_eq!(seen["steps"], json!(["generate", "open", "confirm", "proof", "consume"]));
    assert_eq!(seen["header"]["alg"], "HS256");
    assert_eq!(seen["server"], "confirmed", "the curl command on the page does not consume the proof");
    let claims = &seen["claims"];
    assert_eq!(claims["project_id"], "proj_demo");
    assert_eq!(claims["telegram_username"], "alice_sandbox");
    assert_eq!(claims["sandbox"], true);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
    let phone = seen["phone"].as_str().unwrap();
    assert!(phone.contains(&format!("#{ALICE}/")), "the phone does not keep its person: {phone}");
    assert_eq!(seen["buttonsLeft"], 0, "the decided prompt still has buttons");
    // The link has done its work: loading the page again sends nothing.
    assert_eq!(seen["startsAfterReload"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cancels_is_told_so_and_the_next_try_is_one_click() {
    let demo = Demo::start(&[]);
    let seen = demo.in_a_browser("demoCancelled", None);
    fits(&seen);
    assert_eq!(seen["over"], "Cancelled");
    assert_eq!(seen["remembered"], "Open as Bob");
    assert_eq!(seen["hello"], "Hello, Bob");
    assert_eq!(seen["late"], "Too late");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_button_does_on_the_virtual_phone_what_it_does_in_telegram() {
    let demo = Demo::start(&[]);
    let seen = demo.in_a_browser("buttons", None);
    fits(&seen);
    assert_eq!(seen["refusal"], "This is not a link to a person or a bot");
    assert_eq!(seen["numbers"], 3);
    assert_eq!(seen["told"], "One more step: share your phone number");
    assert_eq!(seen["contact"], 1, "the contact that was shared is not shown");
    assert_eq!(seen["phone"], ALICE);
    // A link out of the phone is shown before it is followed, and the page there learns nothing of this one.
    assert!(seen["asked"].as_str().unwrap().contains("https://shop.example/back"), "{seen}");
    assert_eq!(seen["link"], json!({ "href": "https://shop.example/back", "rel": "noopener noreferrer" }));
    assert_eq!(seen["blocked"], json!([1, 0, 0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_write_to_each_other_on_their_virtual_phones() {
    let demo = Demo::start(&[]);
    let seen = demo.in_a_browser("phones", None);
    fits(&seen);
    assert_eq!(seen["people"], json!(["Alice", "Bob", "Carol", "Dora"]));
    assert_eq!(seen["title"], "(1) Alice · Virtual phone");
    assert_eq!(seen["text"], seen["sent"], "a hostile text is not shown as it is");
    assert_eq!(seen["madeOfIt"], json!([]), "a text became markup");
    assert_eq!(seen["quoted"], seen["sent"]);
    assert_eq!(seen["answer"], "I see it");
    let code = seen["code"].as_str().unwrap();
    assert!(code.len() >= 5 && code.bytes().all(|digit| digit.is_ascii_digit()), "{seen}");
    assert_eq!(seen["nobody"], "There is nobody with this name in this sandbox.");
}
