//! What is no experiment is refused with the reason, at the place.
//!
//! A binary of its own, beside the one of all other tests: `trybuild` builds what the package depends on once more, which
//! is little here, and LibTorch's bindings there.

#[test]
fn what_is_no_experiment_is_refused_with_the_reason_at_its_place() {
    trybuild::TestCases::new().compile_fail("tests/refusals/*.rs");
}
