//! Who a token is: whether it is good, and which accounts it is for.

use serde_json::Value as Json;

use super::{
    client::{Call, Client},
    props,
};
use crate::provider::{FailureKind, OperationContext, ProviderError};

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Checks the token. One that an account owns is unknown to the call for tokens of users, and is asked for at its account
/// where the client has one.
///
/// # Errors
/// [`ProviderError`] of kind `Authentication` when it is not good.
pub async fn verify(
    client: &Client,
    context: &OperationContext,
    has_account: bool,
) -> Result<(), ProviderError> {
    let user = Call::get("user/tokens/verify");
    let (call, answer) = match client.call(context, &user).await {
        Ok(answer) => (user, answer),
        Err(error) => {
            let error = ProviderError::from(error);
            if error.kind != FailureKind::Authentication || !has_account {
                return Err(not_good(error));
            }
            let call = Call::get("tokens/verify");
            match client.call(context, &call).await {
                Ok(answer) => (call, answer),
                Err(_) => return Err(not_good(error)),
            }
        }
    };
    match props::text(&answer.result, "status") {
        Some("active") => Ok(()),
        status => {
            let mut error = ProviderError::new(
                FailureKind::Authentication,
                format!("the token is {}", status.unwrap_or("not active")),
            )
            .with_help("make another one at https://dash.cloudflare.com/profile/api-tokens");
            error.call = Some(call.describe());
            Err(error)
        }
    }
}

fn not_good(error: ProviderError) -> ProviderError {
    if error.kind != FailureKind::Authentication {
        return error;
    }
    error.with_help(
        "check that the whole token was given and that it is neither expired nor disabled; a token that an account owns needs `--account ID`",
    )
}

/// The accounts that the token can see.
///
/// # Errors
/// [`ProviderError`] when they cannot be listed.
pub async fn all(
    client: &Client,
    context: &OperationContext,
) -> Result<Vec<Account>, ProviderError> {
    let call = Call::get("accounts");
    let items = client.all_in_pages(context, &call, 50).await?;
    items
        .iter()
        .map(|item: &Json| {
            let id = props::needed_text(item, "id", &call.describe())?;
            Ok(Account {
                name: props::text(item, "name").unwrap_or(&id).to_owned(),
                id,
            })
        })
        .collect()
}
