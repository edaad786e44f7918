//! What deeds to files are, as tables; and what must hold for all of them.

use super::*;
use proptest::prelude::*;

fn shipped() -> Paths {
    Paths::parse(include_str!("../../rules/paths.toml")).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_rules_hold_for_their_examples() {
    shipped();
}
