//! What follows from what happened to a worker: a pure table, no clock, no process.
//!
//! What depends on the state is derived from it, never commanded: a worker is in the pool exactly while it is
//! [`State::Ready`].

use std::time::Duration;

/// How often in a row a worker may fail to get ready before its slot is given up, if no worker ever did.
const HOPELESS: u32 = 5;
/// The rest after the second failure in a row; the first has none, each further one is twice as long.
const REST_FIRST: Duration = Duration::from_millis(250);
const REST_MOST: Duration = Duration::from_secs(8);

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// It runs and has not answered yet; nobody may use it.
    Starting,
    /// Taking requests.
    Ready,
    /// Finishing what it holds, taking nothing new, then ending.
    Draining,
    /// No process; waiting before the next try.
    Backoff,
    /// No process and no further try, unless another worker shows that there is hope.
    Failed,
    /// It ended and will not come back; nobody sees this state.
    #[doc(hidden)]
    Gone,
}

impl State {
    /// All that can be seen from outside.
    pub const ALL: [Self; 5] = [Self::Starting, Self::Ready, Self::Draining, Self::Backoff, Self::Failed];

    /// Being in the pool follows from the state.
    #[must_use]
    pub const fn in_pool(self) -> bool {
        matches!(self, Self::Ready)
    }

    /// The word in the status and in the metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Backoff => "backoff",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    ProbePassed,
    /// It did not answer in time, or answered that it cannot start.
    ProbeFailed,
    /// Ready for long enough to be trusted again.
    Settled,
    /// It was ready and does not answer any more.
    Hung,
    /// The process ended, or could not be started. `hope`: some worker has been ready at some time.
    Exited {
        hope: bool,
    },
    /// Another worker takes its place: finish, then end.
    Retire,
    /// It holds no request any more.
    Idle,
    DrainTimedOut,
    /// Everything ends: do not wait for requests.
    Stop,
    /// It did not end after its SIGTERM.
    StopTimedOut,
    Rested,
    /// Some other worker became ready, so it is not the application's fault.
    Hope,
}

/// What must be done now: at most one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Nothing,
    Spawn,
    /// Wait until it holds no request.
    Drain,
    Terminate,
    Kill,
    /// Wait about as long, then try again.
    Rest(Duration),
}

/// A worker's life so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) state: State,
    /// Ends in a row since it last settled.
    failures: u32,
    /// Ends in a row without ever having been ready.
    unready: u32,
}

impl Slot {
    /// A life that begins with its first process.
    pub(super) const fn new() -> Self {
        Self { state: State::Starting, failures: 0, unready: 0 }
    }

    /// The table.
    pub(super) fn on(self, event: Event) -> (Self, Order) {
        use {Event as E, State as S};
        let (state, order) = match (self.state, event) {
            (S::Starting, E::ProbePassed) => {
                return (Self { state: S::Ready, unready: 0, ..self }, Order::Nothing);
            }
            (S::Starting, E::ProbeFailed) => (S::Starting, Order::Kill),
            (S::Starting, E::Exited { hope }) => return self.fell(hope),
            (S::Ready, E::Settled) => return (Self { failures: 0, ..self }, Order::Nothing),
            (S::Ready, E::Exited { .. }) => return self.rest(),
            // As one that has not answered yet: nobody may use it, and its end is a failure.
            (S::Ready, E::Hung) => (S::Starting, Order::Kill),

            (S::Starting, E::Retire | E::Stop) => (S::Draining, Order::Terminate),
            (S::Ready, E::Retire) => (S::Draining, Order::Drain),
            (S::Ready, E::Stop) => (S::Draining, Order::Terminate),
            (S::Draining, E::Idle | E::DrainTimedOut | E::Stop) => (S::Draining, Order::Terminate),
            (S::Draining, E::StopTimedOut) => (S::Draining, Order::Kill),
            (S::Draining, E::Exited { .. }) => (S::Gone, Order::Nothing),

            (S::Backoff, E::Rested) => (S::Starting, Order::Spawn),
            (S::Failed, E::Hope) => (S::Starting, Order::Spawn),
            (S::Backoff | S::Failed, E::Retire | E::Stop) => (S::Gone, Order::Nothing),
            (state, _) => (state, Order::Nothing),
        };
        (Self { state, ..self }, order)
    }

    /// It ended before it was ready.
    fn fell(self, hope: bool) -> (Self, Order) {
        let unready = self.unready.saturating_add(1);
        if unready >= HOPELESS && !hope {
            return (Self { state: State::Failed, unready, ..self }, Order::Nothing);
        }
        Self { unready, ..self }.rest()
    }

    fn rest(self) -> (Self, Order) {
        let failures = self.failures.saturating_add(1);
        (Self { state: State::Backoff, failures, ..self }, Order::Rest(backoff(failures)))
    }
}

/// None, 250 ms, doubling, never above 8 s.
fn backoff(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        n => REST_FIRST.saturating_mul(1 << (n - 2).min(16)).min(REST_MOST),
    }
}

/// The longest rest of the first slot while no worker is ready: whatever was wrong, soon after it is cured somebody
/// serves.
const SCOUT: Duration = Duration::from_secs(3);

/// Between half of it and all of it, by `chance` from 0 to 1. Workers that fall together do not get up together, and
/// still a crash loop of two stays under 20 starts in 15 s whatever the dice say.
pub(super) fn jittered(rest: Duration, chance: f64) -> Duration {
    rest.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

/// The rest of the first slot while no worker is ready.
pub(super) fn scouting(rest: Duration) -> Duration {
    rest.min(SCOUT)
}

#[cfg(test)]
mod tests {
    use super::Event::*;
    use super::*;

    const CRASH: Event = Exited { hope: true };
    const FALL: Event = Exited { hope: false };

    #[track_caller]
    fn check(events: &[Event], state: State, orders: &[Order]) {
        let mut slot = Slot::new();
        let mut given = Vec::new();
        for &event in events {
            let (next, order) = slot.on(event);
            slot = next;
            given.push(order);
        }
        assert_eq!((slot.state, given.as_slice()), (state, orders));
    }

    const fn rest(millis: u64) -> Order {
        Order::Rest(Duration::from_millis(millis))
    }

    #[test]
    fn the_first_crash_is_repaired_at_once() {
        check(&[ProbePassed, CRASH, Rested], State::Starting, &[Order::Nothing, rest(0), Order::Spawn]);
    }

    #[test]
    fn a_worker_that_crashes_right_after_its_probe_still_backs_off() {
        check(
            &[ProbePassed, CRASH, Rested, ProbePassed, CRASH],
            State::Backoff,
            &[Order::Nothing, rest(0), Order::Spawn, Order::Nothing, rest(250)],
        );
    }

    #[test]
    fn a_settled_worker_is_forgiven() {
        check(
            &[CRASH, Rested, CRASH, Rested, ProbePassed, Settled, CRASH],
            State::Backoff,
            &[rest(0), Order::Spawn, rest(250), Order::Spawn, Order::Nothing, Order::Nothing, rest(0)],
        );
    }

    #[test]
    fn a_worker_that_does_not_answer_is_killed_and_backs_off() {
        check(&[ProbeFailed, CRASH], State::Backoff, &[Order::Kill, rest(0)]);
    }

    #[test]
    fn a_worker_that_hangs_is_out_of_the_pool_at_once_and_comes_back() {
        check(&[ProbePassed, Hung], State::Starting, &[Order::Nothing, Order::Kill]);
        check(
            &[ProbePassed, Settled, Hung, CRASH, Rested],
            State::Starting,
            &[Order::Nothing, Order::Nothing, Order::Kill, rest(0), Order::Spawn],
        );
        check(&[ProbePassed, Retire, Hung], State::Draining, &[Order::Nothing, Order::Drain, Order::Nothing]);
    }

    #[test]
    fn five_falls_in_a_row_without_hope_are_the_end_of_a_slot() {
        let mut events = [FALL, Rested].repeat(5);
        events.pop();
        let mut orders = vec![rest(0), Order::Spawn, rest(250), Order::Spawn, rest(500), Order::Spawn];
        orders.extend([rest(1000), Order::Spawn, Order::Nothing]);
        check(&events, State::Failed, &orders);

        events.push(Hope);
        orders.push(Order::Spawn);
        check(&events, State::Starting, &orders);
    }

    #[test]
    fn with_hope_a_slot_is_never_given_up() {
        let mut slot = Slot::new();
        for _ in 0..50 {
            slot = slot.on(CRASH).0;
            assert_eq!(slot.state, State::Backoff);
            slot = slot.on(Rested).0;
        }
        assert_eq!(slot.on(CRASH).1, rest(8000));
    }

    #[test]
    fn a_retired_worker_finishes_first_and_is_not_restarted() {
        check(
            &[ProbePassed, Retire, Idle, StopTimedOut, CRASH],
            State::Gone,
            &[Order::Nothing, Order::Drain, Order::Terminate, Order::Kill, Order::Nothing],
        );
    }

    #[test]
    fn stopping_waits_for_no_request_and_for_no_rest() {
        check(&[ProbePassed, Stop, CRASH], State::Gone, &[Order::Nothing, Order::Terminate, Order::Nothing]);
        check(&[Stop, CRASH], State::Gone, &[Order::Terminate, Order::Nothing]);
        check(&[CRASH, Stop, Rested], State::Gone, &[rest(0), Order::Nothing, Order::Nothing]);
    }

    #[test]
    fn only_a_ready_worker_is_in_the_pool() {
        for state in State::ALL {
            assert_eq!(state.in_pool(), state == State::Ready);
        }
    }

    #[test]
    fn two_crash_loops_stay_under_twenty_starts_in_fifteen_seconds_at_the_worst_dice() {
        let starts = |rest: fn(Duration) -> Duration| {
            let (mut starts, mut time) = (0, Duration::ZERO);
            while time <= Duration::from_secs(15) {
                starts += 1;
                time += rest(jittered(backoff(starts), 0.0));
            }
            starts
        };
        let (first, other) = (starts(scouting), starts(|rest| rest));
        assert!(first + other < 20, "{first} and {other} starts");
    }
}
