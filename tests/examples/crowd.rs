//! `cargo run -p e2e-tests --example crowd [IDLE [DRIBBLING [UPLOADS]]]`: what the gateway holds for a crowd.

use e2e_tests::crowd::{Crowd, run};

fn main() {
    let mut numbers = std::env::args().skip(1).map(|n| n.parse().expect("a number"));
    let mut next = |default| numbers.next().unwrap_or(default);
    let crowd = Crowd {
        idle: next(10_000),
        dribbling: next(1_000),
        uploads: next(50),
        upload_bytes: 4 * 1024 * 1024,
    };
    let held = run(crowd);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("{crowd:?}");
    println!("{} bytes for each idle connection", held.each_idle(&crowd));
    println!(
        "{:.1} MiB before, {:.1} MiB with the idle ones, {:.1} MiB at the end; {} bytes dribbled",
        mib(held.before),
        mib(held.idle),
        mib(held.all),
        held.dribbled
    );
}
