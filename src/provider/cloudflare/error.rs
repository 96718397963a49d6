//! What goes wrong with a call, and what that means to the engine and the user.

use std::time::Duration;

use super::{permission, transport::TransportError};
use crate::{
    model::Value,
    provider::{FailureKind, ProviderError},
    util::text,
};

/// The part of the API that a call belongs to; the same code means different things in different parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// D1 databases.
    D1,
    /// KV namespaces.
    Kv,
    /// R2 buckets.
    R2,
    /// Queues.
    Queues,
    /// Workers.
    Workers,
    /// Custom domains of Workers.
    Domains,
    /// Routes to Workers.
    Routes,
    /// Zones and their settings.
    Zones,
    /// DNS records.
    Dns,
    /// Hyperdrive configurations.
    Hyperdrive,
    /// Vectorize indexes.
    Vectorize,
    /// Secrets stores.
    SecretsStore,
    /// AI gateways.
    AiGateway,
    /// Tunnels.
    Tunnels,
    /// Everything else.
    Other,
}

impl Area {
    /// The area of a path below the account.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            ["zones", _, "dns_records", ..] => return Self::Dns,
            ["zones", _, "workers", ..] => return Self::Routes,
            ["workers", "domains", ..] => return Self::Domains,
            _ => {}
        }
        match parts.first().copied() {
            Some("d1") => Self::D1,
            Some("storage") => Self::Kv,
            Some("r2" | "event_notifications") => Self::R2,
            Some("queues") => Self::Queues,
            Some("workers") => Self::Workers,
            Some("zones") => Self::Zones,
            Some("hyperdrive") => Self::Hyperdrive,
            Some("vectorize") => Self::Vectorize,
            Some("secrets_store") => Self::SecretsStore,
            Some("ai-gateway") => Self::AiGateway,
            Some("cfd_tunnel") => Self::Tunnels,
            _ => Self::Other,
        }
    }

    fn conflict(self, code: i64) -> bool {
        matches!(
            (self, code),
            (Self::D1, 7502)
                | (Self::Kv, 10014)
                | (Self::R2, 10004)
                | (Self::Queues, 11009)
                | (Self::Zones, 1061)
                | (Self::Dns, 81053 | 81057 | 81058)
                | (Self::Routes, 10020)
                | (Self::Domains, 100_116)
                | (Self::Hyperdrive, 2017)
                | (Self::Vectorize, 3002)
                | (Self::SecretsStore, 1003)
                | (Self::Tunnels, 1013)
        )
    }

    fn not_found(self, code: i64) -> bool {
        matches!(
            (self, code),
            (Self::D1, 7404)
                | (Self::Kv, 10013)
                | (Self::R2, 10006 | 10007 | 10053 | 10085 | 11011 | 11015)
                | (Self::Queues, 11000)
                | (Self::Workers, 10007 | 10090)
                | (Self::Dns, 81044)
                | (Self::Routes, 10009)
                | (Self::Domains, 100_114)
                | (Self::Hyperdrive, 2006)
                | (Self::Vectorize, 3000 | 3005)
                | (_, 7003)
        )
    }
}

/// What kind of request a call is: decides whether it may be sent twice and what its failure leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Changes nothing.
    Read,
    /// Sent twice, it does what it does once.
    Idempotent,
    /// Sent twice, it may do it twice.
    Once,
}

/// An answer that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// Cloudflare's code, where the answer has one.
    pub code: Option<i64>,
    /// Cloudflare's words.
    pub message: String,
    /// The call, without account id and query.
    pub call: String,
    /// The id under which Cloudflare's support finds the request.
    pub ray: Option<String>,
    /// The part of the API.
    pub area: Area,
    /// What the call would have done.
    pub effect: Effect,
    /// How long the answer asks to wait.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// Whether the credentials are at fault.
    #[must_use]
    pub fn is_authentication(&self) -> bool {
        matches!(self.status, 401 | 403)
            || matches!(self.code, Some(10000 | 9109 | 9106 | 9103 | 6003))
                && (400..500).contains(&self.status)
    }

    /// Whether an object of that name is there already.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        // The same code says that something else in the body does not fit.
        let gateway = self.area == Area::AiGateway && self.code == Some(7001);
        self.code.is_some_and(|code| self.area.conflict(code))
            || gateway && self.message.contains("already exists")
            || self.status == 409 && self.effect == Effect::Once && self.code != Some(10008)
    }

    /// Whether the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        // The same code says that the token is bad.
        let no_zone = self.code == Some(9109) && self.message.contains("zone identifier");
        self.status == 404 || no_zone || self.code.is_some_and(|code| self.area.not_found(code))
    }

    /// Whether too many requests were sent.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        self.status == 429 || self.code == Some(971)
    }

    fn kind(&self) -> FailureKind {
        if self.is_throttled() {
            FailureKind::Refused
        } else if self.is_conflict() {
            FailureKind::Conflict
        } else if self.is_not_found() {
            FailureKind::NotFound
        } else if self.is_authentication() {
            FailureKind::Authentication
        } else if self.status >= 500 && self.effect != Effect::Read {
            FailureKind::Ambiguous
        } else {
            FailureKind::Refused
        }
    }

    fn help(&self) -> Option<String> {
        let help = match (self.kind(), self.area, self.code) {
            // These say that the token itself is none: missing, malformed, unknown, expired.
            (FailureKind::Authentication, _, Some(1000 | 1001 | 6003 | 6111 | 9103 | 9106)) => {
                "the API token is not valid: `alch login` keeps another one, or set `CLOUDFLARE_API_TOKEN`"
                    .to_owned()
            }
            (FailureKind::Authentication, ..) => format!(
                "check the API token: it must be valid, belong to this account and have {}",
                permission::needed(&self.call)
            ),
            (FailureKind::Conflict, ..) => {
                "take it over with `adopt: true` (or `--adopt`), or choose another `name`"
                    .to_owned()
            }
            (FailureKind::Ambiguous, ..) => {
                "run again: what did happen is found and kept".to_owned()
            }
            (_, Area::R2, Some(10008)) => {
                "pass `empty: true` so that a delete removes the objects first".to_owned()
            }
            (_, Area::Queues, Some(11001)) => {
                "export a `queue` handler from the Worker: `export default { async queue(batch, env) { .. } }`"
                    .to_owned()
            }
            (_, Area::Workers, Some(10063)) => {
                "give the account a workers.dev subdomain in the dashboard, or pass `url: false`"
                    .to_owned()
            }
            (_, Area::Workers, Some(10021)) => {
                "Cloudflare checked the Worker, started it and refused it: correct what the message names (code that throws at the top \
                 level or takes too long to start, a module that is not there, a compatibility date in the future, a limit of the account)"
                    .to_owned()
            }
            _ if self.is_throttled() => {
                "wait five minutes: an account may send 1200 requests in that time".to_owned()
            }
            _ if self.status >= 500 => match &self.ray {
                Some(ray) => {
                    format!("run again later; Cloudflare's support knows the request as ray {ray}")
                }
                None => "run again later".to_owned(),
            },
            _ => return None,
        };
        Some(help)
    }
}

/// Why a call failed, after all its tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The answer says no.
    Api(ApiError),
    /// No answer came.
    Transport {
        /// The call.
        call: String,
        /// What would have been done.
        effect: Effect,
        /// Why.
        error: TransportError,
    },
    /// No answer came in time.
    Timeout {
        /// The call.
        call: String,
        /// What would have been done.
        effect: Effect,
        /// How long was waited.
        after: Duration,
    },
    /// An answer came that cannot be understood.
    Unreadable {
        /// The call.
        call: String,
        /// What would have been done.
        effect: Effect,
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        reason: String,
        /// How long the answer asks to wait.
        retry_after: Option<Duration>,
        /// The id under which Cloudflare's support finds the request.
        ray: Option<String>,
    },
    /// The user stopped the run.
    Cancelled {
        /// The call.
        call: String,
    },
    /// The run may make no more calls. This one was not made; earlier ones of the operation may have been.
    NoLeave {
        /// The call.
        call: String,
        /// Why.
        reason: String,
    },
}

impl CallError {
    /// Whether the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api(error) if error.is_not_found())
    }

    /// Whether the answer carries this code.
    #[must_use]
    pub fn has_code(&self, code: i64) -> bool {
        matches!(self, Self::Api(error) if error.code == Some(code))
    }
}

const AGAIN: &str = "run again: what did happen is found and kept";

impl From<CallError> for ProviderError {
    fn from(error: CallError) -> Self {
        let lost = |effect: Effect, otherwise: FailureKind| match effect {
            Effect::Read => otherwise,
            Effect::Idempotent | Effect::Once => FailureKind::Ambiguous,
        };
        match error {
            CallError::Api(error) => Self {
                kind: error.kind(),
                help: error.help(),
                message: error.message,
                code: Some(
                    error
                        .code
                        .map_or_else(|| format!("HTTP {}", error.status), |code| code.to_string()),
                ),
                call: Some(answered(&error.call, error.status, error.ray.as_deref())),
            },
            CallError::Transport {
                call,
                effect,
                error,
            } => {
                let (kind, help) = match &error {
                    TransportError::Connect { .. } => (
                        FailureKind::Refused,
                        Some("check the network, the proxy settings and the base URL".to_owned()),
                    ),
                    TransportError::Invalid { .. } => (FailureKind::Refused, None),
                    TransportError::Broken { .. } | TransportError::TooLarge { .. } => (
                        lost(effect, FailureKind::Refused),
                        Some(AGAIN.to_owned()),
                    ),
                };
                Self {
                    kind,
                    message: error.to_string(),
                    code: None,
                    call: Some(call),
                    help,
                }
            }
            CallError::Timeout {
                call,
                effect,
                after,
            } => Self {
                kind: lost(effect, FailureKind::Timeout),
                message: format!("no answer within {}", text::duration(after)),
                code: None,
                call: Some(call),
                help: Some(AGAIN.to_owned()),
            },
            CallError::Unreadable {
                call,
                effect,
                status,
                reason,
                ray,
                ..
            } => Self {
                // A refusal is a refusal, whatever stands in its body.
                kind: match status {
                    401 | 403 => FailureKind::Authentication,
                    400..500 => FailureKind::Refused,
                    _ => lost(effect, FailureKind::Refused),
                },
                message: format!("the answer (HTTP {status}) cannot be read: {reason}"),
                code: None,
                call: Some(answered(&call, status, ray.as_deref())),
                help: Some(
                    "check that the base URL is that of Cloudflare's API and that no proxy answers in its place"
                        .to_owned(),
                ),
            },
            CallError::Cancelled { call } => Self {
                kind: FailureKind::Cancelled,
                message: "cancelled".to_owned(),
                code: None,
                call: Some(call),
                help: None,
            },
            CallError::NoLeave { call, reason } => Self {
                kind: FailureKind::Ambiguous,
                message: reason,
                code: None,
                call: Some(call),
                help: Some(AGAIN.to_owned()),
            },
        }
    }
}

/// The failure of a call that does not find the `what` which a prop gives: it says nothing of the resource's own object.
#[must_use]
pub fn missing(what: &str, given: Option<&Value>, error: ProviderError) -> ProviderError {
    let (message, help) = match given {
        Some(Value::Resource(view)) => (
            format!("the {what} `{}` is in state, but gone", view.physical_name),
            "`alch run --refresh` makes it again".to_owned(),
        ),
        given => (
            format!(
                "there is no {what} `{}`",
                given.and_then(Value::as_str).unwrap_or_default()
            ),
            format!(
                "give a {what} of the script, or one that is there; where state knows it, `alch run --refresh` makes it again"
            ),
        ),
    };
    ProviderError {
        kind: FailureKind::Refused,
        message,
        help: Some(help),
        ..error
    }
}

/// The failure of a later step of an update: part of it is done, so that the object no longer has the props that state knows.
#[must_use]
pub fn after_change(what: &str, error: impl Into<ProviderError>) -> ProviderError {
    let mut error = error.into();
    if !matches!(error.kind, FailureKind::Cancelled | FailureKind::Timeout) {
        error.kind = FailureKind::Ambiguous;
    }
    error.message = format!("{what} was changed in part: {}", error.message);
    error
}

/// A call with how it was answered, so that the request can be found on both sides.
fn answered(call: &str, status: u16, ray: Option<&str>) -> String {
    match ray {
        Some(ray) => format!("{call}, answered with HTTP {status}, ray {ray}"),
        None => format!("{call}, answered with HTTP {status}"),
    }
}

/// The failure of a later step of a creation: the object is there by now, so that the engine must look for it instead
/// of taking the creation for undone.
#[must_use]
pub fn after_creation(what: &str, error: impl Into<ProviderError>) -> ProviderError {
    let mut error = error.into();
    if !matches!(error.kind, FailureKind::Cancelled | FailureKind::Timeout) {
        error.kind = FailureKind::Ambiguous;
    }
    error.message = format!("{what} was created, but is not complete: {}", error.message);
    error
}
