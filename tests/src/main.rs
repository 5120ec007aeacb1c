//! The command as a process of its own, for what would end the process of the tests.

fn main() {
    arrakis::command::main()
}
