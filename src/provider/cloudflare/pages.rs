//! Lists that come in pages or behind cursors, read to the end or to the first match.

use std::sync::{Mutex, PoisonError};

use serde_json::Value as Json;

use super::{
    client::{Call, Client},
    error::CallError,
};
use crate::provider::OperationContext;

/// Most pages that are read of one list: a server whose pages never end must not keep a run for ever.
const PAGE_LIMIT: usize = 1000;

impl Client {
    /// The first item of a numbered list that `pick` wants, on any page.
    ///
    /// # Errors
    /// [`CallError`] of a page, or of a list without an end.
    pub async fn find_in_pages<T>(
        &self,
        context: &OperationContext,
        call: &Call,
        per_page: usize,
        mut pick: impl FnMut(&Json) -> Option<T>,
    ) -> Result<Option<T>, CallError> {
        let mut previous: Option<Vec<Json>> = None;
        let mut seen = 0_u64;
        for page in 1..=PAGE_LIMIT {
            let call = call
                .clone()
                .query("page", page.to_string())
                .query("per_page", per_page.to_string());
            let answer = self.call(context, &call).await?;
            let items = list(&call, answer.result)?;
            if let Some(found) = items.iter().find_map(&mut pick) {
                return Ok(Some(found));
            }
            seen += items.len() as u64;
            let info = |key: &str| answer.result_info.get(key).and_then(Json::as_u64);
            // A server may give fewer items than asked for, so that a short page alone does not end the list. Where its two
            // totals differ, the list is read on: an object that is overlooked would be made once more.
            let pages = info("total_pages").map(|total| page as u64 >= total);
            let count = info("total_count").map(|total| seen >= total);
            let ended = items.is_empty()
                || pages
                    .or(count)
                    .is_some_and(|ended| ended && count != Some(false));
            if ended {
                return Ok(None);
            }
            if previous.as_ref() == Some(&items) {
                return Err(endless(&call));
            }
            previous = Some(items);
        }
        Err(endless(call))
    }

    /// Every item of a numbered list.
    ///
    /// # Errors
    /// [`CallError`] of a page, or of a list without an end.
    pub async fn all_in_pages(
        &self,
        context: &OperationContext,
        call: &Call,
        per_page: usize,
    ) -> Result<Vec<Json>, CallError> {
        let items = Mutex::new(Vec::new());
        self.find_in_pages(context, call, per_page, |item| keep(&items, item))
            .await?;
        Ok(items.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every item of a list behind cursors.
    ///
    /// # Errors
    /// [`CallError`] of a page, or of a list without an end.
    pub async fn all_behind_cursors(
        &self,
        context: &OperationContext,
        call: &Call,
        key: Option<&str>,
    ) -> Result<Vec<Json>, CallError> {
        let items = Mutex::new(Vec::new());
        self.find_behind_cursors(context, call, key, |item| keep(&items, item))
            .await?;
        Ok(items.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every item of a sorted list behind cursors up to the first of which `last` says that no more are needed.
    ///
    /// # Errors
    /// [`CallError`] of a page, or of a list without an end.
    pub async fn all_behind_cursors_until(
        &self,
        context: &OperationContext,
        call: &Call,
        last: impl Fn(&Json) -> bool,
    ) -> Result<Vec<Json>, CallError> {
        let items = Mutex::new(Vec::new());
        self.find_behind_cursors(context, call, None, |item| {
            keep(&items, item);
            last(item).then_some(())
        })
        .await?;
        Ok(items.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first item of a list behind cursors that `pick` wants. `key` names the list inside the result, where it is
    /// not the result itself.
    ///
    /// # Errors
    /// [`CallError`] of a page, or of a list without an end.
    pub async fn find_behind_cursors<T>(
        &self,
        context: &OperationContext,
        call: &Call,
        key: Option<&str>,
        pick: impl Fn(&Json) -> Option<T>,
    ) -> Result<Option<T>, CallError> {
        let mut cursor: Option<String> = None;
        for _ in 0..PAGE_LIMIT {
            let next = match &cursor {
                Some(cursor) => call.clone().query("cursor", cursor.clone()),
                None => call.clone(),
            };
            let mut answer = self.call(context, &next).await?;
            let result = match key {
                Some(key) => answer
                    .result
                    .get_mut(key)
                    .map(Json::take)
                    .unwrap_or_default(),
                None => answer.result,
            };
            if let Some(found) = list(call, result)?.iter().find_map(&pick) {
                return Ok(Some(found));
            }
            let following = answer
                .result_info
                .get("cursor")
                .and_then(Json::as_str)
                .filter(|text| !text.is_empty())
                .map(str::to_owned);
            if following.is_none() {
                return Ok(None);
            }
            if following == cursor {
                return Err(endless(call));
            }
            cursor = following;
        }
        Err(endless(call))
    }
}

/// Keeps an item, and goes on to the next.
fn keep(items: &Mutex<Vec<Json>>, item: &Json) -> Option<()> {
    let mut items = items.lock().unwrap_or_else(PoisonError::into_inner);
    items.push(item.clone());
    None
}

fn list(call: &Call, result: Json) -> Result<Vec<Json>, CallError> {
    match result {
        Json::Array(items) => Ok(items),
        Json::Null => Ok(Vec::new()),
        _ => Err(unreadable(call, "a list was expected".to_owned())),
    }
}

fn endless(call: &Call) -> CallError {
    unreadable(call, "its pages repeat and never end".to_owned())
}

fn unreadable(call: &Call, reason: String) -> CallError {
    CallError::Unreadable {
        call: call.describe(),
        effect: call.effect(),
        status: 200,
        reason,
        retry_after: None,
        ray: None,
    }
}
