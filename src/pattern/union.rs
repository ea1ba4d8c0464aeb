//! Many patterns as one automaton: one pass over the text, however many there are.

use regex_automata::MatchKind;

use super::automaton::{self, Automaton};
use super::{Overrun, Pattern};

/// The patterns that one automaton can hold, in order. Those that need backtracking are left out: see
/// [`Pattern::needs_backtracking`].
#[derive(Debug)]
pub struct Union {
    first: Automaton,
    all: Automaton,
    /// From the automaton's numbers to places in the list given.
    places: Vec<usize>,
}

/// The patterns are too large to be one automaton.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the patterns are too large together, use smaller repeats")]
pub struct TooLarge;

impl Union {
    /// Compiles the patterns.
    pub fn new<'p>(patterns: impl Iterator<Item = &'p Pattern>) -> Result<Self, TooLarge> {
        let (places, texts): (Vec<_>, Vec<_>) =
            patterns.enumerate().filter_map(|(place, pattern)| Some((place, pattern.automaton()?))).unzip();
        let states = automaton::states(&texts).ok_or(TooLarge)?;
        let first = Automaton::new(states.clone(), MatchKind::LeftmostFirst).ok_or(TooLarge)?;
        let all = Automaton::new(states, MatchKind::All).ok_or(TooLarge)?;
        Ok(Self { first, all, places })
    }

    /// The first pattern, in the order given, that matches the whole text.
    pub fn first(&self, text: &str) -> Result<Option<usize>, Overrun> {
        let found = self.first.first(text, false)?;
        Ok(found.and_then(|number| self.places.get(number.as_usize()).copied()))
    }

    /// Every pattern that matches the whole text, in order.
    pub fn all(&self, text: &str) -> Result<Vec<usize>, Overrun> {
        let found = self.all.all(text)?;
        Ok(found.iter().filter_map(|number| self.places.get(number.as_usize()).copied()).collect())
    }
}
