//! Help fits a terminal of 80 columns: of every command, with its examples and tables.

use crate::support::Project;

/// The commands that a help lists.
fn commands(help: &str) -> Vec<String> {
    let list = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let list = list.lines().take_while(|line| line.starts_with("  "));
    list.filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Every help of a command and of those below it, with the arguments that ask for it.
fn helps(project: &Project, command: &[String], out: &mut Vec<(String, String)>) {
    for flag in ["-h", "--help"] {
        let arguments = command.iter().map(String::as_str).chain([flag]);
        let help = project.alch(arguments).success().stdout;
        out.push((format!("{} {flag}", command.join(" ")), help));
    }
    let long = &out.last().expect("the long help").1;
    for name in commands(long) {
        let mut below = command.to_vec();
        below.push(name);
        helps(project, &below, out);
    }
}

fn all(columns: &str) -> Vec<(String, String)> {
    let mut project = Project::new();
    project.env("COLUMNS", columns);
    let mut out = Vec::new();
    helps(&project, &[], &mut out);
    out
}

#[test]
fn no_line_is_wider_than_the_terminal_and_no_example_is_broken() {
    let (narrow, wide) = (all("80"), all("100"));
    assert!(narrow.len() > 80, "{}", narrow.len());
    assert_eq!(narrow.len(), wide.len());
    for ((name, narrow), (_, wide)) in narrow.iter().zip(&wide) {
        for line in narrow.lines() {
            assert!(line.chars().count() <= 80, "alch {name}: {line}");
        }
        // Below the options nothing but paragraphs is wrapped.
        let examples = wide.split("\nExamples:\n").nth(1).unwrap_or_default();
        let codes = wide.split("Exit codes:\n").nth(1).unwrap_or_default();
        let codes = codes.split("\nUsage:").next().unwrap_or_default();
        for line in examples.lines().chain(codes.lines()) {
            assert!(
                !line.starts_with("  ") || narrow.lines().any(|other| other == line),
                "alch {name}: {line}"
            );
        }
    }
}
