//! Places in source files: what a code frame needs to point at something.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The text of a script or module, shared by every diagnostic that points into it.
#[derive(PartialEq, Eq)]
pub struct SourceFile {
    /// How the user names the file: relative to the working folder where possible.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceFile({}, {} bytes)", self.name, self.text.len())
    }
}

/// A line and column of a file; both count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The file as the user names it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
