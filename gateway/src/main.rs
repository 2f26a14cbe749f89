use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: bits_gateway::allocator::Allocator = bits_gateway::allocator::Allocator;

fn main() -> ExitCode {
    bits_gateway::cli::main()
}
