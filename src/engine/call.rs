//! Calls to providers: what they run in, what they may touch, how long they may take, and what a failure leaves uncertain.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    model::Fqn,
    provider::{FailureKind, Leave, OperationContext, ProviderError, Touch},
    state::Lease,
};

use super::{event::Event, failure::FailureCause, operate::Job, options::World, run::Run};

impl Run {
    pub(super) fn context(
        &self,
        fqn: &Fqn,
        physical_name: &str,
        instance: &str,
    ) -> OperationContext {
        let World {
            meter,
            events,
            cancel,
            redact,
            ..
        } = &self.world;
        let (events, name) = (Arc::clone(events), fqn.clone());
        OperationContext {
            fqn: fqn.clone(),
            physical_name: physical_name.to_owned(),
            idempotency_key: format!("{}-{instance}", self.stage),
            folder: Arc::clone(&self.options.folder),
            access: Arc::clone(&self.options.access),
            meter: meter.asking(Arc::new(Lease::clone(&self.lease))),
            cancel: cancel.hard.clone(),
            progress: Arc::new(move |message| {
                events.emit(Event::Progress {
                    fqn: name.clone(),
                    message: message.to_owned(),
                });
            }),
            redact: Arc::clone(redact),
            made: self.made.clone(),
        }
    }

    /// Refuses what the user did not allow, before anything is written or called.
    pub(super) fn permit(&self, touches: &[Touch]) -> Result<(), FailureCause> {
        for touch in touches {
            self.options.access.check(touch).map_err(|denied| {
                let error = ProviderError::new(FailureKind::Refused, denied.message);
                FailureCause::Provider(error.with_help(denied.help))
            })?;
        }
        Ok(())
    }

    pub(super) async fn call<T>(
        &self,
        job: &Job,
        future: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, FailureCause> {
        self.guarded(&job.fqn, job.provider.timeout(), future).await
    }

    /// Runs a provider call under the lease, the operation's time limit and the second Ctrl-C.
    pub(super) async fn guarded<T>(
        &self,
        fqn: &Fqn,
        timeout: std::time::Duration,
        future: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, FailureCause> {
        let allowed = tokio::select! {
            biased;
            () = self.world.cancel.hard.cancelled() => return Err(FailureCause::Cancelled),
            allowed = self.lease.check() => allowed,
        };
        if let Err(error) = allowed {
            return Err(self.poison(error).into());
        }
        tokio::select! {
            biased;
            () = self.world.cancel.hard.cancelled() => Err(FailureCause::Cancelled),
            result = future => result.map_err(FailureCause::Provider),
            () = self.world.clock.sleep(timeout) => {
                Err(FailureCause::Provider(ProviderError::new(
                    FailureKind::Timeout,
                    format!(
                        "`{}` did not finish within {}",
                        fqn.within_stage(),
                        crate::util::text::duration(timeout)
                    ),
                )))
            }
        }
    }
}

#[async_trait]
impl Leave for Lease {
    async fn ask(&self) -> Result<(), ProviderError> {
        // An operation of several calls may have made some of them.
        self.check()
            .await
            .map_err(|error| ProviderError::new(FailureKind::Ambiguous, error.to_string()))
    }
}

/// Whether the object may be there in spite of the failure.
pub(super) fn is_uncertain(error: &FailureCause) -> bool {
    match error {
        FailureCause::Provider(error) => matches!(
            error.kind,
            FailureKind::Ambiguous | FailureKind::Timeout | FailureKind::Cancelled
        ),
        FailureCause::Cancelled => true,
        _ => false,
    }
}
