//! Kinds whose objects are all handled in the same way: `POST` to a collection, `GET`, change and `DELETE` of one by its
//! id, found again in the list. A [`Shape`] says what is special about a kind; [`Object`] is the provider over it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use serde_json::Value as Json;

use super::{
    client::{Call, Client, encode},
    error::after_creation,
    props,
};
use crate::{
    model::{KindSchema, Map},
    provider::{
        CheckContext, Checked, Claim, Declared, Difference, Existing, Found, Observation,
        OperationContext, PropError, Provider, ProviderError, observe,
    },
};

/// How the list of a collection is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing {
    /// All at once.
    Whole,
    /// In numbered pages of this size.
    Pages(usize),
}

/// What is special about a kind.
#[async_trait]
pub(super) trait Shape: fmt::Debug + Send + Sync + 'static {
    /// The collection, for kinds that have one for the whole account; others say in which one an object is.
    const PATH: &'static str = "";

    /// What the kind accepts and answers.
    fn schema() -> KindSchema
    where
        Self: Sized;

    /// As [`Provider::check`].
    fn check(&self, context: &CheckContext, props: Map) -> Result<Checked, Vec<PropError>>;

    /// As [`Provider::claims`].
    fn claims(&self, _checked: &Checked) -> Vec<Claim> {
        Vec::new()
    }

    /// The path of the collection that the object is or will be in.
    async fn collection(
        &self,
        _client: &Client,
        _context: &OperationContext,
        _props: &Map,
    ) -> Result<String, ProviderError> {
        Ok(Self::PATH.to_owned())
    }

    /// The path of an object.
    fn item(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<String, ProviderError> {
        let id = props::known_output(&existing.outputs, "id", context.fqn.as_str())?;
        Ok(format!("{}/{}", Self::PATH, encode(id)))
    }

    /// The body that makes the object.
    fn body(
        &self,
        client: &Client,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Json, ProviderError>;

    /// The object in the answer to its creation.
    fn created(&self, result: Json) -> Json {
        result
    }

    /// The call that changes an object in place; none when [`Shape::finish`] does everything.
    fn change(
        &self,
        context: &OperationContext,
        item: String,
        props: &Map,
        existing: &Existing,
    ) -> Result<Option<Call>, ProviderError>;

    /// The outputs of an object of `collection`.
    fn outputs(&self, result: &Json, collection: &str, call: &str) -> Result<Map, ProviderError>;

    /// What an object has beside its own fields: brought to what `props` say after a creation (`before` is none) or a change.
    async fn finish(
        &self,
        _client: &Client,
        _context: &OperationContext,
        _props: &Map,
        _before: Option<&Existing>,
        _outputs: &mut Map,
    ) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Adds to the outputs of an object what only another call tells. A `new` one may not be visible yet.
    async fn complete(
        &self,
        _client: &Client,
        _context: &OperationContext,
        _outputs: &mut Map,
        _new: bool,
    ) -> Result<(), ProviderError> {
        Ok(())
    }

    /// What has to go before the object can.
    async fn prepare_delete(
        &self,
        _client: &Client,
        _context: &OperationContext,
        _existing: &Existing,
    ) -> Result<(), ProviderError> {
        Ok(())
    }

    /// What is there of the props of `known`, whose item of the list this is, as far as it is compared.
    async fn shown(
        &self,
        _client: &Client,
        _context: &OperationContext,
        _item: &Json,
        _known: &Existing,
    ) -> Result<Map, ProviderError> {
        Ok(Map::new())
    }

    /// The props with which a script declares the object of this item of a list, as far as the item tells them: what it has
    /// by itself is left out.
    fn listed(&self, _item: &Json, _outputs: &Map) -> Result<Map, ProviderError> {
        Ok(Map::new())
    }

    /// The props with which a script declares the object of this answer, for an import: as [`Shape::listed`], with what
    /// another call tells.
    async fn declared(
        &self,
        _client: &Client,
        _context: &OperationContext,
        item: &Json,
        outputs: &Map,
    ) -> Result<Map, ProviderError> {
        self.listed(item, outputs)
    }

    /// Every collection of the account.
    async fn collections(
        &self,
        _client: &Client,
        _context: &OperationContext,
    ) -> Result<Vec<String>, ProviderError> {
        Ok(vec![Self::PATH.to_owned()])
    }

    /// Whether an item of a list is in the client's account.
    fn is_here(&self, _client: &Client, _item: &Json) -> bool {
        true
    }

    /// As [`Provider::id_of`].
    async fn id_of(
        &self,
        _client: &Client,
        _context: &OperationContext,
        _wanted: &str,
    ) -> Result<Option<String>, ProviderError> {
        Ok(None)
    }

    /// As [`Provider::hidden`].
    fn hidden(&self, _seen: &Observation) -> Vec<&'static [&'static str]> {
        Vec::new()
    }

    /// As [`Provider::unseen`].
    fn unseen(&self) -> &'static [&'static str] {
        &[]
    }

    /// As [`Provider::compare`].
    fn compare(&self, existing: &Existing, seen: &Observation) -> Vec<Difference> {
        observe::compare(&existing.physical_name, &existing.props, seen)
    }

    /// How the collection is listed.
    fn listing(&self) -> Listing;

    /// The parameter of the list that leaves only objects of a name, where it has one.
    fn name_filter(&self) -> Option<&'static str> {
        None
    }

    /// Whether an item of the list is the object of that physical name.
    fn is_it(&self, item: &Json, name: &str) -> bool;

    /// Whether what is shown of an object only says that there was one.
    fn is_gone(&self, _item: &Json) -> bool {
        false
    }

    /// The field that says when an object was made.
    fn created_field(&self) -> &'static str {
        "created_on"
    }
}

/// The provider of a kind of that shape.
#[derive(Debug)]
pub(super) struct Object<S> {
    client: Arc<Client>,
    schema: KindSchema,
    shape: S,
}

impl<S: Shape> Object<S> {
    pub(super) fn new(client: Arc<Client>, shape: S) -> Self {
        Self {
            client,
            schema: S::schema(),
            shape,
        }
    }

    /// Every item of a collection; none where the collection itself is gone.
    async fn all(
        &self,
        context: &OperationContext,
        call: &Call,
    ) -> Result<Vec<Json>, ProviderError> {
        let items = match self.shape.listing() {
            Listing::Pages(size) => self.client.all_in_pages(context, call, size).await,
            Listing::Whole => {
                let answer = self.client.call(context, call).await;
                answer.map(|answer| match answer.result {
                    Json::Array(items) => items,
                    _ => Vec::new(),
                })
            }
        };
        let mut items = match items {
            Err(error) if error.is_not_found() => Vec::new(),
            other => other?,
        };
        items.retain(|item| !self.shape.is_gone(item));
        Ok(items)
    }

    /// The collection of an item's path.
    fn above(item: &str) -> &str {
        item.rsplit_once('/').map_or(item, |(above, _)| above)
    }
}

#[async_trait]
impl<S: Shape> Provider for Object<S> {
    fn schema(&self) -> &KindSchema {
        &self.schema
    }

    fn check(&self, context: &CheckContext, props: Map) -> Result<Checked, Vec<PropError>> {
        self.shape.check(context, props)
    }

    fn claims<'a>(&self, checked: &Checked, _declared: &Declared<'a>) -> Vec<Claim> {
        self.shape.claims(checked)
    }

    async fn read(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        let item = self.shape.item(context, existing)?;
        let call = Call::get(item.as_str());
        let answer = self.client.look(context, &call).await?;
        let Some(answer) = answer.filter(|answer| !self.shape.is_gone(&answer.result)) else {
            return Ok(None);
        };
        let above = Self::above(&item);
        let mut outputs = self
            .shape
            .outputs(&answer.result, above, &call.describe())?;
        self.shape
            .complete(&self.client, context, &mut outputs, false)
            .await?;
        Ok(Some(outputs))
    }

    async fn create(&self, context: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        let collection = self.shape.collection(&self.client, context, props).await?;
        let body = self.shape.body(&self.client, context, props)?;
        let call = Call::post(collection.as_str()).json(&body);
        let answer = self.client.call(context, &call).await?;
        let made = self.shape.created(answer.result);
        let mut outputs = self.shape.outputs(&made, &collection, &call.describe())?;
        let after = |error| after_creation(&format!("`{}`", context.physical_name), error);
        self.shape
            .finish(&self.client, context, props, None, &mut outputs)
            .await
            .map_err(after)?;
        self.shape
            .complete(&self.client, context, &mut outputs, true)
            .await
            .map_err(after)?;
        Ok(outputs)
    }

    async fn update(
        &self,
        context: &OperationContext,
        props: &Map,
        existing: &Existing,
    ) -> Result<Map, ProviderError> {
        let item = self.shape.item(context, existing)?;
        let collection = Self::above(&item).to_owned();
        let mut outputs = existing.outputs.clone();
        // What an update that was cut short may have set is taken away like what is known to be there.
        let existing = &Existing {
            props: existing.widest(),
            ..existing.clone()
        };
        if let Some(call) = self.shape.change(context, item, props, existing)? {
            let answer = self.client.call(context, &call).await?;
            outputs = self
                .shape
                .outputs(&answer.result, &collection, &call.describe())?;
            self.shape
                .complete(&self.client, context, &mut outputs, false)
                .await?;
        }
        self.shape
            .finish(&self.client, context, props, Some(existing), &mut outputs)
            .await?;
        Ok(outputs)
    }

    async fn delete(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<(), ProviderError> {
        self.shape
            .prepare_delete(&self.client, context, existing)
            .await?;
        let call = Call::delete(self.shape.item(context, existing)?);
        self.client.look(context, &call).await.map(drop)
    }

    /// Lists the collections that known objects are in; where none is known, every collection of the account.
    async fn list(
        &self,
        context: &OperationContext,
        known: &[Existing],
    ) -> Result<Option<Vec<Observation>>, ProviderError> {
        let mut places: BTreeMap<String, BTreeMap<String, &Existing>> = BTreeMap::new();
        for existing in known {
            let item = self.shape.item(context, existing)?;
            let id = self.object_id(&existing.physical_name, &existing.outputs);
            let known = places.entry(Self::above(&item).to_owned()).or_default();
            known.insert(id, existing);
        }
        if places.is_empty() {
            let all = self.shape.collections(&self.client, context).await?;
            places.extend(all.into_iter().map(|place| (place, BTreeMap::new())));
        }
        let mut out = Vec::new();
        for (collection, known) in places {
            let call = Call::get(collection.as_str());
            for item in self.all(context, &call).await? {
                if !self.shape.is_here(&self.client, &item) {
                    continue;
                }
                let outputs = self.shape.outputs(&item, &collection, &call.describe())?;
                let id = self.object_id("", &outputs);
                let known = known.get(&id).copied();
                let same = |known: &&Existing| self.shape.is_it(&item, &known.physical_name);
                let physical_name = match known.filter(same) {
                    Some(known) => known.physical_name.clone(),
                    None => props::text(&item, "name")
                        .or_else(|| props::text(&item, "pattern"))
                        .unwrap_or(&id)
                        .to_owned(),
                };
                let props = match known {
                    Some(known) => {
                        let shown = self.shape.shown(&self.client, context, &item, known);
                        shown.await?
                    }
                    None => self.shape.listed(&item, &outputs)?,
                };
                out.push(Observation {
                    id,
                    physical_name,
                    outputs,
                    props,
                });
            }
        }
        Ok(Some(out))
    }

    async fn id_of(
        &self,
        context: &OperationContext,
        wanted: &str,
    ) -> Result<Option<String>, ProviderError> {
        self.shape.id_of(&self.client, context, wanted).await
    }

    fn compare(&self, existing: &Existing, seen: &Observation) -> Vec<Difference> {
        self.shape.compare(existing, seen)
    }

    fn unseen(&self) -> &'static [&'static str] {
        self.shape.unseen()
    }

    fn hidden(&self, seen: &Observation) -> Vec<&'static [&'static str]> {
        self.shape.hidden(seen)
    }

    /// One object with all that declares it.
    async fn observe(
        &self,
        context: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Observation>, ProviderError> {
        let item = self.shape.item(context, existing)?;
        let call = Call::get(item.as_str());
        let answer = self.client.look(context, &call).await?;
        let Some(answer) = answer.filter(|answer| !self.shape.is_gone(&answer.result)) else {
            return Ok(None);
        };
        let result = &answer.result;
        let above = Self::above(&item);
        let mut outputs = self.shape.outputs(result, above, &call.describe())?;
        self.shape
            .complete(&self.client, context, &mut outputs, false)
            .await?;
        let declared = self.shape.declared(&self.client, context, result, &outputs);
        let known = existing.physical_name.as_str();
        let name = match self.shape.is_it(result, known) {
            true => known,
            false => props::text(result, "name").unwrap_or(known),
        };
        Ok(Some(Observation {
            id: self.object_id(known, &outputs),
            physical_name: name.to_owned(),
            props: declared.await?,
            outputs,
        }))
    }

    async fn find(
        &self,
        context: &OperationContext,
        props: &Map,
    ) -> Result<Option<Found>, ProviderError> {
        let collection = self.shape.collection(&self.client, context, props).await?;
        let name = context.physical_name.as_str();
        let call = Call::get(collection.as_str());
        let call = match self.shape.name_filter() {
            Some(filter) => call.query(filter, name),
            None => call,
        };
        let item = match self.shape.listing() {
            Listing::Pages(size) => {
                self.client
                    .find_in_pages(context, &call, size, |item| {
                        let found = self.shape.is_it(item, name) && !self.shape.is_gone(item);
                        found.then(|| item.clone())
                    })
                    .await?
            }
            Listing::Whole => {
                let answer = self.client.call(context, &call).await?;
                let items = answer.result.as_array().map_or(&[][..], Vec::as_slice);
                items
                    .iter()
                    .find(|item| self.shape.is_it(item, name) && !self.shape.is_gone(item))
                    .cloned()
            }
        };
        let Some(item) = item else {
            return Ok(None);
        };
        let mut outputs = self.shape.outputs(&item, &collection, &call.describe())?;
        self.shape
            .complete(&self.client, context, &mut outputs, false)
            .await?;
        Ok(Some(Found {
            outputs,
            created_at: props::moment(&item, self.shape.created_field()),
            ours: None,
        }))
    }
}
