//! The door: hands the command line to the library and its result to the operating system.

use std::process::ExitCode;

fn main() -> ExitCode {
    compat_proxy::cli::main(std::env::args_os())
}
