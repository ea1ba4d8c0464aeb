//! One or many patterns as an automaton that is built while texts are read: cheap to make, one pass over the text.
//!
//! Texts in the syntax of `regex-automata` come in; what groups cover is not known here.

use std::panic::{RefUnwindSafe, UnwindSafe};

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::util::pool::Pool;
use regex_automata::{Anchored, Input, MatchKind, PatternID, PatternSet};

use super::{Overrun, program};

/// What the states may need, however many patterns there are.
const LARGEST: usize = 64 << 20;
/// Memory for the states met so far, for each thread that matches at the same time; full, it starts anew.
const CACHE: usize = 4 << 20;

type MakeCache = Box<dyn Fn() -> Cache + Send + Sync + UnwindSafe + RefUnwindSafe>;

/// Answers which patterns match; always from the start of the text.
#[derive(Debug)]
pub(super) struct Automaton {
    dfa: DFA,
    caches: Pool<Cache, MakeCache>,
}

/// The states of the patterns, to make automata of; none when they are too many.
pub(super) fn states<T: AsRef<str>>(texts: &[T]) -> Option<NFA> {
    let config =
        thompson::Config::new().utf8(false).which_captures(WhichCaptures::None).nfa_size_limit(Some(LARGEST));
    thompson::Compiler::new().configure(config).syntax(program::syntax()).build_many(texts).ok()
}

impl Automaton {
    /// With [`MatchKind::LeftmostFirst`] the first pattern wins, with [`MatchKind::All`] every one is found.
    pub(super) fn new(states: NFA, kind: MatchKind) -> Option<Self> {
        let config = DFA::config().match_kind(kind).cache_capacity(CACHE).skip_cache_capacity_check(true);
        let dfa = DFA::builder().configure(config).build_from_nfa(states).ok()?;
        let own = dfa.clone();
        Some(Self { dfa, caches: Pool::new(Box::new(move || own.create_cache())) })
    }

    /// The pattern that matches. `earliest`: any will do, the text need not be read to its end.
    pub(super) fn first(&self, text: &str, earliest: bool) -> Result<Option<PatternID>, Overrun> {
        let input = Input::new(text).anchored(Anchored::Yes).earliest(earliest);
        let found = self.dfa.try_search_fwd(&mut self.caches.get(), &input);
        // Fails only for settings that are not made above.
        found.map(|found| found.map(|found| found.pattern())).map_err(|_| Overrun)
    }

    /// Every pattern that matches.
    pub(super) fn all(&self, text: &str) -> Result<PatternSet, Overrun> {
        let mut found = PatternSet::new(self.dfa.pattern_len());
        let input = Input::new(text).anchored(Anchored::Yes);
        let done = self.dfa.try_which_overlapping_matches(&mut self.caches.get(), &input, &mut found);
        done.map(|()| found).map_err(|_| Overrun)
    }
}
