//! Diagnostics as data: what went wrong, where, and what to do next.
//!
//! Every module that can fail at a user's hands makes these; only `ui` turns them into text.

use std::{fmt, sync::Arc};

use super::source::SourceFile;

/// A stable error id such as `E0412`, explained by `alch explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub u16);

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E{:04}", self.0)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The run failed.
    Error,
    /// The run goes on, and the user should know.
    Warning,
}

/// A place in a source file with a word on why it matters.
#[derive(Debug, Clone)]
pub struct Label {
    /// The file.
    pub source: Arc<SourceFile>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// How many characters to underline; 0 lets the renderer extend to the end of the token.
    pub length: u32,
    /// The words beside the underline; may be empty.
    pub text: String,
    /// Whether this is the place of the error itself.
    pub primary: bool,
}

/// One problem, ready to be rendered.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The stable id, where there is one.
    pub code: Option<ErrorCode>,
    /// One sentence without a full stop.
    pub message: String,
    /// Places, the primary one first.
    pub labels: Vec<Label>,
    /// Facts: causes, what was and was not changed.
    pub notes: Vec<String>,
    /// Next steps: ideally a command to type.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error with a stable id.
    #[must_use]
    pub fn error(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: Some(code),
            message: message.into(),
            labels: Vec::new(),
            notes: Vec::new(),
            help: Vec::new(),
        }
    }

    /// A warning with a stable id.
    #[must_use]
    pub fn warning(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, message)
        }
    }

    /// Adds a place.
    #[must_use]
    pub fn with_label(mut self, label: Label) -> Self {
        self.labels.push(label);
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds a next step.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// Every error id in use, grouped by what it is about.
pub mod codes {
    use super::ErrorCode;

    macro_rules! codes {
        ($($name:ident = $number:literal, $doc:literal;)*) => {
            $(#[doc = $doc] pub const $name: ErrorCode = ErrorCode($number);)*
            /// All ids with one line on each.
            pub const ALL: &[(ErrorCode, &str)] = &[$(($name, $doc)),*];
        };
    }

    codes! {
        SYNTAX = 101, "The script is not valid Rhai.";
        UNKNOWN_FUNCTION = 102, "No function of that name exists.";
        UNKNOWN_VARIABLE = 103, "No variable or module of that name is in scope.";
        WRONG_ARGUMENTS = 104, "The function exists but not with these arguments.";
        RUNTIME = 105, "The script failed while running.";
        THROWN = 106, "The script threw an error that nothing caught.";
        OPERATION_LIMIT = 107, "The script used up its operation budget; it probably loops for ever.";
        CALL_DEPTH = 108, "Functions call each other too deeply.";
        MODULE = 109, "An imported module cannot be found or loaded.";
        OWN_RECEIVER = 110, "A closure uses the object whose method it was passed to.";
        ENCODING = 111, "The script is not UTF-8 text.";
        TOO_LARGE = 112, "The script, or an expression in it, is too large or too deeply nested.";
        NO_SCRIPT = 113, "The script file cannot be read.";
        FORCED_UNKNOWN = 114, "A plan cannot decide on a value that only the provider will know.";
        MISSING_ENV = 115, "An environment variable is not set.";
        PERMISSION = 116, "The script has no permission for this.";
        MISSING_FILE = 117, "A file that the script names cannot be read.";
        CUSTOM_KIND = 118, "A resource kind defined by the script is not usable.";
        NO_APP = 119, "A resource stands before `alchemy(..)`.";
        MEMORY_LIMIT = 120, "The script uses too much memory.";
        UNKNOWN_PROP = 201, "The resource kind has no prop of that name.";
        WRONG_TYPE = 202, "A prop has the wrong type or an impossible value.";
        MISSING_PROP = 203, "A required prop is missing.";
        DUPLICATE_ID = 205, "Two resources of one scope have the same id.";
        BAD_ID = 206, "An id, stage or app name is not allowed.";
        UNKNOWN_ATTRIBUTE = 207, "The resource kind has no attribute of that name.";
        SAME_OBJECT = 208, "Two resources would be one object at the provider.";
        UNKNOWN_KIND = 209, "No provider serves that resource kind.";
        PROVIDER = 301, "A provider refused or failed.";
        CONFLICT = 302, "An object of that name exists already.";
        AUTHENTICATION = 303, "Credentials are missing, wrong or too weak.";
        TIMEOUT = 304, "An operation took too long.";
        CANCELLED = 305, "The run was stopped.";
        DEPENDENCY = 306, "A resource was not tried because another one failed.";
        PROTECTED = 307, "A protected resource would be deleted or replaced.";

        DATA_LOSS = 308, "A change would lose data.";
        NO_OBJECT = 309, "The provider has no such object.";
        LOCKED = 401, "Another run holds the stage.";
        CORRUPT = 402, "State on disk is damaged.";
        TOO_NEW = 403, "State was written by a newer alch.";
        STATE_IO = 404, "State cannot be read or written.";
        FENCED = 405, "Another run took the stage over.";
        NO_STAGE = 406, "The stage or scope has no state.";
        WRONG_PASSWORD = 407, "The password does not open the stage's secrets.";
        MISSING_PASSWORD = 408, "The stage was written with a password, and none was given.";
        STALE_PLAN = 409, "State or script moved on since the plan was saved.";
        OTHER_TARGET = 410, "The stage was deployed to another target.";
        NOT_IN_STATE = 411, "A resource is declared but was never deployed.";
        IN_STATE = 412, "The object is in state already, or cannot be taken into it.";
        BUCKET = 420, "The bucket that holds state cannot be used.";
        OTHER_HISTORY = 421, "The other store has another history of the stage, or a newer one.";
        OTHER_STORE = 422, "The stage has state in another store than the one in use.";
        KEPT = 423, "What a run had kept on this machine was saved.";
        MOVED = 424, "The state of the stage was brought to another store.";
        USAGE = 501, "The command line does not make sense.";
        LOCAL_RUNTIME = 502, "The local cloud cannot be served, or cannot run Workers.";
    }
}
