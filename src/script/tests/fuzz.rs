//! Random and mutated scripts through reading, rewriting and checking: never a panic, and nothing runs.
//!
//! `PROPTEST_CASES` says how many cases each target gets; `scripts/fuzz` runs many.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::super::testing::Stage;

/// Scripts as people write them.
const SEEDS: [&str; 3] = [
    include_str!("../../../examples/quickstart/alchemy.run.rhai"),
    "let app = alchemy(\"a\");\nlet x = Thing(\"t\", #{ size: 3, tags: [1, `${1 + 2}`] });\nprint(x.id ?? \"none\");\n",
    "fn f(a, b) { if a > b { return a; } switch b { 1 | 2 => a, _ if a == 3 => { let c = |z| z * 2; c.call(a) } _ => f(a - 1, b) } }\nalchemy.run(\"s\", || { for (v, i) in [1, 2] { f(v, i); } try { throw #{ a: 1 }; } catch (e) { log(e); } });\n",
];

/// Pieces of which scripts are made, and some that are in no script.
const PIECES: [&str; 48] = [
    "let ",
    "const ",
    "fn f(",
    ")",
    "(",
    "{",
    "}",
    "[",
    "]",
    "#{",
    "|x| ",
    "||",
    "`",
    "${",
    "\"",
    "'a'",
    "'",
    "\\",
    "\\u{",
    "/*",
    "*/",
    "//",
    "\n",
    ";",
    ",",
    ".",
    "..",
    "..=",
    "?.",
    "??",
    "?[",
    "=",
    "==",
    "=>",
    "switch x {",
    "import \"alch/blocks\" as b;",
    "b::Database(\"x\")",
    "alchemy(\"a\")",
    "alchemy.run(\"s\", || ",
    "KV(\"k\", #{ title: ",
    "await ",
    "eval(\"1\")",
    "0x",
    "1e999",
    "\u{202e}",
    "é",
    "\0",
    "this",
];

/// A seed with pieces put in, taken out and exchanged, at the borders of characters.
fn mutated() -> impl Strategy<Value = String> {
    let change = (
        any::<Index>(),
        any::<Index>(),
        0..40_usize,
        any::<Index>(),
        0..4_u8,
    );
    (0..SEEDS.len(), vec(change, 1..8)).prop_map(|(seed, changes)| {
        let mut text: Vec<char> = SEEDS[seed].chars().collect();
        for (at, from, length, piece, what) in changes {
            let at = at.index(text.len() + 1);
            let end = text.len().min(at + length);
            match what {
                0 => drop(text.splice(at..at, PIECES[piece.index(PIECES.len())].chars())),
                1 => drop(text.drain(at..end)),
                2 => drop(text.splice(at..end, PIECES[piece.index(PIECES.len())].chars())),
                _ => {
                    let from = from.index(text.len() + 1);
                    let copy = text[from..text.len().min(from + length)].to_vec();
                    text.splice(at..at, copy);
                }
            }
        }
        text.into_iter().collect()
    })
}

fn assembled() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => any::<Index>().prop_map(|index| PIECES[index.index(PIECES.len())].to_owned()),
        1 => "[a-z]{1,3}",
        1 => any::<char>().prop_map(String::from),
    ];
    vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn fuzz_mutated_scripts(text in mutated()) {
        Stage::new().check(&text);
    }

    #[test]
    fn fuzz_assembled_scripts(text in assembled()) {
        Stage::new().check(&text);
    }

    #[test]
    fn fuzz_random_text(text in "\\PC{0,200}") {
        Stage::new().check(&text);
    }
}
