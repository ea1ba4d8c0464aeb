//! Whether one pattern matches everything another does: both as automata, walked side by side.

use std::collections::HashSet;

use regex_automata::dfa::{Automaton, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};

use super::{Pattern, program};

/// An automaton larger than this is not worth a warning.
const LARGEST: usize = 1 << 20;
/// Pairs of states looked at before giving up.
const MOST_PAIRS: usize = 20_000;

/// True when every text that begins with `first` and is matched in full by `later` is matched by `earlier` too.
pub(super) fn covers(earlier: &Pattern, later: &Pattern, first: u8) -> bool {
    if earlier.as_str() == later.as_str() && earlier.group_count() == later.group_count() {
        return true;
    }
    let Some(outer) = earlier.automaton().and_then(|text| build(&text)) else { return false };
    let Some(inner) = build(&later.automaton().unwrap_or_else(|| later.superset())) else { return false };
    walk(&outer, &inner, first).unwrap_or(false)
}

fn build(text: &str) -> Option<dense::DFA<Vec<u32>>> {
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(regex_automata::dfa::StartKind::Anchored)
        .dfa_size_limit(Some(LARGEST))
        .determinize_size_limit(Some(LARGEST));
    dense::Builder::new().configure(config).syntax(program::syntax()).build(text).ok()
}

fn walk(outer: &dense::DFA<Vec<u32>>, inner: &dense::DFA<Vec<u32>>, first: u8) -> Option<bool> {
    let start = start::Config::new().anchored(Anchored::Yes);
    let pair = (outer.start_state(&start).ok().map(|state| outer.next_state(state, first))?, {
        let state = inner.start_state(&start).ok()?;
        inner.next_state(state, first)
    });
    let mut seen: HashSet<(StateID, StateID)> = HashSet::from([pair]);
    let mut open = vec![pair];
    while let Some((own, other)) = open.pop() {
        if outer.is_quit_state(own) || inner.is_quit_state(other) || seen.len() > MOST_PAIRS {
            return None;
        }
        if inner.is_dead_state(other) {
            continue;
        }
        if inner.is_match_state(inner.next_eoi_state(other))
            && !outer.is_match_state(outer.next_eoi_state(own))
        {
            return Some(false);
        }
        for byte in 0..=u8::MAX {
            let next = (outer.next_state(own, byte), inner.next_state(other, byte));
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    Some(true)
}
