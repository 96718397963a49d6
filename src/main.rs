//! The `alch` binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    alch::cli::main()
}
