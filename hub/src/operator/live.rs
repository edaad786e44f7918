//! `GET /api/live`: the fleet as server-sent events, a whole snapshot on every change.

use super::{Operators, Session};
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use wire::fleet::Fleet;

/// Five snapshots a second are more than an eye follows; changes in between share the next one.
const EACH: Duration = Duration::from_millis(200);
/// How soon a session that ended stops seeing.
const SESSION_EACH: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(15);

struct Listener {
    operators: Arc<Operators>,
    feed: watch::Receiver<Arc<Fleet>>,
    session: Session,
    first: bool,
}

pub(crate) async fn live(State(operators): State<Arc<Operators>>, session: Session) -> impl IntoResponse {
    let feed = operators.feed.clone();
    let listener = Listener { operators, feed, session, first: true };
    let events = stream::unfold(listener, async |mut listener| {
        listener.due().await.then_some(())?;
        let fleet = listener.feed.borrow_and_update().clone();
        let event = Event::default().event("fleet").id(fleet.revision.to_string()).json_data(&*fleet).unwrap_or_default();
        Some((Ok::<_, Infallible>(event), listener))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

impl Listener {
    /// Waits until there is something to say; `false` when there never will be.
    async fn due(&mut self) -> bool {
        if std::mem::take(&mut self.first) {
            return true;
        }
        // Between two snapshots a rest, for the page's sake; these waits are for a browser, whose time no clock of ours moves.
        tokio::time::sleep(EACH).await;
        let mut checks = tokio::time::interval(SESSION_EACH);
        loop {
            tokio::select! {
                changed = self.feed.changed() => return changed.is_ok() && self.lasts().await,
                _ = checks.tick() => if !self.lasts().await {
                    return false;
                },
                () = self.operators.stop.stopped() => return false,
            }
        }
    }

    async fn lasts(&self) -> bool {
        let session = self.operators.store.operator_session(self.session.token_hash.clone(), self.operators.clock.wall_ms());
        matches!(session.await, Ok(Some(_)))
    }
}
