//! Whose project it is: the one place that decides it. To everybody else it is not there.

use std::sync::Arc;

use crate::domain::developer::DeveloperId;
use crate::domain::project::Project;
use crate::domain::project::ProjectId;
use crate::store::Store;
use crate::store::StoreError;

/// A developer's projects, the oldest first.
pub(super) async fn projects_of(
    store: &dyn Store,
    owner: &DeveloperId,
) -> Result<Vec<Arc<Project>>, StoreError> {
    let mut projects = store.projects().await?;
    projects.retain(|project| project.owner == *owner);
    Ok(projects)
}

/// A developer's project. `id` is as a caller sends it, or as it is kept.
pub(super) async fn owned(
    store: &dyn Store,
    owner: &DeveloperId,
    id: &str,
) -> Result<Option<Arc<Project>>, StoreError> {
    let Some(id) = ProjectId::parse(id) else { return Ok(None) };
    let project = store.project(&id).await?;
    Ok(project.filter(|project| project.owner == *owner))
}
