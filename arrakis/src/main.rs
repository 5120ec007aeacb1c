//! The `arrakis` command.

fn main() -> std::process::ExitCode {
    arrakis::command::main()
}
