//! Names that differ only by case are refused: their folders in state would be one on file systems that do not tell case
//! apart, and a project moves between such systems.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    model::{Fqn, Position},
    state::Record,
};

use super::declaration::DeclareError;

/// The spelling of every name that a run knows.
#[derive(Default)]
pub(super) struct Spellings {
    declared: HashMap<String, (Fqn, Option<Position>)>,
    /// The names in state; only looked at for a name that is new to it.
    prior: Option<HashMap<String, Fqn>>,
}

impl Spellings {
    /// Takes a name that is declared. The same spelling may come again.
    pub(super) fn claim(
        &mut self,
        fqn: &Fqn,
        position: Option<&Position>,
        prior: &BTreeMap<Fqn, Arc<Record>>,
    ) -> Result<(), DeclareError> {
        let folded = fold(fqn);
        if let Some((other, first)) = self.declared.get(&folded) {
            return same(fqn, other, first.clone(), false);
        }
        if !prior.contains_key(fqn) {
            let prior = self
                .prior
                .get_or_insert_with(|| prior.keys().map(|fqn| (fold(fqn), fqn.clone())).collect());
            if let Some(other) = prior.get(&folded) {
                same(fqn, other, None, true)?;
            }
        }
        self.declared
            .insert(folded, (fqn.clone(), position.cloned()));
        Ok(())
    }
}

/// A name without its case.
pub(super) fn fold(fqn: &Fqn) -> String {
    fqn.as_str().to_lowercase()
}

fn same(
    fqn: &Fqn,
    other: &Fqn,
    first: Option<Position>,
    in_state: bool,
) -> Result<(), DeclareError> {
    if fqn == other {
        return Ok(());
    }
    Err(DeclareError::Spelling {
        fqn: fqn.clone(),
        other: other.clone(),
        first,
        in_state,
    })
}
