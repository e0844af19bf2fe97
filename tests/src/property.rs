//! Configuration of property tests.

use proptest::test_runner::{Config, FileFailurePersistence};

/// `cases` cases for the tests of `source`, which is `file!()`. Seeds of failures are added to
/// `tests/proptest-regressions/SUITE/MODULE.txt`, and are tried first by every later run: that file is
/// committed with the fix.
pub fn property(source: &str, cases: u32) -> Config {
    let inner = source.replace('\\', "/");
    let inner = inner.trim_start_matches("tests/").trim_end_matches(".rs");
    let path = format!("{}/proptest-regressions/{inner}.txt", env!("CARGO_MANIFEST_DIR"));
    let kept = FileFailurePersistence::Direct(Box::leak(path.into_boxed_str()));
    Config { cases, failure_persistence: Some(Box::new(kept)), ..Config::default() }
}

#[test]
fn failures_are_kept_and_tried_again() {
    use proptest::prelude::*;
    use proptest::test_runner::{TestError, TestRunner};
    let module = format!("property-{}", std::process::id());
    let file = format!("{}/proptest-regressions/{module}.txt", env!("CARGO_MANIFEST_DIR"));
    let source = format!("tests/{module}.rs");
    let even = |cases| {
        TestRunner::new(property(&source, cases)).run(&any::<u64>(), |n| {
            prop_assert!(n % 2 == 0);
            Ok(())
        })
    };
    let found = even(64);
    let kept = std::fs::read_to_string(&file);
    // No new cases: what fails now is the seed in the file.
    let again = even(0);
    std::fs::remove_file(&file).expect("a file of seeds");
    assert!(matches!(found, Err(TestError::Fail(..))), "{found:?}");
    assert!(kept.expect("a file of seeds").lines().any(|l| l.starts_with("cc ")));
    assert!(matches!(again, Err(TestError::Fail(..))), "{again:?}");
}
