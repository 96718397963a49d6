//! The content of TXT records, which is text in quotes however it was sent.

/// What a TXT record says: pieces in quotes put together and without their quotes, anything else as it is.
pub(super) fn said(content: &str) -> String {
    pieces(content).unwrap_or_else(|| content.to_owned())
}

/// Pieces in quotes with nothing but white space between them; none where it is not that.
fn pieces(content: &str) -> Option<String> {
    let mut said = String::new();
    let mut rest = content.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let mut characters = rest.strip_prefix('"')?.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => said.push(characters.next()?.1),
                (_, other) => said.push(other),
            }
        };
        // One for the quote that opens, one for the quote that closes.
        rest = rest[end + 2..].trim_start();
    }
    Some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_make_no_difference() {
        for (content, expected) in [
            ("v=spf1 -all", "v=spf1 -all"),
            ("\"v=spf1 -all\"", "v=spf1 -all"),
            (" \"one\" \"two\"", "onetwo"),
            (r#""a \"b\" \\ c""#, r#"a "b" \ c"#),
            ("\"größe\"  \"ß\"", "größeß"),
            ("\"\"", ""),
            ("", ""),
            ("\"open", "\"open"),
            ("\"a\" b", "\"a\" b"),
            ("a \"b\"", "a \"b\""),
            ("\"a\\", "\"a\\"),
        ] {
            assert_eq!(said(content), expected, "{content}");
        }
    }
}
