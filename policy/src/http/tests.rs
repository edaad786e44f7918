//! What requests are, as tables; and what must hold for all of them.

use super::*;
use proptest::prelude::*;

fn shipped() -> Http {
    Http::parse(include_str!("../../rules/http.toml")).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_rules_hold_for_their_examples() {
    shipped();
}
