//! `/api/v1/dev`: developers, in `accounts`, and their projects, in `projects`. Parse, call one flow, render.

mod accounts;
mod bodies;
mod projects;

use poem_openapi::{Object, Tags};
use serde::Serialize;

pub(super) use self::accounts::AccountsApi;
pub(super) use self::projects::ProjectsApi;
use super::caller::Bearer;
use super::caller::DEVELOPER;
use crate::domain::developer::AccessToken;
use crate::domain::developer::DeveloperId;
use crate::flows::developers::DeveloperError;
use crate::flows::developers::Developers;

#[derive(Tags)]
enum Group {
    /// Sign in for the token that everything below `/api/v1/dev` asks for.
    #[oai(rename = "Developers")]
    Developers,
    /// Your apps: their settings, their bots, their secrets.
    #[oai(rename = "Projects")]
    Projects,
}

/// It is done.
#[derive(Serialize, Object)]
struct Acknowledged {
    /// Always true.
    ok: bool,
}

/// The developer whose token it is.
pub(super) async fn holder(
    token: &Bearer<DEVELOPER>,
    developers: &Developers,
) -> Result<DeveloperId, DeveloperError> {
    developers.holder(&AccessToken::claimed(&token.token)).await
}
