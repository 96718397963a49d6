use super::super::testing::Stage;
use crate::engine::Phase;
#[test]
fn probe() {
    let deep = "(".repeat(10_000);
    let deep2 = format!("let x = {}1{};", "[".repeat(10_000), "]".repeat(10_000));
    let deep3 = format!("let x = {}1{};", "`${".repeat(5_000), "}`".repeat(5_000));
    let deep4 = format!("{} 1 {}", "if true {".repeat(10_000), "}".repeat(10_000));
    for text in [
        deep.as_str(),
        &deep2,
        &deep3,
        &deep4,
        "loop {}",
        "let x = 0; while true { x += 1 }",
        "fn f() { f() } f();",
        "fn f() { run(\"x\", || f()) } f();",
        "let s = \"abcdefgh\"; loop { s += s }",
        "let s = [1,2,3]; loop { s += s }",
        "let s = #{}; let i = 0; loop { s[`k${i}`] = \"x\".repeat(1000); i += 1 }",
        "let s = [1]; loop { s = [s, s] }",
        "let s = []; loop { s.push(\"abcdefghijklmnopqrstuvwxyz\" + s.len()) }",
        "let s = \"\"; s.pad(9000000000, 'x'); print(s.len())",
        "let s = blob(9000000000); ",
        "let s = \"aaaaaaaaaaaaaaaa\"; loop { s.replace(\"a\", s) }",
        "let s = []; s.pad(9000000000, 1)",
    ] {
        let stage = Stage::new();
        let begin = std::time::Instant::now();
        let name: String = text.chars().take(60).collect();
        let out = stage.up(text).text();
        let out: String = out.chars().take(300).collect();
        println!("=== {name}\n{out}\n{:?}\n", begin.elapsed());
    }
}
