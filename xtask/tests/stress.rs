//! Hot update under load, short: `cargo xtask stress-update` runs it longer.

use std::time::Duration;

use xtask::stress::stress;

fn skip(test: &str) -> bool {
    let Err(error) = nnbpf_runtime_loader::permission::check() else { return false };
    assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{test}: {error}");
    eprintln!("SKIP {test}: {error}");
    true
}

#[test]
fn no_update_tears_and_the_naive_one_does() {
    if skip("no_update_tears_and_the_naive_one_does") {
        return;
    }
    for split in [false, true] {
        let tally = stress(Duration::from_secs(4), false, split).unwrap();
        eprintln!("split={split}: {tally:?}");
        assert_eq!(tally.mixed, 0, "split={split}: {tally:?}");
        assert!(tally.updates > 10 && tally.inferences > 100_000, "{tally:?}");
        // The same comparison notices a writer that does not wait; how soon is a matter of luck.
        let torn = (0..20).map(|_| stress(Duration::from_secs(2), true, split).unwrap());
        let torn = torn.inspect(|tally| eprintln!("split={split}, naive: {tally:?}"));
        assert!(torn.into_iter().any(|tally| tally.mixed > 0), "split={split}: nothing tears");
    }
}
