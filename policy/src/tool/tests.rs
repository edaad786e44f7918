//! What calls are, as tables; and what must hold for all of them.

use super::*;

fn shipped() -> Tools {
    Tools::parse(include_str!("../../rules/registry.toml")).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_rules_hold_for_their_examples() {
    shipped();
}
