//! Small text helpers: did-you-mean, plurals, durations, cutting names to a limit.

use std::{ops::RangeInclusive, time::Duration};

/// The candidates nearest to `word`, best first, at most `count`; empty when none is near enough to be a typo.
pub fn suggestions<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    count: usize,
) -> Vec<&'a str> {
    let lower = word.to_lowercase();
    let mut scored: Vec<(f64, &str)> = candidates
        .into_iter()
        .map(|candidate| {
            let other = candidate.to_lowercase();
            // A candidate of one or two characters begins far too many words.
            let prefix = !lower.is_empty()
                && (other.starts_with(&lower) || (other.len() > 2 && lower.starts_with(&other)));
            // One slip in a short word weighs too much with Jaro-Winkler.
            let slip = lower.len() > 2 && strsim::damerau_levenshtein(&lower, &other) == 1;
            let near = if prefix || slip { 0.85 } else { 0.0 };
            let score = strsim::jaro_winkler(&lower, &other).max(near);
            (score, candidate)
        })
        .filter(|(score, _)| *score >= 0.8)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored
        .into_iter()
        .take(count)
        .map(|(_, candidate)| candidate)
        .collect()
}

/// `1 resource`, `2 resources`.
#[must_use]
pub fn plural(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("{count} {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

/// A duration for people: `12 ms`, `4.1 s`, `3 min 5 s`.
#[must_use]
pub fn duration(value: Duration) -> String {
    let millis = value.as_millis();
    if millis < 1000 {
        format!("{millis} ms")
    } else if value.as_secs() < 60 {
        format!("{:.1} s", value.as_secs_f64())
    } else {
        format!("{} min {} s", value.as_secs() / 60, value.as_secs() % 60)
    }
}

/// Replaces every character outside `a-z A-Z 0-9 _ -` by `-` and lowers the case, as physical names need.
#[must_use]
pub fn sanitise(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect()
}

/// Cuts `name` to `limit` characters, ending in `-` and six characters of the hash of `unique` when it was too long.
#[must_use]
pub fn fit_name(name: &str, limit: usize, unique: &str) -> String {
    if name.chars().count() <= limit {
        return name.to_owned();
    }
    let hash = blake3::hash(unique.as_bytes()).to_hex();
    let keep: String = name.chars().take(limit.saturating_sub(7)).collect();
    format!("{}-{}", keep.trim_end_matches(['-', '_']), &hash[..6])
}

/// A physical name made of `whole`: sanitised, within `limits` characters, ending in six characters of the hash of `unique`
/// where it was too long or where names that differ would end up as one.
#[must_use]
pub fn made_name(
    whole: &str,
    limits: RangeInclusive<usize>,
    underscores: bool,
    unique: &str,
) -> String {
    let mut name = sanitise(whole);
    if !underscores {
        name = name.replace('_', "-");
    }
    let trimmed = name.trim_matches(['-', '_']);
    let (least, limit) = limits.into_inner();
    if trimmed.len() >= least && whole.is_ascii() {
        return fit_name(trimmed, limit, unique);
    }
    let hash = blake3::hash(unique.as_bytes()).to_hex();
    let joined = format!("{trimmed}-{}", &hash[..6]);
    fit_name(joined.trim_start_matches('-'), limit, unique)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_stay_different() {
        let made = |whole: &str| made_name(whole, 1..=20, true, whole);
        assert_eq!(made("g-main-dev"), "g-main-dev");
        let (laughing, grinning) = (made("g-\u{1f600}-dev"), made("g-\u{1f601}-dev"));
        assert_ne!(laughing, grinning);
        assert!(laughing.starts_with("g---dev-"), "{laughing}");
        assert_eq!(made("a-name-that-is-much-too-long").len(), 20);
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        assert_eq!(
            suggestions("migratons", ["migrations", "name"], 3),
            ["migrations"]
        );
        assert_eq!(
            suggestions("Databse", ["Database", "Bucket"], 3),
            ["Database"]
        );
        assert!(suggestions("zzz", ["migrations"], 3).is_empty());
    }

    #[test]
    fn long_names_keep_their_beginning_and_end_in_a_hash() {
        let long = "a".repeat(80);
        let cut = fit_name(&long, 63, "app/dev/x");
        assert_eq!(cut.len(), 63);
        assert_ne!(cut, fit_name(&long, 63, "app/dev/y"));
        assert_eq!(fit_name("short", 63, "app/dev/x"), "short");
    }
}
