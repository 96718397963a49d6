//! Pages by number (`page`, `per_page`) and their `result_info`.

use serde_json::{Value, json};

use super::{call::Call, error::ApiError};

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    page: i64,
    per_page: i64,
}

impl Page {
    /// Reads the query. A size above `maximum` is cut to it; what is no positive number is refused with `code`.
    pub(super) fn of(call: &Call, default: i64, maximum: i64, code: u32) -> Result<Self, ApiError> {
        Ok(Self {
            page: number(call, "page", 1, code)?,
            per_page: number(call, "per_page", default, code)?.min(maximum),
        })
    }

    /// For `LIMIT`.
    pub(super) fn limit(self) -> i64 {
        self.per_page
    }

    /// For `OFFSET`.
    pub(super) fn offset(self) -> i64 {
        (self.page - 1).saturating_mul(self.per_page)
    }

    /// The part of `items` that this page shows, and its `result_info`.
    pub(super) fn cut(self, items: Vec<Value>) -> (Vec<Value>, Value) {
        let total = items.len();
        let skip = usize::try_from(self.offset()).unwrap_or(usize::MAX);
        let most = usize::try_from(self.per_page).unwrap_or(usize::MAX);
        let items: Vec<Value> = items.into_iter().skip(skip).take(most).collect();
        let info = self.info(items.len(), i64::try_from(total).unwrap_or(i64::MAX));
        (items, info)
    }

    /// `result_info` of this page with `count` of `total` items.
    pub(super) fn info(self, count: usize, total: i64) -> Value {
        json!({
            "page": self.page,
            "per_page": self.per_page,
            "count": count,
            "total_count": total,
            "total_pages": total.saturating_add(self.per_page - 1) / self.per_page,
        })
    }
}

/// A positive number of the query.
pub(super) fn number(call: &Call, name: &str, default: i64, code: u32) -> Result<i64, ApiError> {
    let Some(text) = call.query(name) else {
        return Ok(default);
    };
    text.parse::<i64>()
        .ok()
        .filter(|value| *value > 0)
        .ok_or_else(|| {
            ApiError::bad_request(
                code,
                format!("`{name}` must be a positive number, not `{text}`"),
            )
        })
}
