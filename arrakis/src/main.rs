//! The `arrakis` command.

fn main() {
    arrakis::command::main()
}
