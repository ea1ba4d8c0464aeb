//! Writes down what changed, for the status and the metrics.

use std::sync::Arc;

use super::crew::Crew;
use super::post::Post;
use super::slot::State;

impl Crew {
    /// Writes down what changed.
    pub(super) fn publish(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let mut posts: Vec<&Post> = self.posts.values().collect();
        posts.sort_by_key(|post| (post.worker, post.role, post.generation));
        for state in State::ALL {
            let count = posts.iter().filter(|post| post.slot.state == state).count();
            self.metrics
                .workers
                .with_label_values(&[state.word()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.metrics.workers_desired.set(i64::try_from(self.target.slots()).unwrap_or(i64::MAX));
        self.starts.retain(|worker, _| {
            let known = *worker < self.target.slots() || posts.iter().any(|post| post.worker == *worker);
            if !known {
                self.metrics.forget_worker(*worker);
            }
            known
        });
        for worker in self.starts.keys() {
            let ready = posts.iter().any(|post| post.worker == *worker && post.slot.state.in_pool());
            self.metrics.worker_ready.with_label_values(&[worker.to_string()]).set(i64::from(ready));
        }
        let restarts = |worker| self.starts.get(&worker).copied().unwrap_or_default().saturating_sub(1);
        self.board.rows.store(Arc::new(posts.iter().map(|post| post.row(restarts(post.worker))).collect()));
    }
}
