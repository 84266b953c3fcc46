//! Receivers that fail, ask for time, are gone, or never answer; and what becomes of what is pending.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Owner, app_of, assert_signed, something_happens, world};
use crate::support::{Receiver, Reply, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_delivery_is_repeated_for_three_days_with_the_same_id_and_body() {
    const PAUSES: [u64; 9] = [5, 20, 60, 300, 1_800, 7_200, 18_000, 36_000, 43_200];
    let (world, receiver) = (world().await, Receiver::new().await);
    let (owner, app) = (Owner::of(&world).await, app_of(&world, &receiver).await);
    // All that can go wrong with an answer.
    for reply in
        [Reply::status(500), Reply::hang_up(), Reply::redirect(&receiver.url("/")), Reply::status(404)]
    {
        receiver.answer_next(reply);
    }
    receiver.answer_with(Reply::status(503));
    something_happens(&app).await;
    let mut dues = vec![0];
    let failed = loop {
        // A slow machine may have seen the next attempt already.
        let delivery = owner.tried(&app, dues.len()).await;
        let tries = delivery["attempts"].as_array().unwrap();
        if delivery["state"] != "pending" {
            break delivery;
        }
        let due = delivery["next_attempt_at_ms"].as_i64().unwrap();
        let last = tries.last().unwrap();
        let pause = due - last["at_ms"].as_i64().unwrap() - last["took_ms"].as_i64().unwrap();
        let expected = i64::try_from(PAUSES[(tries.len() - 1).min(8)]).unwrap() * 1_000;
        assert!(
            (expected * 9 / 10..=expected * 11 / 10).contains(&pause),
            "after {}: {pause} ms",
            tries.len()
        );
        dues.resize(tries.len(), 0);
        dues.push(due);
        owner.move_to_next_attempt(&delivery);
    };
    let tries = failed["attempts"].as_array().unwrap();
    let times = tries.len();
    for (one, due) in tries.iter().zip(dues) {
        assert!(one["at_ms"].as_i64().unwrap() >= due, "sooner than said: {failed}");
    }
    let requests = receiver.requests();
    assert_eq!(requests.len(), times);
    for again in &requests {
        assert_eq!(again.header("webhook-id"), failed["id"].as_str());
        assert_eq!(failed["body"].as_str().unwrap().as_bytes(), again.body);
        assert_eq!(again.path, "/hook?from=tg", "a redirect is not followed");
        assert_signed(again, &[&app.secret]);
    }
    assert_eq!(failed["state"], "failed");
    assert!((13..=14).contains(&times), "{times}");
    let lasted = tries[times - 1]["at_ms"].as_i64().unwrap() - tries[0]["at_ms"].as_i64().unwrap();
    assert!((58..=72).contains(&(lasted / 3_600_000)), "{lasted}");
    let statuses: Vec<_> = tries.iter().take(5).map(|one| one["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(500), None, Some(302), Some(404), Some(503)]);
    assert!(tries[1]["error"].as_str().unwrap().starts_with("connection: "), "{}", tries[1]);
    assert_eq!(owner.project(&app).await["webhook_disabled_reason"], Value::Null, "three days are not five");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_time_gets_it() {
    let (world, receiver) = (world().await, Receiver::new().await);
    let (owner, app) = (Owner::of(&world).await, app_of(&world, &receiver).await);
    receiver.answer_next(Reply::status(429).header("Retry-After", "7200"));
    something_happens(&app).await;
    let delivery = owner.tried(&app, 1).await;
    let last = &delivery["attempts"][0];
    let ended = last["at_ms"].as_i64().unwrap() + last["took_ms"].as_i64().unwrap();
    assert_eq!(delivery["next_attempt_at_ms"].as_i64().unwrap() - ended, 7_200_000);
    owner.move_to_next_attempt(&delivery);
    owner.delivered(&app).await;
    assert_eq!(receiver.requests().len(), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_is_told_nothing_more_until_its_owner_says_so() {
    let (world, receiver) = (world().await, Receiver::new().await);
    let (owner, app) = (Owner::of(&world).await, app_of(&world, &receiver).await);
    receiver.answer_next(Reply::status(500).header("Retry-After", "3600"));
    receiver.answer_next(Reply::status(410));
    something_happens(&app).await;
    let waiting = owner.tried(&app, 1).await;
    something_happens(&app).await;
    let gone = owner.newest(&app, |one| one["state"] == "failed").await;
    let disabled = || async { owner.project(&app).await["webhook_disabled_reason"].clone() };
    eventually("switched off", || async { disabled().await.is_string() }).await;
    assert!(disabled().await.as_str().unwrap().contains("410"), "{}", disabled().await);

    // What happens now is told to nobody, what waited is dropped when its time comes, and nothing can be replayed.
    something_happens(&app).await;
    assert_eq!(owner.log(&app).await.len(), 2);
    owner.move_to_next_attempt(&waiting);
    let dropped = || async { owner.log(&app).await[1]["state"] == "dropped" };
    eventually("dropped", dropped).await;
    let id = gone["id"].as_str().unwrap();
    let refused = owner.replay(id).await;
    assert_eq!(refused.refusal(), (409, "NO_WEBHOOK".into()));
    assert!(refused.json()["error"].as_str().unwrap().contains("410"), "{refused:?}");
    assert_eq!(receiver.requests().len(), 2);
    // Trying it out is allowed, and tells nobody but its owner.
    let path = format!("/projects/{}/webhook-test", app.id);
    assert_eq!(owner.call("POST", &path, None).await.json()["delivered"], true);

    let changed = owner.change(&app, json!({ "webhook_url": receiver.url("/again") })).await;
    assert_eq!(changed["webhook_disabled_reason"], Value::Null);
    assert_eq!(owner.replay(id).await.json()["state"], "pending");
    owner.newest(&app, |one| one["id"] == id && one["state"] == "delivered").await;
    assert_eq!(receiver.requests().last().unwrap().path, "/again");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_days_of_nothing_but_failure_switch_a_webhook_off() {
    let (world, receiver) = (world().await, Receiver::new().await);
    let (owner, app) = (Owner::of(&world).await, app_of(&world, &receiver).await);
    receiver.answer_with(Reply::status(500));
    let mut half_days = 0;
    while owner.project(&app).await["webhook_disabled_reason"].is_null() {
        assert!(half_days <= 11, "still on after {half_days} half days");
        something_happens(&app).await;
        // An attempt at an older one may have been the last straw.
        owner
            .newest(&app, |one| {
                one["state"] == "dropped" || one["attempts"].as_array().is_some_and(|tries| !tries.is_empty())
            })
            .await;
        half_days += 1;
        world.clock.advance(Duration::from_secs(12 * 3600));
    }
    // The judgement is written after the attempt, so one more may have happened before it was seen.
    assert!((10..=12).contains(&half_days), "after {half_days} half days");
    let why = owner.project(&app).await["webhook_disabled_reason"].clone();
    assert!(why.as_str().unwrap().contains("5 days"), "{why}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_delays_nobody_else_and_loses_nothing() {
    const EVENTS: usize = 10;
    let (world, slow, quick) = (world().await, Receiver::new().await, Receiver::new().await);
    let owner = Owner::of(&world).await;
    let (stuck, free) = (app_of(&world, &slow).await, app_of(&world, &quick).await);
    slow.answer_with(Reply::status(200).held());
    for _ in 0..EVENTS {
        something_happens(&stuck).await;
    }
    // As many as there are places wait for its answers.
    for _ in 0..4 {
        slow.next().await;
    }
    for _ in 0..EVENTS {
        something_happens(&free).await;
        quick.next().await;
    }
    let all = |app| {
        let owner = &owner;
        async move { owner.log(app).await.iter().filter(|one| one["state"] == "delivered").count() }
    };
    eventually("delivered", || async { all(&free).await == EVENTS }).await;
    slow.answer_with(Reply::status(200));
    slow.release(100);
    let arrived = || async {
        // Those that waited too long for their answer are repeated.
        world.clock.advance(Duration::from_secs(6));
        all(&stuck).await == EVENTS
    };
    eventually("its turn comes too", arrived).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_goes_with_its_webhook_or_its_project() {
    let (world, receiver) = (world().await, Receiver::new().await);
    let owner = Owner::of(&world).await;
    let (moved, removed, deleted) =
        (app_of(&world, &receiver).await, app_of(&world, &receiver).await, app_of(&world, &receiver).await);
    receiver.answer_with(Reply::status(500).header("Retry-After", "3600"));
    for app in [&moved, &removed, &deleted] {
        something_happens(app).await;
        owner.tried(app, 1).await;
    }
    receiver.answer_with(Reply::status(200));
    owner.change(&moved, json!({ "webhook_url": receiver.url("/new") })).await;
    owner.change(&removed, json!({ "webhook_url": "" })).await;
    assert_eq!(owner.call("DELETE", &format!("/projects/{}", deleted.id), None).await.status, 200);
    world.clock.advance(Duration::from_secs(3_660));
    owner.delivered(&moved).await;
    owner.newest(&removed, |one| one["state"] == "dropped").await;
    assert_eq!(receiver.requests().len(), 4, "{:?}", receiver.requests());
    assert_eq!(receiver.requests()[3].path, "/new");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_survives_a_restart_and_what_is_old_is_removed() {
    let (mut world, receiver) = (world().await, Receiver::new().await);
    let app = app_of(&world, &receiver).await;
    receiver.answer_with(Reply::silence());
    something_happens(&app).await;
    let first = receiver.next().await;
    // Stopping does not wait for who never answers.
    world.stop().await;
    receiver.answer_with(Reply::status(200));
    world.start().await.unwrap();
    let again = receiver.next().await;
    assert_eq!((again.header("webhook-id"), &again.body), (first.header("webhook-id"), &first.body));
    let owner = Owner::of(&world).await;
    let app = app.at(&world.service);
    owner.delivered(&app).await;

    world.clock.advance(Duration::from_secs(89 * 24 * 3600));
    let owner = Owner::of(&world).await;
    something_happens(&app).await;
    owner.delivered(&app).await;
    assert_eq!(owner.log(&app).await.len(), 2);
    world.clock.advance(Duration::from_secs(2 * 24 * 3600));
    eventually("the old one is removed", || async { owner.log(&app).await.len() == 1 }).await;
    world.end().await;
}
