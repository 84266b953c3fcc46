//! A developer's projects: list, create, change, delete, and their secrets.

use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;

use super::Acknowledged;
use super::Group;
use super::bodies::ChangeProject;
use super::bodies::ChangedProjectView;
use super::bodies::CreateProject;
use super::bodies::NewSecretView;
use super::bodies::ProjectView;
use super::bodies::ProjectsView;
use super::bodies::RotateSecret;
use super::bodies::SecretView;
use super::holder;
use crate::flows::developers::Developers;
use crate::http::answer::JsonAnswer;
use crate::http::body::JsonBody;
use crate::http::body::MaybeJsonBody;
use crate::http::caller::Bearer;
use crate::http::caller::DEVELOPER;
use crate::http::error::AppError;

pub(in crate::http) struct ProjectsApi;

#[OpenApi(tag = "Group::Projects", prefix_path = "/api/v1/dev")]
impl ProjectsApi {
    /// List your projects
    #[oai(path = "/projects", method = "get", operation_id = "listProjects")]
    async fn list(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
    ) -> Result<JsonAnswer<ProjectsView>, AppError> {
        let owner = holder(&token, &developers).await?;
        let projects = developers.projects(&owner).await?;
        Ok(JsonAnswer(ProjectsView { projects: projects.iter().map(ProjectView::masked).collect() }))
    }

    /// Create a project
    ///
    /// The answer holds the whole secret key; later it is masked, and `GET /api/v1/dev/projects/:id/webhook-secret`
    /// reads it. A developer may have 100 projects.
    #[oai(path = "/projects", method = "post", operation_id = "createProject")]
    async fn create(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
        body: JsonBody<CreateProject>,
    ) -> Result<JsonAnswer<ProjectView>, AppError> {
        let owner = holder(&token, &developers).await?;
        let seen = developers.create_project(owner, body.parse()?.into(), token.from).await?;
        Ok(JsonAnswer(ProjectView::whole(&seen)))
    }

    /// Read a project
    #[oai(path = "/projects/:id", method = "get", operation_id = "getProject")]
    async fn read(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
        /// The project.
        id: Path<String>,
    ) -> Result<JsonAnswer<ProjectView>, AppError> {
        let owner = holder(&token, &developers).await?;
        Ok(JsonAnswer(ProjectView::masked(&developers.project(&owner, &id.0).await?)))
    }

    /// Change a project
    ///
    /// What is left out stays as it is; `null` and `""` clear `webhook_url`, `bot_token` and `return_url`. A `secret_key`
    /// replaces the present one, which dies at once unless `grace_seconds` lets it verify proofs for a while.
    #[oai(path = "/projects/:id", method = "patch", operation_id = "changeProject")]
    async fn change(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
        /// The project.
        id: Path<String>,
        body: JsonBody<ChangeProject>,
    ) -> Result<JsonAnswer<ChangedProjectView>, AppError> {
        let owner = holder(&token, &developers).await?;
        let seen = developers.change_project(owner, &id.0, body.parse()?.into(), token.from).await?;
        Ok(JsonAnswer((&seen).into()))
    }

    /// Delete a project
    ///
    /// Its open sessions and its webhooks end with it, and no other project gets its id. One that `CONNECTOR_PROJECTS` names is
    /// made anew, with that id, at a later start; so is the demo's.
    #[oai(path = "/projects/:id", method = "delete", operation_id = "deleteProject")]
    async fn delete(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
        /// The project.
        id: Path<String>,
    ) -> Result<JsonAnswer<Acknowledged>, AppError> {
        let owner = holder(&token, &developers).await?;
        developers.delete_project(owner, &id.0, token.from).await?;
        Ok(JsonAnswer(Acknowledged { ok: true }))
    }

    /// Replace a project's secret
    ///
    /// The secret before dies at once; `grace_seconds` lets it verify proofs at `/api/v1/verify` and sign webhooks beside
    /// the new one for that long.
    #[oai(path = "/projects/:id/regenerate", method = "post", operation_id = "regenerateSecret")]
    async fn regenerate(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
        /// The project.
        id: Path<String>,
        body: MaybeJsonBody<RotateSecret>,
    ) -> Result<JsonAnswer<NewSecretView>, AppError> {
        let owner = holder(&token, &developers).await?;
        let RotateSecret { grace_seconds } = body.parse()?;
        let project = developers.rotate(owner, &id.0, grace_seconds, token.from).await?;
        let (id, secret_key) = (project.id.as_str().to_owned(), project.secret.reveal().to_owned());
        Ok(JsonAnswer(NewSecretView { secret_key, project_id: id.clone(), id }))
    }

    /// Read a project's secret
    ///
    /// The one secret that signs proofs and webhooks and authenticates your server. That it was read is logged.
    #[oai(path = "/projects/:id/webhook-secret", method = "get", operation_id = "getWebhookSecret")]
    async fn secret(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
        /// The project.
        id: Path<String>,
    ) -> Result<JsonAnswer<SecretView>, AppError> {
        let owner = holder(&token, &developers).await?;
        let project = developers.secret(owner, &id.0, token.from).await?;
        Ok(JsonAnswer((&project.secret).into()))
    }
}
