//! Steps that must not be cut in half by a caller who hangs up.

use crate::lifecycle::Tasks;
use crate::store::StoreError;

/// Does something to its end, also when the caller hangs up meanwhile: what is in memory must not stay behind the store,
/// nor what the store has be told to nobody.
pub(super) async fn to_its_end<T: Send + 'static, E: From<StoreError> + Send + 'static>(
    tasks: &Tasks,
    name: &'static str,
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E> {
    let done = tasks.spawn(name, work).await;
    done.map_err(|_| StoreError::Unavailable("the step was cut off".to_owned()))?
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn who_hangs_up_does_not_cut_a_step_in_half() {
        let (start, started) = oneshot::channel();
        let (release, released) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let tasks = Tasks::new();
        let step = async move {
            start.send(()).unwrap();
            released.await.unwrap();
            end.send(()).unwrap();
            Ok::<_, StoreError>(())
        };
        tokio::select! {
            _ = to_its_end(&tasks, "step", step) => panic!("it cannot be done yet"),
            reached = started => reached.unwrap(),
        }
        release.send(()).unwrap();
        ended.await.unwrap();
    }
}
