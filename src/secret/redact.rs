//! Redaction: every known secret value is replaced by `<secret>` in all text that leaves the process.

/// Knows the secret values of this process. Shared by everything that prints, logs or passes on output.
#[derive(Clone, Default)]
pub struct Redactor {}

impl Redactor {
    /// Adds a value. Values of fewer than 4 characters are not added: they would blank ordinary text.
    pub fn add(&self, value: &str) {
        unimplemented!()
    }

    /// `text` with every known value, also in its JSON-escaped, base64 and percent-encoded form, replaced by `<secret>`.
    pub fn redact<'a>(&self, text: &'a str) -> std::borrow::Cow<'a, str> {
        unimplemented!()
    }
}
