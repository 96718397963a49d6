//! Files of an imported object, in a new folder beside the script. They go again when the import comes to nothing.

use std::path::{Path, PathBuf};

use crate::{
    cli::error::CliError,
    model::{ResourceId, Value},
    provider::{Content, Observation},
    util::fs,
};

/// A folder that was written and is removed unless it is kept.
pub(super) struct Written {
    name: String,
    folder: Option<PathBuf>,
}

impl Written {
    /// Leaves the folder; answers its name.
    pub(super) fn keep(mut self) -> String {
        self.folder = None;
        std::mem::take(&mut self.name)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder
            && let Err(error) = fs::remove_dir_all(folder)
        {
            tracing::warn!(%error, "files of an import that came to nothing are left");
        }
    }
}

/// Writes the files, and says in `seen` where the main one is. A folder that is there already is left alone.
pub(super) fn write(
    beside: &Path,
    id: &ResourceId,
    content: &Content,
    seen: &mut Observation,
) -> Result<Written, CliError> {
    let name = match id.as_str().trim_start_matches('.') {
        "" => "worker",
        name => name,
    };
    let folder = beside.join(name);
    if folder.symlink_metadata().is_ok() {
        return Err(CliError::usage(format!(
            "`{name}` is there already, where the files were to go"
        ))
        .with_note("nothing was changed")
        .with_help(format!(
            "move `{}` away, or give the resource another name: `alch import KIND ID NAME`",
            folder.display()
        )));
    }
    fs::create_dir_all(&folder)?;
    let written = Written {
        name: name.to_owned(),
        folder: Some(folder.clone()),
    };
    for (path, bytes) in &content.files {
        let file = folder.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write_atomic(&file, bytes)?;
    }
    let main = format!("./{name}/{}", content.main);
    seen.props
        .insert(content.prop.to_owned(), Value::from(main));
    Ok(written)
}
