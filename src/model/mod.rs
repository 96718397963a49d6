//! Plain data that crosses module borders: names, values, schemas, positions, diagnostics.
//!
//! Nothing here does I/O and nothing here knows Rhai, a provider or a terminal. What is written to disk or handed from
//! one module to another is made of these types.

pub mod diagnostic;
pub mod name;
pub mod schema;
pub mod source;
pub mod value;

pub use diagnostic::{Diagnostic, ErrorCode, Label, Severity};
pub use name::{AppName, Fqn, NameError, ResourceId, ScopePath, StageName, StagePath};
pub use schema::{Attribute, DeletePolicy, KindSchema, Prop, PropType, ReplaceOrder};
pub use source::{Position, SourceFile};
pub use value::{Map, Reference, ResourceView, Secret, SecretMac, TemplatePart, Value};
