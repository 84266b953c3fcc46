//! The operator signs a user account in and out again, in steps, whatever dies in between: the code that was asked for
//! before a kill signs in, and no second one is sent.

use serde_json::{Value, json};

use super::moments::{Life, Moment};
use crate::support::{World, eventually};

/// How every account of the operator begins.
pub(super) const PHONES: &str = "+155504";

/// What was acknowledged last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    SignedOut,
    CodeSent,
    SignedIn,
}

/// Somebody at `POST /sign_in`.
#[derive(Debug)]
pub(super) struct Operator {
    known: Known,
    /// Whether the step after that was asked for, and nobody answered.
    trying: bool,
    /// Another account each time: Telegram sends an account only so many codes.
    accounts: u32,
    /// The code that Telegram sent.
    code: Option<String>,
    /// How often a code was asked for, answered or not.
    codes_tried: u64,
    /// How many codes Telegram had been asked for when the last one was acknowledged.
    codes_sent: u64,
    /// How many sign-ins were carried to their end.
    pub(super) signed_in: u32,
}

impl Operator {
    pub(super) const fn new() -> Self {
        Self {
            known: Known::SignedOut,
            trying: false,
            accounts: 0,
            code: None,
            codes_tried: 0,
            codes_sent: 0,
            signed_in: 0,
        }
    }

    /// What a new process must say.
    pub(super) async fn judge(&self, world: &World, life: &Life) {
        let possible: &[&str] = match (self.known, self.trying) {
            (Known::SignedOut, false) => &["signed_out"],
            (Known::SignedOut, true) => &["signed_out", "code_sent"],
            (Known::CodeSent, false) => &["code_sent"],
            (Known::CodeSent, true) => &["code_sent", "signed_in"],
            (Known::SignedIn, false) => &["signed_in"],
            (Known::SignedIn, true) => &["signed_in", "signed_out"],
        };
        let state = || async { life.client.get("/sign_in").await.json()["state"].clone() };
        let fits = || async { possible.contains(&state().await.as_str().unwrap_or_default()) };
        eventually(&format!("{self:?}: one of {possible:?}"), fits).await;
        let codes = world.calls("auth.sendCode").await;
        assert!(codes <= self.codes_tried, "{codes} codes were sent: {self:?}");
        if self.known == Known::CodeSent {
            assert_eq!(codes, self.codes_sent, "another code was sent: {self:?}");
        }
    }

    /// Signs in and out until the service dies, or until signed out when `finish`.
    pub(super) async fn live(&mut self, world: &World, life: &Life, finish: bool) -> Option<()> {
        loop {
            match self.known {
                Known::SignedOut if finish => return Some(()),
                Known::SignedOut => {
                    if !self.trying {
                        self.accounts += 1;
                        let account = json!({ "phone": self.phone(), "first_name": "Planted Olga" });
                        assert_eq!(world.sandbox.post("/api/accounts", &account).await.status, 200);
                    }
                    self.step(life, &json!({ "phone": self.phone() }), 206).await?;
                    self.codes_sent = world.calls("auth.sendCode").await;
                    self.code = Some(world.code(&self.phone()).await);
                    self.becomes(Known::CodeSent);
                    life.happened(Moment::CodeAsked);
                }
                Known::CodeSent => {
                    let code = self.code.clone();
                    self.step(life, &json!({ "phone": self.phone(), "password": code }), 200).await?;
                    self.signed_in += 1;
                    self.becomes(Known::SignedIn);
                    life.happened(Moment::SignedIn);
                }
                Known::SignedIn => {
                    self.trying = true;
                    let answer = self.until_reached(life, "DELETE", None).await?;
                    assert_eq!(answer.0, 200, "{answer:?}");
                    self.becomes(Known::SignedOut);
                    life.happened(Moment::SignedOut);
                }
            }
        }
    }

    pub(super) fn phone(&self) -> String {
        format!("{PHONES}{:05}", self.accounts)
    }

    fn becomes(&mut self, known: Known) {
        (self.known, self.trying) = (known, false);
    }

    async fn step(&mut self, life: &Life, body: &Value, expected: u16) -> Option<()> {
        self.trying = true;
        let answer = self.until_reached(life, "POST", Some(body)).await?;
        assert!(answer == (expected, String::new()), "{answer:?} to {body}: {self:?}");
        Some(())
    }

    /// A connection that was cut is often noticed only when it is used: such a call is repeated, as its answer says.
    async fn until_reached(
        &mut self,
        life: &Life,
        method: &str,
        body: Option<&Value>,
    ) -> Option<(u16, String)> {
        loop {
            self.codes_tried += u64::from(self.known == Known::SignedOut);
            let answer = life.call(method, "/sign_in", &[], body).await?;
            if answer.status == 429 {
                // Only so many codes may be asked for in a while: enough for this life.
                return None;
            }
            if answer.status != 503 || answer.code() != "TELEGRAM_UNREACHABLE" {
                return Some((answer.status, answer.body));
            }
        }
    }
}
