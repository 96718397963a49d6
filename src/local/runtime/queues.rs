//! Hands messages to the Workers that consume them.
//!
//! The messages lie in the control database and stay there until a Worker has worked on them: what Workers send, what comes
//! over HTTP and what clients pull is one table, nothing is lost when the runtime or this program ends, and there is one
//! code path for batches, retries and dead letters. Miniflare's broker, which keeps messages in memory and drops those of
//! queues without a Worker, would need all of that beside it.
//!
//! Delivery is at least once, as at Cloudflare: a batch that a killed program had handed out is delivered again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    deployments::Deployments,
    event::Event,
    inside::{Called, Inside},
    start::Listener,
};
use crate::local::{
    Cloud,
    api::{
        queue_delivery::{self as delivery, Batch, Consumer, Message, Outcome},
        r2_events,
    },
    control::ControlError,
};

/// How often it is looked whether another program has written to the control database.
const POLL: Duration = Duration::from_millis(100);
/// The longest time without a look at the queues.
const LONGEST: Duration = Duration::from_secs(60);

/// Delivers until it is told to stop.
pub(super) struct Deliverer {
    pub(super) deployments: Deployments,
    pub(super) inside: Arc<Inside>,
    /// Tells of messages that Workers sent.
    pub(super) sent: Arc<Notify>,
    pub(super) listen: Listener,
    pub(super) stop: CancellationToken,
}

impl Deliverer {
    pub(super) async fn run(self) {
        let released = self
            .deployments
            .blocking(|cloud| cloud.control.write(delivery::release));
        if let Err(error) = released.await {
            (self.listen)(Event::Failed(error.into()));
        }
        // What was written before a crash, and not told.
        if let Err(error) = self.deployments.blocking(r2_events::deliver_all).await {
            (self.listen)(Event::Failed(error.into()));
        }
        // The number of batches in work, by queue.
        let mut busy = BTreeMap::<String, usize>::new();
        let mut batches = JoinSet::new();
        loop {
            // Before the look: what is written from now on ends the pause below.
            let counter = self.deployments.counter().await.ok();
            let now = jiff::Timestamp::now().as_millisecond();
            let mut wait = LONGEST;
            for consumer in self.waiting().await {
                let at_work = busy.get(&consumer.queue_id).copied().unwrap_or(0);
                if at_work >= consumer.max_concurrency {
                    continue;
                }
                if consumer.due > now {
                    let due = u64::try_from(consumer.due - now).unwrap_or(0);
                    wait = wait.min(Duration::from_millis(due));
                    continue;
                }
                // There may be enough for another batch.
                wait = Duration::ZERO;
                let queue = consumer.queue_id.clone();
                match self.take(consumer).await {
                    Ok(Some(batch)) => {
                        *busy.entry(queue.clone()).or_default() += 1;
                        let inside = Arc::clone(&self.inside);
                        let cloud = Arc::clone(&self.deployments.cloud);
                        let listen = Arc::clone(&self.listen);
                        batches.spawn(async move {
                            deliver(&inside, cloud, batch, &listen).await;
                            queue
                        });
                    }
                    Ok(None) => {}
                    Err(error) => {
                        (self.listen)(Event::Failed(error.into()));
                        wait = POLL;
                    }
                }
            }
            tokio::select! {
                // Batches in work are dropped; their messages are released at the next start.
                () = self.stop.cancelled() => return,
                Some(ended) = batches.join_next() => {
                    if let Ok(queue) = ended
                        && let Some(count) = busy.get_mut(&queue)
                    {
                        *count = count.saturating_sub(1);
                    }
                }
                () = self.sent.notified() => {}
                () = self.pause(wait, counter) => {}
            }
        }
    }

    /// The consumers with something to do. A database that cannot be read for a moment is read again.
    async fn waiting(&self) -> Vec<Consumer> {
        let found = self
            .deployments
            .blocking(|cloud| cloud.control.run(delivery::waiting));
        found.await.unwrap_or_else(|error| {
            (self.listen)(Event::Failed(error.into()));
            Vec::new()
        })
    }

    async fn take(&self, consumer: Consumer) -> Result<Option<Batch>, ControlError> {
        self.deployments
            .blocking(move |cloud| {
                cloud
                    .control
                    .write(|transaction| delivery::take(transaction, &consumer))
            })
            .await
    }

    /// Waits for the time, or until somebody else has written to the database since the counter was `before`.
    async fn pause(&self, wait: Duration, before: Option<i64>) {
        let end = Instant::now() + wait;
        loop {
            let now = Instant::now();
            if now >= end {
                return;
            }
            sleep(POLL.min(end - now)).await;
            if self.deployments.counter().await.ok() != before {
                return;
            }
        }
    }
}

async fn deliver(inside: &Inside, cloud: Arc<Cloud>, batch: Batch, listen: &Listener) {
    let called = inside.queue(&batch).await;
    let settled = tokio::task::spawn_blocking(move || {
        let given_up = cloud.control.write(|transaction| {
            delivery::settle(transaction, &batch, |message| match &called {
                Ok(called) => outcome(called, message),
                Err(_) => Outcome::Untouched,
            })
        })?;
        Ok::<_, ControlError>((batch.consumer, given_up))
    });
    let (consumer, given_up) = match settled.await {
        Ok(Ok(settled)) => settled,
        Ok(Err(error)) => return listen(Event::Failed(error.into())),
        Err(error) => {
            let reason = error.to_string();
            return listen(Event::Failed(ControlError::Unreadable { reason }.into()));
        }
    };
    let queue = &consumer.queue;
    if let Some((count, dead)) = given_up.dead {
        listen(Event::Notice(format!(
            "queue `{queue}`: {} failed too often and went to `{dead}`",
            messages(count)
        )));
    }
    if given_up.dropped > 0 {
        listen(Event::Notice(format!(
            "queue `{queue}`: {} failed too often and went away, as there is no dead letter queue",
            messages(given_up.dropped)
        )));
    }
}

fn messages(count: usize) -> String {
    match count {
        1 => "1 message".to_owned(),
        count => format!("{count} messages"),
    }
}

/// What becomes of a message: what the Worker said of this one counts before what it said of the batch, and a message
/// that it has acknowledged is done even when it failed later.
fn outcome(called: &Called, message: &Message) -> Outcome {
    let retried = called
        .retry_messages
        .iter()
        .find(|retry| retry.msg_id == message.id);
    if let Some(retry) = retried {
        return Outcome::Retry(retry.delay_seconds);
    }
    if called.explicit_acks.contains(&message.id) {
        return Outcome::Done;
    }
    if called.retry_batch.retry || called.outcome != "ok" {
        return Outcome::Retry(called.retry_batch.delay_seconds);
    }
    Outcome::Done
}
