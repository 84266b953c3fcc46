//! Having a login code sent, and sent again: how often, and what comes of it.

use super::OK;
use super::Progress;
use super::Request;
use super::SignIn;
use super::SignInError;
use crate::audit::SignInAct;
use crate::domain::login::PendingSignIn;
use crate::domain::login::SignInStep;
use crate::flows::slowing::Attempt;
use crate::telegram::CodeRequest;
use crate::telegram::TelegramError;

impl SignIn {
    pub(super) async fn request_code(&self, request: &Request) -> Result<Progress, SignInError> {
        let counted = self.may_send(request)?;
        let answer = self.0.gateway.request_code(&request.phone).await;
        self.code_requested(SignInAct::CodeRequested, request, answer, counted).await
    }

    pub(super) async fn resend_code(
        &self,
        pending: &PendingSignIn,
        request: &Request,
    ) -> Result<Progress, SignInError> {
        let counted = self.may_send(request)?;
        match self.0.gateway.resend_code(pending).await {
            // The pending key is dead, and so is the attempt: begin with a fresh one.
            Err(TelegramError::SignedOut(_)) => {
                self.0.slowing.withdrawn(counted);
                self.forget().await?;
                self.request_code(request).await
            }
            answer => self.code_requested(SignInAct::CodeResent, request, answer, counted).await,
        }
    }

    /// Counts a code that Telegram is about to send: nobody shall flood a phone with them through us.
    fn may_send(&self, request: &Request) -> Result<Attempt, SignInError> {
        self.0.slowing.code(&request.phone, self.0.clock.now()).map_err(|wait| {
            let error = SignInError::TooManyCodes(wait);
            request.note(SignInAct::Refused, error.code());
            error
        })
    }

    async fn code_requested(
        &self,
        act: SignInAct,
        request: &Request,
        answer: Result<CodeRequest, TelegramError>,
        counted: Attempt,
    ) -> Result<Progress, SignInError> {
        match answer {
            Ok(CodeRequest::Sent { phone_code_hash, delivery, session }) => {
                request.note(act, OK);
                let sent_at = self.0.clock.now();
                let step = SignInStep::CodeSent { phone_code_hash, delivery, sent_at };
                self.put(PendingSignIn { phone: request.phone.clone(), step, session }).await?;
                Ok(Progress::CodeSent)
            }
            Ok(CodeRequest::SignedIn(custody)) => {
                request.note(act, OK);
                self.finish(custody, request).await
            }
            Err(TelegramError::SignedOut(name)) => {
                self.0.slowing.withdrawn(counted);
                let error = SignInError::Telegram(TelegramError::Unexpected(name));
                request.note(act, error.code());
                Err(error)
            }
            Err(error) => {
                if says_that_nothing_was_sent(&error) {
                    self.0.slowing.withdrawn(counted);
                }
                let error = SignInError::from(error);
                request.note(act, error.code());
                Err(error)
            }
        }
    }
}

/// Whether Telegram has refused to send a code. Where it did not answer, or not as foreseen, it may have sent one.
const fn says_that_nothing_was_sent(error: &TelegramError) -> bool {
    !matches!(error, TelegramError::Unreachable(_) | TelegramError::Unexpected(_))
}
