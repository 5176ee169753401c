//! Arguments to a command to an exit code; everything else is in the library.
#![forbid(unsafe_code)]

/// A request allocates some forty small pieces; mimalloc needs a third of the C library's instructions for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    oncegate::cli::main()
}
