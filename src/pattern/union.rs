//! Many patterns as one automaton: one pass over the text, however many there are.

use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::{Anchored, Input, MatchKind, PatternSet, meta};

use super::{Pattern, program};

/// What the patterns may need together.
const LARGEST: usize = 64 << 20;
/// The lazy automaton's memory, for each thread that matches at the same time.
const CACHE: usize = 4 << 20;

/// The patterns that one automaton can hold, in order. Those that need backtracking are left out: see
/// [`Pattern::needs_backtracking`].
#[derive(Debug)]
pub struct Union {
    first: meta::Regex,
    all: Option<meta::Regex>,
    /// From the automaton's numbers to places in the list given.
    places: Vec<usize>,
}

/// The patterns are too large to be one automaton.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the patterns are too large together, use smaller repeats")]
pub struct TooLarge;

impl Union {
    /// Compiles the patterns; with `all`, [`Union::all`] may be asked.
    pub fn new<'p>(patterns: impl Iterator<Item = &'p Pattern>, all: bool) -> Result<Self, TooLarge> {
        let (places, texts): (Vec<_>, Vec<_>) =
            patterns.enumerate().filter_map(|(place, pattern)| Some((place, pattern.automaton()?))).unzip();
        let first = build(&texts, MatchKind::LeftmostFirst)?;
        let all = if all { Some(build(&texts, MatchKind::All)?) } else { None };
        Ok(Self { first, all, places })
    }

    /// The first pattern, in the order given, that matches the whole text.
    #[must_use]
    pub fn first(&self, text: &str) -> Option<usize> {
        let input = Input::new(text).anchored(Anchored::Yes);
        let found = self.first.search_half(&input)?;
        self.places.get(found.pattern().as_usize()).copied()
    }

    /// Every pattern that matches the whole text, in order; nothing when the union was not made for it.
    #[must_use]
    pub fn all(&self, text: &str) -> Vec<usize> {
        let Some(all) = &self.all else { return Vec::new() };
        let mut found = PatternSet::new(self.places.len());
        all.which_overlapping_matches(&Input::new(text).anchored(Anchored::Yes), &mut found);
        found.iter().filter_map(|number| self.places.get(number.as_usize()).copied()).collect()
    }
}

fn build(texts: &[String], kind: MatchKind) -> Result<meta::Regex, TooLarge> {
    let config = meta::Config::new()
        .match_kind(kind)
        .which_captures(WhichCaptures::Implicit)
        .utf8_empty(false)
        .nfa_size_limit(Some(LARGEST))
        .hybrid_cache_capacity(CACHE);
    meta::Regex::builder().configure(config).syntax(program::syntax()).build_many(texts).map_err(|_| TooLarge)
}
