//! Why secrets cannot be sealed or opened.

use crate::model::StagePath;

/// Why secrets cannot be opened or sealed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VaultError {
    /// The check value does not match.
    #[error("wrong password for stage {stage} (key {key_id})")]
    WrongPassword {
        /// The stage.
        stage: StagePath,
        /// Short id of the key it was written with.
        key_id: String,
    },
    /// The stage was written with a password and there is none.
    #[error("stage {stage} was written with a password (key {key_id}), and none was given")]
    MissingPassword {
        /// The stage.
        stage: StagePath,
        /// Short id of the key it was written with.
        key_id: String,
    },
    /// The stage was written with a key file that is not the one at hand.
    #[error("the key file `{path}` does not open stage {stage} (key {key_id})")]
    WrongKeyFile {
        /// The stage.
        stage: StagePath,
        /// Short id of the key it was written with.
        key_id: String,
        /// The file.
        path: String,
    },
    /// The stage was written with the key file, and a password was given. Going on without it would leave the person in the
    /// belief that the password protects the stage.
    #[error(
        "stage {stage} was written with the key file (key {key_id}), not with a password; run it without one"
    )]
    UnexpectedPassword {
        /// The stage.
        stage: StagePath,
        /// Short id of the key it was written with.
        key_id: String,
    },
    /// The state's own description of its key makes no sense, or the key cannot be derived.
    #[error("the key of stage {stage} cannot be derived: {problem}")]
    Derivation {
        /// The stage.
        stage: StagePath,
        /// What is wrong.
        problem: String,
    },
    /// The key file cannot be read or made.
    #[error("key file `{path}`: {problem}")]
    KeyFile {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A value could not be sealed.
    #[error("the secret at `{context}` cannot be sealed")]
    Seal {
        /// Where it stands.
        context: String,
    },
    /// A sealed value does not open: it was changed or moved.
    #[error("the secret at `{context}` does not open: it was changed or moved")]
    Tampered {
        /// Where it says that it stands.
        context: String,
    },
}
