//! Arguments to a command to an exit code; everything else is in the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    oncegate::cli::main()
}
