//! The virtual machine against the kernel, instruction by instruction: `cargo xtask vm-cases` compares more.

#![cfg(test)]

mod faults;

use xtask::vm_cases::compare;

/// Cases of the ordinary test.
const CASES: u64 = 10_000_000;

fn skip(test: &str) -> bool {
    let Err(error) = nnbpf_runtime_loader::permission::check() else { return false };
    assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{test}: {error}");
    eprintln!("SKIP {test}: {error}");
    true
}

#[test]
fn instructions_agree_with_the_kernel() {
    if skip("instructions_agree_with_the_kernel") {
        return;
    }
    let tally = compare(CASES, 1).unwrap();
    eprintln!("{}", tally.summary());
    assert!(tally.differences.is_empty(), "{}", tally.differences.join("\n\n"));
    assert!(tally.cases >= CASES);
    // All rows but the exit, and none of them seldom.
    assert_eq!(tally.rows.len(), nnbpf_compiler::bpf::table::rows().count() - 1);
    let seldom: Vec<_> = tally.rows.iter().filter(|(_, cases)| **cases < CASES / 500).collect();
    assert!(seldom.is_empty(), "{seldom:?}");
}
