//! Rewritten scripts mean the same, and every column leads back.

use proptest::prelude::*;
use rhai::{Dynamic, Engine, NativeCallContext, OptimizationLevel};

use super::*;

fn engine() -> Engine {
    let mut engine = Engine::new();
    engine.set_optimization_level(OptimizationLevel::None);
    engine.register_fn(INTERPOLATE, |value: Dynamic| value);
    engine.register_fn(DECIDED, |value: Dynamic| value);
    engine.register_fn(TO_STRING, |value: Dynamic| value.to_string());
    engine.register_fn(TO_DEBUG, |value: Dynamic| format!("{value:?}"));
    engine.register_fn(TYPE_OF, |context: NativeCallContext, value: Dynamic| {
        context.engine().map_type_name(value.type_name()).to_owned()
    });
    engine
}

#[test]
fn interpolations_and_switches_are_wrapped() {
    for (text, expected) in [
        ("`a`", "`a`"),
        ("`a${1}`", "__interpolate(`a${1}`)"),
        (
            "`a${`b${2}`}c`",
            "__interpolate(`a${__interpolate(`b${2}`)}c`)",
        ),
        ("\"${1}\"", "\"${1}\""),
        ("// `${1}`\n1", "// `${1}`\n1"),
        ("/* /* `${1}` */ switch */ 1", "/* /* `${1}` */ switch */ 1"),
        ("#\"`${1}` \" # \"#", "#\"`${1}` \" # \"#"),
        ("'`' + `${1}`", "'`' + __interpolate(`${1}`)"),
        ("`a``${1}`", "__interpolate(`a``${1}`)"),
        ("switch x { 1 => 2 }", "switch __decided(x ){ 1 => 2 }"),
        (
            "switch #{a: 1}.a { 1 => 2 }",
            "switch __decided(#{a: 1}.a ){ 1 => 2 }",
        ),
        (
            "switch {1} { 1 => `${2}` }",
            "switch __decided({1} ){ 1 => __interpolate(`${2}`) }",
        ),
        ("x.switch", "x.switch"),
        ("x.to_string()", "x.__to_text()"),
        ("to_debug (x)", "__to_dbg (x)"),
        ("x.type_of()", "x.__typeo()"),
        ("#{ to_string: 1 }", "#{ to_string: 1 }"),
        ("fn to_string(x) {}", "fn to_string(x) {}"),
        ("m::to_string(x)", "m::to_string(x)"),
        ("\"to_string()\"", "\"to_string()\""),
    ] {
        assert_eq!(rewrite(text).text, expected, "{text}");
    }
}

#[test]
fn scripts_mean_the_same_after_rewriting() {
    for text in [
        "let a = 1; `x-${a}-${`y${a + 1}`}`",
        "let f = |x| `<${x}>`; f.call(`${f.call(1)}`)",
        "switch 3 { 1 => `a`, 2 | 3 if true => `b${1}`, _ => `c` }",
        "switch (switch 1 { 1 => 2, _ => 3 }) { 2 => `two`, _ => `other` }",
        "let s = #\"`${1}`\"#; s + `${s}` + '`' + \"`${\\\"\"",
        "`a${#{b: [1, `${2}`]}.b[1]}}`",
        "`line one\n${1 +\n 2}\nline two`",
        "let r = []; for i in 0..3 { r.push(switch i { 0 => `z`, 1..3 => `n${i}`, _ => () }) } r.len()",
        "switch `k${1}` { \"k1\" => 1, _ => 2 }",
        "/* ` */ `${1}` // `",
        "switch if true { 1 } else { 2 } { 1 => 10, _ => 20 }",
        "12.to_string() + to_string(`${1}`) + type_of(1) + \"x\".type_of()",
    ] {
        let engine = engine();
        let plain = engine.eval::<Dynamic>(text).map(|v| v.to_string());
        let rewritten = rewrite(text).text;
        let after = engine.eval::<Dynamic>(&rewritten).map(|v| v.to_string());
        assert_eq!(plain.unwrap(), after.expect(&rewritten), "{text}");
    }
}

#[test]
fn columns_lead_back() {
    let text = "let x = `a${1}`; switch x { 1 => missing };";
    let rewritten = rewrite(text);
    for name in ["x =", "`a", "1}", "switch", "x {", "missing"] {
        let original = text.find(name).unwrap() as u32 + 1;
        let name = name.split(' ').next().unwrap();
        let moved = rewritten
            .text
            .find(&format!("{name} "))
            .or(rewritten.text.find(name));
        let moved = match name {
            "x" if original > 20 => rewritten.text.find("x ){").unwrap(),
            _ => moved.unwrap(),
        } as u32
            + 1;
        assert_eq!(rewritten.map.column(1, moved), original, "{name}");
    }
}

proptest! {
    #[test]
    fn any_text_is_rewritten_without_panic_and_leads_back(text in "[a-z`$\\{\\}()\\[\\]#\"'/*\\\\ \n]{0,60}|(switch |`\\$\\{|\\}`|\\{|x ){0,12}") {
        let rewritten = rewrite(&text);
        // Taking the inserts out again gives the text.
        let stripped = rewritten.text.replace("__interpolate(", "").replace("__decided(", "");
        prop_assert!(stripped.len() >= text.len());
        for (index, line) in rewritten.text.lines().enumerate() {
            let original = text.lines().nth(index).unwrap_or("");
            let line_number = u32::try_from(index).unwrap() + 1;
            for column in 1..=u32::try_from(line.chars().count()).unwrap() {
                let back = rewritten.map.column(line_number, column);
                prop_assert!(back >= 1 && back as usize <= original.chars().count() + 1);
            }
        }
    }
}
