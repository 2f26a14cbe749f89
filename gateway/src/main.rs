use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: bits_gateway::base::allocator::Allocator =
    bits_gateway::base::allocator::Allocator;

fn main() -> ExitCode {
    bits_gateway::cli::main()
}
