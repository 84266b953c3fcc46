//! What a hundred thousand messages cost. A measurement, to be run by itself and looked at:
//! `cargo test --release --lib sandbox::tests::cost -- --ignored --nocapture`.

use std::time::Instant;

use super::support::Running;
use crate::sandbox::NewPerson;
use crate::sandbox::world::AccountId;
use crate::sandbox::world::Draft;
use crate::sandbox::world::InlineAction;
use crate::sandbox::world::InlineButton;
use crate::sandbox::world::Markup;
use crate::sandbox::world::Sender;

/// The memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn megabytes(bytes: u64) -> u64 {
    bytes >> 20
}

fn prompt(number: i64) -> Draft {
    let button = |text: &str, data: String| InlineButton {
        text: text.to_owned(),
        action: InlineAction::Callback(data.into_bytes()),
    };
    Draft {
        text: format!("Sign in to Some App?\n\n{}", "Only if you started this yourself just now. ".repeat(6)),
        markup: Some(Markup::Inline(vec![vec![
            button("✅ Confirm", format!("c:{number:022}")),
            button("❌ Cancel", format!("x:{number:022}")),
        ]])),
        random_id: Some(number),
        ..Draft::default()
    }
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "a measurement is looked at")]
#[ignore = "a measurement of the whole process: run it by itself"]
async fn a_hundred_thousand_messages_cost_tens_of_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let bot = AccountId(sandbox.bot("some_bot").id);
    let people: Vec<AccountId> = (0..100)
        .map(|number| {
            let phone = format!("+1555{number:07}");
            let person = NewPerson { phone, first_name: "Somebody".to_owned(), ..NewPerson::default() };
            AccountId(sandbox.sandbox.add_person(person).unwrap().id)
        })
        .collect();
    let hub = &sandbox.sandbox.hub;
    let (before, began) = (resident(), Instant::now());
    for number in 0..50_000_i64 {
        let person = people[usize::try_from(number).unwrap() % people.len()];
        let by = |account| Sender { account, device: None };
        let start = format!("/start {number:022}");
        hub.transact(|world, now| {
            world.start(by(person), bot, &start[7..], None, now).unwrap();
            let id = world.send(by(bot), person, prompt(number), now).unwrap();
            if number % 2 == 0 {
                world.edit(by(bot), id, Some("✅ Signed in to Some App".to_owned()), None, now).unwrap();
            }
        })
        .unwrap();
    }
    let grown = resident() - before;
    println!("100,000 messages, half the prompts decided: {} MB, {:?}", megabytes(grown), began.elapsed());
    let journal = std::fs::metadata(folder.path().join("journal")).unwrap().len();
    let messages = hub.look(|world| world.messages_after(bot, 0).count());
    assert_eq!(messages, 100_000);
    println!("journal: {} MB", megabytes(journal));
    assert!(grown < 100 << 20, "{} MB", megabytes(grown));
    sandbox.stop().await;

    let (before, began) = (resident(), Instant::now());
    let sandbox = Running::start(folder.path()).await;
    println!("restart: {:?}, {} MB more", began.elapsed(), megabytes(resident().saturating_sub(before)));
    let journal = std::fs::metadata(folder.path().join("journal")).unwrap().len();
    println!("compact journal: {} MB", megabytes(journal));
    assert_eq!(sandbox.sandbox.hub.look(|world| world.messages_after(bot, 0).count()), 100_000);
    sandbox.stop().await;
}
