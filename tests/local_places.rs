//! Where `alch local serve` is: its ports, and its data, which somebody may remove under it.

use std::{io::ErrorKind, net::TcpListener, path::Path, process::ExitStatus};

use rustix::process::Signal;
use snapbox::str;

use crate::support::{
    Project,
    served::{Served, until},
};

/// Removes a file or a folder with all in it, however often the server puts something into it meanwhile.
fn removed(path: &Path) {
    until(|| {
        let gone = match path.is_dir() {
            true => std::fs::remove_dir_all(path),
            false => std::fs::remove_file(path),
        };
        let busy = matches!(&gone, Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty);
        if !busy {
            gone.unwrap();
        }
        (!busy).then_some(())
    });
}

/// Waits until the server has ended by itself; answers how, and what it said since it started.
fn ended(mut served: Served, project: &Project) -> (ExitStatus, Vec<String>) {
    let status = until(|| served.child.try_wait().unwrap());
    let told = served.rest();
    let diagnostics = told.iter().filter(|told| told["type"] == "diagnostic");
    let root = project.folder().canonicalize().unwrap();
    let messages = diagnostics.map(|told| {
        let message = told["message"].as_str().unwrap();
        message.replace(root.to_str().unwrap(), "[PROJECT]")
    });
    (status, messages.collect())
}

#[test]
fn a_server_whose_data_is_removed_says_so_and_ends() {
    let project = Project::new();
    for remove in [
        ".alchemy",
        ".alchemy/local",
        ".alchemy/local/control.sqlite",
    ] {
        let served = Served::start(&project);
        removed(&project.path(remove));
        let (status, messages) = ended(served, &project);
        assert_eq!(status.code(), Some(1), "{remove}");
        // What it was at when the file went may have failed for that before.
        assert_eq!(
            messages.last().unwrap(),
            "the data of this server, `[PROJECT]/.alchemy/local`, was removed or replaced: it has stopped",
            "{remove}"
        );
    }
}

#[test]
fn no_server_starts_on_top_of_one_whose_data_was_removed() {
    let project = Project::new();
    let served = Served::start(&project);
    // It cannot notice now.
    served.signal(Signal::STOP);
    removed(&project.path(".alchemy"));
    project
        .alch(["local", "serve", "--port", "0"])
        .check(str![[r#"
exit 1
-- stderr
error[E0502]: another `alch local serve` runs the Workers of `[ROOT]/project/.alchemy/local`
 = help: stop it first, or use it: it serves this project

"#]]);
    served.signal(Signal::CONT);
    let (status, messages) = ended(served, &project);
    assert_eq!(status.code(), Some(1));
    assert!(
        messages.last().unwrap().contains("was removed or replaced"),
        "{messages:?}"
    );
    drop(Served::start(&project));
}

#[test]
fn a_port_that_is_taken_is_named_with_its_option() {
    let project = Project::new();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let check = |arguments: &[&str], expected| {
        let mut all = vec!["local", "serve"];
        all.extend(arguments);
        let mut command = project.command(all);
        let mut output = project.output_of(&mut command);
        output.stderr = output.stderr.replace(&port, "[PORT]");
        output.check(expected);
    };
    check(
        &["--port", &port],
        str![[r#"
exit 1
-- stderr
error[E0502]: the port [PORT] for the Workers cannot be had
 = note: Address already in use (os error 98)
 = help: choose another one with `--port N`, or any free one with `--port 0`

"#]],
    );
    check(
        &["--port", "0", "--api-port", &port],
        str![[r#"
exit 1
-- stderr
error[E0502]: the port [PORT] for the API cannot be had
 = note: Address already in use (os error 98)
 = help: choose another one with `--api-port N`, or any free one with `--api-port 0`

"#]],
    );
    check(
        &["--port", &port, "--api-port", &port],
        str![[r#"
exit 2
-- stderr
error[E0501]: `--port` and `--api-port` are both [PORT]
 = help: Workers and the API need a port each; 0 takes any free one

"#]],
    );
}
