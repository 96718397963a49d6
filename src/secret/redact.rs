//! Redaction: every known secret value is replaced by `<secret>` in all text that leaves the process.
//!
//! Texts are scanned once, whatever the number of secrets. Overlapping finds are blanked as one, so that no tail of a value
//! is left standing.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

/// What stands in the place of a secret.
const MARK: &str = "<secret>";

/// Values with fewer characters would blank ordinary text.
const SHORTEST: usize = 4;

/// Shorter lines of a text of several lines, and shorter pieces of base64, are too likely to be ordinary text.
const SHORTEST_PART: usize = 8;

/// Knows the secret values of this process. Shared by everything that prints, logs or passes on output.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<Known>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor(..)")
    }
}

#[derive(Default)]
struct Known {
    /// Whether there is anything to look for; spares the lock in the common case.
    any: AtomicBool,
    needles: RwLock<Needles>,
}

/// The texts to look for, by their first four bytes.
#[derive(Default)]
struct Needles {
    values: BTreeSet<String>,
    /// One bit for each pair of bytes that some needle begins with.
    pairs: Vec<u64>,
    /// Longest first.
    by_start: HashMap<[u8; 4], Vec<String>>,
}

impl Needles {
    fn insert(&mut self, needle: String) {
        let Some(start) = start_of(needle.as_bytes()) else {
            return;
        };
        let group = self.by_start.entry(start).or_default();
        if group.contains(&needle) {
            return;
        }
        let place = group.partition_point(|other| other.len() >= needle.len());
        group.insert(place, needle);
        self.pairs.resize(1 << 10, 0);
        let pair = usize::from(u16::from_le_bytes([start[0], start[1]]));
        self.pairs[pair >> 6] |= 1 << (pair & 63);
    }

    /// The length of the longest needle that stands at the beginning of `text`.
    fn longest_at(&self, text: &[u8]) -> Option<usize> {
        let start = start_of(text)?;
        let pair = usize::from(u16::from_le_bytes([start[0], start[1]]));
        if self.pairs[pair >> 6] & (1 << (pair & 63)) == 0 {
            return None;
        }
        self.by_start
            .get(&start)?
            .iter()
            .find(|needle| text.starts_with(needle.as_bytes()))
            .map(String::len)
    }
}

fn start_of(text: &[u8]) -> Option<[u8; 4]> {
    text.first_chunk::<4>().copied()
}

impl Redactor {
    /// Adds a value. Values of fewer than 4 characters are not added: they would blank ordinary text.
    pub fn add(&self, value: &str) {
        if value.chars().count() < SHORTEST {
            return;
        }
        let mut needles = self
            .known
            .needles
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if !needles.values.insert(value.to_owned()) {
            return;
        }
        for form in forms(value) {
            needles.insert(form);
        }
        if value.contains(['\n', '\r']) {
            for line in value.lines().map(str::trim) {
                if line.chars().count() >= SHORTEST_PART {
                    for form in forms(line) {
                        needles.insert(form);
                    }
                }
            }
        }
        self.known.any.store(true, Ordering::Release);
    }

    /// `text` with every known value, also in its JSON-escaped, base64 and percent-encoded form, replaced by `<secret>`.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !self.known.any.load(Ordering::Acquire) {
            return Cow::Borrowed(text);
        }
        let needles = self
            .known
            .needles
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let finds = find_all(&needles, text.as_bytes());
        drop(needles);
        if finds.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut copied = 0;
        for (from, to) in finds {
            // Needles are whole UTF-8 texts, so they begin and end at the borders of characters.
            out.push_str(&text[copied..from]);
            out.push_str(MARK);
            copied = to;
        }
        out.push_str(&text[copied..]);
        Cow::Owned(out)
    }
}

/// The ranges that are secret, in order; those that overlap are joined.
fn find_all(needles: &Needles, text: &[u8]) -> Vec<(usize, usize)> {
    let mut finds: Vec<(usize, usize)> = Vec::new();
    for at in 0..text.len() {
        let Some(length) = needles.longest_at(&text[at..]) else {
            continue;
        };
        match finds.last_mut() {
            Some((_, end)) if at < *end => *end = (*end).max(at + length),
            _ => finds.push((at, at + length)),
        }
    }
    finds
}

/// The forms in which a value leaves a process.
fn forms(value: &str) -> Vec<String> {
    let bytes = value.as_bytes();
    let json = serde_json::Value::from(value).to_string();
    let json = json[1..json.len() - 1].to_owned();
    let debug = format!("{value:?}");
    let mut out = vec![
        value.to_owned(),
        json.replace('/', "\\/"),
        json,
        // As Rust shows a text to programmers, in panics and traces.
        debug[1..debug.len() - 1].to_owned(),
        percent_encoded(value, false, "%20"),
        percent_encoded(value, true, "%20"),
        percent_encoded(value, false, "+"),
        percent_encoded(value, true, "+"),
        STANDARD_NO_PAD.encode(bytes),
        URL_SAFE_NO_PAD.encode(bytes),
    ];
    // A value inside a longer text that is encoded as a whole (`user:password`) has three forms, by its offset there.
    for offset in 0..3_usize {
        let mut shifted = vec![0; offset];
        shifted.extend_from_slice(bytes);
        let first = (offset * 8).div_ceil(6);
        let last = shifted.len() * 8 / 6;
        if last - first >= SHORTEST_PART {
            out.push(STANDARD_NO_PAD.encode(&shifted)[first..last].to_owned());
            out.push(URL_SAFE_NO_PAD.encode(&shifted)[first..last].to_owned());
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

fn percent_encoded(value: &str, lower: bool, space: &str) -> String {
    let mut out = String::with_capacity(value.len() * 3);
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else if byte == b' ' {
            out.push_str(space);
        } else if lower {
            out.push_str(&format!("%{byte:02x}"));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn redactor(values: &[&str]) -> Redactor {
        let redactor = Redactor::default();
        for value in values {
            redactor.add(value);
        }
        redactor
    }

    #[test]
    fn nothing_known_nothing_copied() {
        assert!(matches!(
            Redactor::default().redact("plain"),
            Cow::Borrowed("plain")
        ));
        assert!(matches!(
            redactor(&["hunter22"]).redact("plain"),
            Cow::Borrowed("plain")
        ));
    }

    #[test]
    fn every_form_of_a_value_is_blanked() {
        let value = "p\"ä ss/wörd+1";
        let redactor = redactor(&[value]);
        let json = serde_json::to_string(value).unwrap();
        let cases = [
            value.to_owned(),
            json,
            STANDARD.encode(value),
            STANDARD_NO_PAD.encode(format!("u:{value}")),
            STANDARD_NO_PAD.encode(format!("usr:{value}@host")),
            URL_SAFE_NO_PAD.encode(format!("user:{value}")),
            percent_encoded(value, false, "%20"),
            percent_encoded(value, true, "+"),
        ];
        for case in cases {
            let line = format!("a {case} b");
            let out = redactor.redact(&line);
            assert!(out.contains(MARK), "{line}: {out}");
        }
    }

    #[test]
    fn longer_and_overlapping_values_leave_no_tail() {
        let redactor = redactor(&["abcdef", "abcdefgh", "ghijkl"]);
        assert_eq!(redactor.redact("x abcdefghijkl y"), "x <secret> y");
        assert_eq!(redactor.redact("abcdefabcdef"), "<secret><secret>");
    }

    #[test]
    fn short_values_are_left_alone_and_long_lines_of_a_text_are_not() {
        let redactor = redactor(&["abc", "-----BEGIN-----\nMIIEvQIBADANBg\nxy\n"]);
        assert_eq!(redactor.redact("abc xy"), "abc xy");
        assert_eq!(redactor.redact("> MIIEvQIBADANBg"), "> <secret>");
    }

    proptest! {
        #[test]
        fn no_value_survives(value in "\\PC{4,20}", before in "\\PC{0,20}", after in "\\PC{0,20}") {
            prop_assume!(!MARK.contains(&value));
            let redactor = redactor(&[&value]);
            let text = format!("{before}{value}{after}");
            let redacted = redactor.redact(&text);
            prop_assert!(redacted.contains(MARK));
            prop_assert!(redacted.len() <= text.len() + MARK.len() * text.len());
        }
    }
}
