//! A look at the providers: which objects that state knows are gone, and which are not as state says.
//!
//! One list call a kind and page, not one call a resource; kinds without a list are asked object by object. The default run
//! never looks. What a look finds is decided on in `decide`, like any other difference.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    model::{Fqn, Map},
    provider::{Difference, Existing, Observation, Provider},
    state::{Record, Status},
};

use super::{
    failure::{FailureCause, RunError},
    recorded::{self, Records},
    run::Run,
};

/// Kinds that are asked at once.
const KINDS_AT_ONCE: usize = 4;

/// An object that is not as state says.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The resource.
    pub fqn: Fqn,
    /// Its kind.
    pub kind: Arc<str>,
    /// What state calls the object.
    pub physical_name: String,
    /// How it differs.
    pub drift: Drift,
}

/// How an object differs from what state says of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Drift {
    /// It is gone.
    Vanished,
    /// It has other properties.
    Changed {
        /// Which.
        differences: Vec<Difference>,
        /// Its outputs as they are now, as far as they were shown.
        outputs: Map,
    },
}

/// What a look came to.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// How many objects were compared.
    pub looked: usize,
    /// Objects that differ, by name.
    pub findings: Vec<Arc<Finding>>,
    /// Resources whose kinds only the script knows, and those whose last operation did not end: they were not compared.
    pub passed_over: Vec<Fqn>,
}

/// What a run knows of a look.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) looked: usize,
    pub(super) findings: HashMap<Fqn, Arc<Finding>>,
    pub(super) passed_over: Vec<Fqn>,
}

impl Seen {
    /// What was found of a resource is known under its new name.
    pub(super) fn rename(&mut self, from: &Fqn, to: &Fqn) {
        if let Some(finding) = self.findings.remove(from) {
            let finding = Finding {
                fqn: to.clone(),
                ..Finding::clone(&finding)
            };
            self.findings.insert(to.clone(), Arc::new(finding));
        }
    }
}

impl Run {
    /// What the look at the beginning of this run came to: runs with `refresh` look, and those that detect drift.
    #[must_use]
    pub fn seen(&self) -> Look {
        let graph = self.graph();
        let mut findings: Vec<Arc<Finding>> = graph.seen.findings.values().cloned().collect();
        findings.sort_by(|a, b| a.fqn.cmp(&b.fqn));
        Look {
            looked: graph.seen.looked,
            findings,
            passed_over: graph.seen.passed_over.clone(),
        }
    }

    /// Compares every object that state knows with what its provider has, and keeps what was found.
    pub(super) async fn look(&self) -> Result<(), RunError> {
        let mut kinds: BTreeMap<Arc<str>, Vec<Arc<Record>>> = BTreeMap::new();
        let mut seen = Seen::default();
        for record in self.graph().prior.values() {
            let provider = self.world.registry.get(&record.kind);
            let known = provider.is_some_and(|provider| !provider.needs_script());
            if known && matches!(record.status, Status::Ready | Status::Updating) {
                let records = kinds.entry(record.kind.clone()).or_default();
                records.push(Arc::clone(record));
            } else {
                seen.passed_over.push(record.fqn.clone());
            }
        }
        seen.looked = kinds.values().map(Vec::len).sum();
        let prior = &self.graph().prior.clone();
        let looks: Vec<Vec<Finding>> = stream::iter(kinds)
            .map(|(kind, records)| async move {
                match self.world.registry.get(&kind) {
                    Some(provider) => self
                        .look_at_kind(provider.as_ref(), &records, prior)
                        .await
                        .map_err(|cause| refused(kind, cause)),
                    None => Ok(Vec::new()),
                }
            })
            .buffered(KINDS_AT_ONCE)
            .try_collect()
            .await?;
        seen.findings = looks
            .into_iter()
            .flatten()
            .map(|finding| (finding.fqn.clone(), Arc::new(finding)))
            .collect();
        self.graph().seen = seen;
        Ok(())
    }

    async fn look_at_kind(
        &self,
        provider: &dyn Provider,
        records: &[Arc<Record>],
        prior: &Records,
    ) -> Result<Vec<Finding>, FailureCause> {
        let Some(first) = records.first() else {
            return Ok(Vec::new());
        };
        // What lists are compared with needs no secret, so that none is opened.
        let known: Vec<Existing> = records
            .iter()
            .map(|record| as_recorded(record, prior))
            .collect();
        let context = self.context(&first.fqn, &first.physical_name, &first.instance);
        let list = provider.list(&context, &known);
        if let Some(list) = self.guarded(&first.fqn, provider.timeout(), list).await? {
            let objects: HashMap<&str, &Observation> =
                list.iter().map(|seen| (seen.id.as_str(), seen)).collect();
            return Ok(records
                .iter()
                .zip(&known)
                .filter_map(|(record, known)| {
                    let id = provider.object_id(&known.physical_name, &known.outputs);
                    finding(provider, record, known, objects.get(id.as_str()).copied())
                })
                .collect());
        }
        stream::iter(records.iter().zip(&known))
            .map(|(record, known)| async move {
                let context = self.context(&record.fqn, &record.physical_name, &record.instance);
                let existing = self.existing(record)?;
                let look = provider.observe(&context, &existing);
                let seen = self.guarded(&record.fqn, provider.timeout(), look).await?;
                Ok::<_, FailureCause>(finding(provider, record, known, seen.as_ref()))
            })
            .buffered(self.options.concurrency.max(1))
            .try_filter_map(|finding| async move { Ok(finding) })
            .try_collect()
            .await
    }
}

fn as_recorded(record: &Record, prior: &Records) -> Existing {
    Existing {
        props: recorded::resolved(record, prior),
        outputs: record.outputs.clone(),
        physical_name: record.physical_name.clone(),
        settled: record.status == Status::Ready,
        attempted: Map::new(),
    }
}

fn finding(
    provider: &dyn Provider,
    record: &Record,
    known: &Existing,
    seen: Option<&Observation>,
) -> Option<Finding> {
    let drift = match seen {
        None => Drift::Vanished,
        Some(seen) => {
            let differences = provider.compare(known, seen);
            if differences.is_empty() {
                return None;
            }
            Drift::Changed {
                differences,
                outputs: seen.outputs.clone(),
            }
        }
    };
    Some(Finding {
        fqn: record.fqn.clone(),
        kind: record.kind.clone(),
        physical_name: record.physical_name.clone(),
        drift,
    })
}

fn refused(kind: Arc<str>, cause: FailureCause) -> RunError {
    match cause {
        FailureCause::Provider(error) => RunError::Look { kind, error },
        FailureCause::State(error) => RunError::Journal(error),
        FailureCause::Vault(error) => RunError::LookVault(error),
        _ => RunError::Cancelled,
    }
}
