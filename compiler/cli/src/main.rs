//! The `nnbpfc` command: reads the arguments and hands over to one module per subcommand.

fn main() {}
