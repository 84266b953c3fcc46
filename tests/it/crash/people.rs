//! People who sign in, again and again, and what each step acknowledged. A story that was cut off goes on in the next
//! life of the service where the app's and the person's memory of it ends.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::moments::{Life, Moment};
use crate::support::{App, Attempt, World};

/// Until when after its consumption a repetition surely gets the same answer (it does for 60 s).
const REPEATED_IN_TIME: Duration = Duration::from_secs(45);

/// What the app or the person is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Confirm,
    Cancel,
    /// The app takes it back.
    CancelByServer,
}

/// One sign-in.
#[derive(Debug)]
pub(super) struct Story {
    number: u32,
    pub(super) wish: Wish,
    /// Acknowledged.
    pub(super) attempt: Attempt,
    /// The message with the link, which Telegram has.
    pub(super) opened: Option<i64>,
    pub(super) prompt: Option<i64>,
    /// Whether the decision was ever asked for, answered or not.
    pub(super) asked: bool,
    /// What it was acknowledged to have come to.
    pub(super) told: Option<&'static str>,
    /// The confirmation as it was first read.
    pub(super) confirmation: Option<Value>,
    /// When somebody first tried to consume it.
    consuming: Option<Instant>,
    /// The answers with a confirmation to consumers without a key, or with their own.
    pub(super) taken: Vec<String>,
    pub(super) over: bool,
}

/// Somebody with a telephone.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) phone: String,
    pub(super) stories: Vec<Story>,
}

/// What all people share.
pub(super) struct Shop<'a> {
    pub(super) world: &'a World,
    pub(super) app: App,
    /// How many creations were asked for, answered or not.
    pub(super) tried: &'a AtomicU32,
    /// Whether people begin new stories.
    pub(super) open: bool,
}

impl Person {
    /// Signs in until the service dies, or until the shop is closed and the last story told. `None`: it died.
    pub(super) async fn live(&mut self, shop: &Shop<'_>, life: &Life) -> Option<()> {
        loop {
            if self.stories.last().is_none_or(|story| story.over) {
                if !shop.open {
                    return Some(());
                }
                let number = shop.tried.fetch_add(1, Ordering::SeqCst);
                let generate = json!({ "project_id": shop.app.id });
                let created = life.ask("/api/v1/generate/public", &[], &generate).await?;
                self.stories.push(Story::new(number, Attempt::of(created)));
                life.happened(Moment::Created);
            }
            let phone = self.phone.clone();
            self.stories.last_mut().unwrap().go_on(&phone, shop, life).await?;
        }
    }
}

impl Story {
    fn new(number: u32, attempt: Attempt) -> Self {
        let wish = match number % 8 {
            3 | 6 => Wish::Cancel,
            5 => Wish::CancelByServer,
            _ => Wish::Confirm,
        };
        Self {
            number,
            wish,
            attempt,
            opened: None,
            prompt: None,
            asked: false,
            told: None,
            confirmation: None,
            consuming: None,
            taken: Vec::new(),
            over: false,
        }
    }

    /// What must come of it.
    pub(super) fn outcome(&self) -> &'static str {
        if self.wish == Wish::Confirm { "confirmed" } else { "cancelled" }
    }

    pub(super) fn is_taken_back(&self) -> bool {
        self.wish == Wish::CancelByServer
    }

    async fn go_on(&mut self, phone: &str, shop: &Shop<'_>, life: &Life) -> Option<()> {
        if self.opened.is_none() {
            // Telegram lives, whatever becomes of the service.
            self.opened = Some(shop.world.open(phone, &self.attempt.link).await);
            life.happened(Moment::Opened);
        }
        if self.prompt.is_none() {
            self.prompt = Some(self.await_prompt(phone, shop, life).await?);
            life.happened(Moment::Prompted);
        }
        if self.told.is_none() {
            self.asked = true;
            if self.wish == Wish::CancelByServer {
                self.cancel(shop, life).await?;
            } else if self.number.is_multiple_of(3) {
                self.tap(phone, shop, life).await?;
            } else {
                self.tap_while_the_app_waits(phone, shop, life).await?;
            }
        }
        let status = self.learn(shop, life).await?;
        match status["status"].as_str() {
            Some("confirmed") => self.consume(&status, shop, life).await?,
            Some("used") => self.repeat_consumption(shop, life).await?,
            _ => {}
        }
        self.over = true;
        Some(())
    }

    async fn await_prompt(&self, phone: &str, shop: &Shop<'_>, life: &Life) -> Option<i64> {
        let opened = self.opened.unwrap();
        let path = format!("/api/accounts/{phone}/messages?after={opened}&wait=2");
        loop {
            let messages = life.or_death(shop.world.sandbox.get(&path)).await?.json();
            let answer = |message: &&Value| message["out"] == false && message["reply_to"] == opened;
            if let Some(prompt) = messages.as_array().unwrap().iter().find(answer) {
                return prompt["id"].as_i64();
            }
        }
    }

    /// Taps until the bot answers: Telegram drops taps while it is away.
    async fn tap(&mut self, phone: &str, shop: &Shop<'_>, life: &Life) -> Option<()> {
        let button = if self.wish == Wish::Confirm { "✅ Confirm" } else { "❌ Cancel" };
        let body = json!({ "message_id": self.prompt, "button": button, "wait": 2 });
        let path = format!("/api/accounts/{phone}/tap");
        loop {
            let answer = life.or_death(shop.world.sandbox.post(&path, &body)).await?;
            if answer.status != 200 && self.buttons_are_gone(phone, shop).await {
                // An earlier tap was heard, although nobody said so.
                return Some(());
            }
            let said = if answer.status == 200 { answer.json()["answer"].clone() } else { Value::Null };
            match said.as_str() {
                None | Some("That did not work. Please tap once more.") => {}
                Some("Signed in" | "Declined" | "This request has been answered already.") => {
                    self.told = Some(self.outcome());
                    life.happened(Moment::Tapped);
                    return Some(());
                }
                Some(other) => panic!("the bot said {other} to {self:?}"),
            }
        }
    }

    async fn buttons_are_gone(&self, phone: &str, shop: &Shop<'_>) -> bool {
        let prompt = shop.world.message(phone, self.prompt.unwrap()).await;
        prompt["buttons"].as_array().is_none_or(Vec::is_empty)
    }

    /// The app holds a poll, or reads the stream, while the person taps.
    async fn tap_while_the_app_waits(&mut self, phone: &str, shop: &Shop<'_>, life: &Life) -> Option<()> {
        let (token, streams) = (self.attempt.token.clone(), self.number % 3 == 1);
        let events = self.attempt.created["events_url"].as_str().unwrap().to_owned();
        let waiting = async {
            if streams {
                let path = events.splitn(4, '/').nth(3).unwrap();
                let answer = life.call("GET", &format!("/{path}"), &[], None).await?;
                assert_eq!(answer.status, 200, "{answer:?}");
                return ["confirmed", "cancelled"].into_iter().find(|status| answer.body.contains(status));
            }
            let body = json!({ "project_id": shop.app.id, "session_token": token, "wait": 25 });
            let status = life.ask("/api/v1/verify/public", &[], &body).await?["status"].clone();
            ["confirmed", "cancelled"].into_iter().find(|one| status == *one)
        };
        let (tapped, told) = tokio::join!(self.tap(phone, shop, life), waiting);
        if let Some(told) = told {
            assert_eq!(told, self.outcome(), "{self:?}");
            self.told = Some(told);
            life.happened(Moment::Learned);
        }
        tapped
    }

    async fn cancel(&mut self, shop: &Shop<'_>, life: &Life) -> Option<()> {
        let body = json!({ "project_id": shop.app.id, "session_token": self.attempt.token });
        let key = format!("Bearer {}", shop.app.secret);
        let answer = life.ask("/api/v1/cancel", &[("authorization", &key)], &body).await?;
        assert_eq!(answer["status"], "cancelled", "{self:?}");
        self.told = Some("cancelled");
        life.happened(Moment::CancelledByServer);
        Some(())
    }

    /// Polls once; what it says must fit what is known.
    pub(super) async fn learn(&mut self, shop: &Shop<'_>, life: &Life) -> Option<Value> {
        let body = json!({ "project_id": shop.app.id, "session_token": self.attempt.token });
        let status = life.ask("/api/v1/verify/public", &[], &body).await?;
        self.judge(&status);
        if self.told.is_some() {
            life.happened(Moment::Learned);
        }
        Some(status)
    }

    /// Nothing acknowledged is undone, nothing is invented.
    fn judge(&mut self, status: &Value) {
        let now = status["status"].as_str().unwrap().to_owned();
        let possible: &[&str] = match (self.told, self.wish) {
            (None, _) if !self.asked => &["pending"],
            (None, Wish::Confirm) => &["pending", "confirmed"],
            (None, Wish::Cancel | Wish::CancelByServer) => &["pending", "cancelled"],
            (Some("confirmed"), _) if self.consuming.is_some() => &["confirmed", "used"],
            (Some("confirmed"), _) => &["confirmed"],
            (Some("cancelled"), _) => &["cancelled"],
            (Some("used"), _) => &["used"],
            (Some(other), _) => panic!("{other}"),
        };
        assert!(possible.contains(&now.as_str()), "it is {now}, and it can only be {possible:?}: {self:?}");
        self.told = possible.iter().find(|one| **one == now && now != "pending").copied().or(self.told);
        if now == "confirmed" {
            let mut confirmation = status.clone();
            confirmation.as_object_mut().unwrap().remove("proof");
            let first = self.confirmation.get_or_insert_with(|| confirmation.clone()).clone();
            assert_eq!(confirmation, first, "a confirmation has changed");
        }
    }

    async fn consume(&mut self, status: &Value, shop: &Shop<'_>, life: &Life) -> Option<()> {
        let mut body = json!({ "project_id": shop.app.id });
        if self.number.is_multiple_of(2) {
            body["proof"] = status["proof"].clone();
        } else {
            body["session_token"] = self.attempt.token.clone().into();
        }
        let bearer = format!("Bearer {}", shop.app.secret);
        let mine = format!("consumer-{}", self.number);
        let keyed = [("authorization", bearer.as_str()), ("idempotency-key", mine.as_str())];
        let headers = if self.has_key() { &keyed[..] } else { &keyed[..1] };
        self.consuming.get_or_insert_with(Instant::now);
        let answer = life.ask("/api/v1/verify", headers, &body).await?;
        self.note_consumption(&answer, true);
        life.happened(Moment::Consumed);
        if self.has_key() {
            let again = life.ask("/api/v1/verify", headers, &body).await?;
            self.note_consumption(&again, true);
        }
        // Nobody else gets it, by token or by proof.
        let another = json!({ "project_id": shop.app.id, "session_token": self.attempt.token });
        for body in [body, another] {
            let again = life.ask("/api/v1/verify", &keyed[..1], &body).await?;
            self.note_consumption(&again, false);
        }
        Some(())
    }

    /// Whether its consumer can repeat itself.
    fn has_key(&self) -> bool {
        self.number % 4 < 2
    }

    /// After a crash, the consumer with a key repeats its call and gets what it would have got.
    async fn repeat_consumption(&mut self, shop: &Shop<'_>, life: &Life) -> Option<()> {
        if !self.has_key() || self.late() {
            return Some(());
        }
        let body = json!({ "project_id": shop.app.id, "session_token": self.attempt.token });
        let bearer = format!("Bearer {}", shop.app.secret);
        let mine = format!("consumer-{}", self.number);
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", mine.as_str())];
        let answer = life.ask("/api/v1/verify", &headers, &body).await?;
        assert_eq!(answer["status"], "confirmed", "its own consumer is sent away: {self:?}");
        self.note_consumption(&answer, true);
        Some(())
    }

    fn note_consumption(&mut self, answer: &Value, by_its_consumer: bool) {
        match answer["status"].as_str() {
            Some("confirmed") => {
                assert!(by_its_consumer, "consumed twice: {self:?}");
                self.taken.push(answer.to_string());
                let first = &self.taken[0];
                assert!(
                    self.taken.len() == 1 || self.has_key() && self.taken.iter().all(|one| one == first),
                    "consumed twice: {self:?}"
                );
            }
            Some("used") => assert!(!by_its_consumer || !self.has_key() || self.late(), "{self:?}"),
            _ => panic!("{answer}: {self:?}"),
        }
        self.told = Some("used");
    }

    fn late(&self) -> bool {
        self.consuming.is_none_or(|begun| begun.elapsed() > REPEATED_IN_TIME)
    }
}
