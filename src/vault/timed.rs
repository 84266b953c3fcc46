//! How long the steps of the session store take, as a metric.

/// Records how long a step took, however it ends.
pub(super) struct Timed {
    step: &'static str,
    begun: std::time::Instant,
}

impl Timed {
    pub(super) fn new(step: &'static str) -> Self {
        Self { step, begun: std::time::Instant::now() }
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        let seconds = self.begun.elapsed().as_secs_f64();
        metrics::histogram!("connector_session_store_seconds", "step" => self.step).record(seconds);
    }
}
