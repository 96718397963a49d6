//! Which handlers a Worker cannot have, told from its code without running it.
//!
//! Cloudflare starts a Worker and asks what it exports. Here a handler counts as missing only when its name stands nowhere in
//! the code: what is left is found when the handler is called.

use rusqlite::Connection;

use super::{super::error::ApiError, model};
use crate::{local::Cloud, local::layout, util::fs};

/// Whether no version of a Worker that gets requests can have a handler of this name.
pub(in crate::local::api) fn lacks(
    cloud: &Cloud,
    connection: &Connection,
    script: &str,
    handler: &str,
) -> Result<bool, ApiError> {
    for (version, _) in model::deployed_versions(connection, script)? {
        for module in model::modules(connection, &version.id)? {
            if module.content_type.starts_with("application/source-map") {
                continue;
            }
            let path = layout::modules_folder(cloud.folder()).join(&module.hash);
            // A file that is gone says nothing.
            let code = fs::read_if_present(&path)?;
            if code.is_none_or(|code| names(&code, handler)) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Whether a word stands in a text by itself, or an escape that could spell it.
fn names(code: &[u8], word: &str) -> bool {
    let word = word.as_bytes();
    let is_part = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$'))
    };
    let whole = |at: usize| {
        let before = at.checked_sub(1).and_then(|before| code.get(before));
        !is_part(before) && !is_part(code.get(at + word.len()))
    };
    let stands = code
        .windows(word.len())
        .enumerate()
        .any(|(at, found)| found == word && whole(at));
    stands || code.windows(2).any(|pair| pair == b"\\u")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_where_it_may_be_a_handler() {
        for (code, found) in [
            ("export default { async queue(batch) {} }", true),
            ("export default { queue: work }", true),
            ("addEventListener(\"queue\", work)", true),
            ("export default class { async 'queue'() {} }", true),
            ("export default { ['\\u0071ueue']() {} }", true),
            (
                "export default { fetch(request, { queue_url, myqueue, $queue }) {} }",
                false,
            ),
            ("", false),
        ] {
            assert_eq!(names(code.as_bytes(), "queue"), found, "{code}");
        }
    }
}
