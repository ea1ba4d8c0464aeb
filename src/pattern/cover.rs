//! Whether one pattern matches everything another does: both as automata, walked side by side.

use std::cell::OnceCell;
use std::collections::HashSet;

use regex_automata::dfa::{Automaton, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};

use super::{Pattern, program};

/// An automaton larger than this is not worth a warning.
const LARGEST: usize = 1 << 18;
/// Pairs of states looked at before giving up.
const MOST_PAIRS: usize = 20_000;

type Dfa = dense::DFA<Vec<u32>>;

/// A pattern to compare with others; what that needs is made once, when it is needed.
#[derive(Debug)]
pub struct Cover<'p> {
    pattern: &'p Pattern,
    /// Matches what the pattern matches.
    exact: OnceCell<Option<Dfa>>,
    /// Matches at least that.
    superset: OnceCell<Option<Dfa>>,
}

impl<'p> Cover<'p> {
    /// Compiles nothing yet.
    #[must_use]
    pub fn new(pattern: &'p Pattern) -> Self {
        Self { pattern, exact: OnceCell::new(), superset: OnceCell::new() }
    }

    /// True when every text that begins with `first` and that `later` matches in full is matched in full by this
    /// pattern too. False when that is not sure.
    #[must_use]
    pub fn covers(&self, later: &Self, first: u8) -> bool {
        let (own, other) = (self.pattern, later.pattern);
        if own.as_str() == other.as_str() && own.group_count() == other.group_count() {
            return true;
        }
        let Some(outer) = self.exact() else { return false };
        let inner = if other.needs_backtracking() { later.superset() } else { later.exact() };
        inner.and_then(|inner| walk(outer, inner, first)).unwrap_or(false)
    }

    fn exact(&self) -> Option<&Dfa> {
        self.exact.get_or_init(|| self.pattern.automaton().and_then(|text| build(&text))).as_ref()
    }

    fn superset(&self) -> Option<&Dfa> {
        self.superset.get_or_init(|| build(&self.pattern.superset())).as_ref()
    }
}

fn build(text: &str) -> Option<Dfa> {
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(regex_automata::dfa::StartKind::Anchored)
        .dfa_size_limit(Some(LARGEST))
        .determinize_size_limit(Some(LARGEST));
    dense::Builder::new().configure(config).syntax(program::syntax()).build(text).ok()
}

fn walk(outer: &Dfa, inner: &Dfa, first: u8) -> Option<bool> {
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
        let mut before = None;
        for byte in 0..=u8::MAX {
            let next = (outer.next_state(own, byte), inner.next_state(other, byte));
            // Neighbours mostly lead to the same place, and comparing is cheaper than looking up.
            if before.replace(next) != Some(next) && seen.insert(next) {
                open.push(next);
            }
        }
    }
    Some(true)
}
