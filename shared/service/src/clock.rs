//! Time as an argument: the system's in the services, a hand-moved one in tests.
//!
//! Wall time is for people and records, monotonic time for leases and waits: the wall may jump, a lease must not.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub wall_ms: i64,
    pub mono_ms: u64,
}

#[derive(Clone)]
pub struct Clock(Arc<Source>);

enum Source {
    System { start: Instant },
    Manual(watch::Sender<Moment>),
}

impl Clock {
    pub fn system() -> Clock {
        Clock(Arc::new(Source::System { start: Instant::now() }))
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn manual(wall_ms: i64) -> Clock {
        Clock(Arc::new(Source::Manual(watch::Sender::new(Moment { wall_ms, mono_ms: 0 }))))
    }

    pub fn now(&self) -> Moment {
        match &*self.0 {
            Source::System { start } => Moment { wall_ms: system_wall_ms(), mono_ms: start.elapsed().as_millis() as u64 },
            Source::Manual(moment) => *moment.borrow(),
        }
    }

    pub fn wall_ms(&self) -> i64 {
        self.now().wall_ms
    }

    /// Waits on monotonic time, counted from this call and not from the first poll.
    pub fn sleep(&self, ms: u64) -> impl Future<Output = ()> + Send + 'static {
        let clock = self.clone();
        let until = clock.now().mono_ms.saturating_add(ms);
        async move {
            match &*clock.0 {
                Source::System { start } => match start.checked_add(Duration::from_millis(until)) {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                },
                Source::Manual(moment) => {
                    // The sender lives in this clock, so the wait can only end by time.
                    let _ = moment.subscribe().wait_for(|now| now.mono_ms >= until).await;
                }
            }
        }
    }

    /// Moves a manual clock; the system's clock moves by itself.
    pub fn advance(&self, ms: u64) {
        if let Source::Manual(moment) = &*self.0 {
            moment.send_modify(|now| {
                now.wall_ms += ms as i64;
                now.mono_ms += ms;
            });
        }
    }

    /// Makes the wall of a manual clock jump, as an administrator or a bad time server would.
    pub fn jump_wall(&self, ms: i64) {
        if let Source::Manual(moment) = &*self.0 {
            moment.send_modify(|now| now.wall_ms += ms);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the system's time comes in")]
fn system_wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hand_moved_clock_wakes_its_sleepers() {
        let clock = Clock::manual(1_000);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep(500).await;
                clock.now()
            }
        });
        tokio::task::yield_now().await;
        clock.jump_wall(-400);
        clock.advance(499);
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(1);
        assert_eq!(sleeper.await.unwrap(), Moment { wall_ms: 1_100, mono_ms: 500 });
    }
}
