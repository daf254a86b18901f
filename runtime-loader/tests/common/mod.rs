//! What kernel tests share: the decision to skip.

/// Says why a kernel test does not run here, unless it must.
pub(crate) fn skip(test: &str) -> bool {
    let Err(error) = nnbpf_runtime_loader::permission::check() else { return false };
    assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{test}: {error}");
    eprintln!("SKIP {test}: {error}");
    true
}
