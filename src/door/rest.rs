//! How long a connection has been idle. Looked at a few times in the time it may be, not measured: no request then arms or
//! stops a timer, or reads the clock.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::KEEP_ALIVE;

/// Looks in the time it may be idle.
const LOOKS: u8 = 5;

/// The idleness of a connection.
#[derive(Default)]
pub(super) struct Rest {
    timer: Option<Pin<Box<Sleep>>>,
    /// The request that was awaited at the last look, and the looks since.
    round: u32,
    looks: u8,
}

impl Rest {
    /// Whether the connection, idle now before request number `round`, was so for [`KEEP_ALIVE`], or up to a fifth more.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>, round: u32) -> bool {
        let pause: Duration = KEEP_ALIVE / u32::from(LOOKS);
        let timer = self.timer.get_or_insert_with(|| {
            self.round = round;
            Box::pin(sleep(pause))
        });
        while timer.as_mut().poll(cx).is_ready() {
            timer.as_mut().reset(Instant::now() + pause);
            // When the timer was armed may be long before it became idle: the first look does not count.
            self.looks = if self.round == round { self.looks + 1 } else { 0 };
            self.round = round;
            if self.looks >= LOOKS {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use tokio::time::advance;

    use super::*;

    /// Waits idle before request `round` for at most `limit`; after how long it was over.
    async fn wait(rest: &mut Rest, round: u32, limit: Duration) -> Option<Duration> {
        let began = Instant::now();
        let over = poll_fn(|cx| if rest.is_over(cx, round) { Poll::Ready(()) } else { Poll::Pending });
        tokio::time::timeout(limit, over).await.ok().map(|()| began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_after_its_time_or_a_little_more() {
        let fifth = KEEP_ALIVE / 5;
        for busy in [0, 1, 7, 14, 15, 44, 74, 75, 1000].map(Duration::from_secs) {
            let mut rest = Rest::default();
            assert_eq!(wait(&mut rest, 1, Duration::from_secs(1)).await, None);
            advance(busy).await;
            let over = wait(&mut rest, 2, 3 * KEEP_ALIVE).await.unwrap();
            assert!(over >= KEEP_ALIVE && over <= KEEP_ALIVE + 2 * fifth, "{busy:?}: {over:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_keep_it() {
        let mut rest = Rest::default();
        for round in 0..40 {
            assert_eq!(wait(&mut rest, round, KEEP_ALIVE - Duration::from_secs(1)).await, None);
        }
    }
}
