//! A pattern ready to run: one automaton, or an engine that backtracks and counts its steps.

use fancy_regex::RegexInput;
use regex_automata::meta;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::node::Node;
use super::translate::{Form, translate};
use super::{Overrun, PatternError};

/// A pattern that needs more memory than this was not meant so (`(?:a{1000}){1000}`).
const LARGEST: usize = 8 << 20;
/// Rounds of repeats that need not move on, such as `(?:\1{100}){100}`.
const MOST_IDLE_ROUNDS: u64 = 2_000;
/// Backtracking steps for one text; ordinary patterns need a few for each character.
const MOST_STEPS: usize = 200_000;

/// Where each group begins and ends, two by two; group 0 is the whole match.
pub(super) type Slots = Vec<Option<NonMaxUsize>>;

#[derive(Debug)]
pub(super) enum Program {
    Linear(meta::Regex),
    Backtracking(fancy_regex::Regex),
}

impl Program {
    /// Compiles for the whole text (`full`) or for a beginning of it.
    pub(super) fn new(root: &Node, full: bool) -> Result<Self, PatternError> {
        let close = if full { r")\z" } else { ")" };
        if root.is_linear(true) {
            let text = translate(root, if full { Form::Full } else { Form::Starts });
            linear(&format!(r"\A(?:{text}{close}")).map(Self::Linear)
        } else if root.idle_rounds() > MOST_IDLE_ROUNDS {
            Err(PatternError::new("the pattern repeats too often what may be empty, use smaller repeats", 0))
        } else {
            let text = translate(root, Form::Backtracking);
            backtracking(&format!(r"\A(?:{text}{close}")).map(Self::Backtracking)
        }
    }

    pub(super) fn is_match(&self, text: &str) -> Result<bool, Overrun> {
        match self {
            Self::Linear(regex) => {
                let input = Input::new(text).anchored(Anchored::Yes).earliest(true);
                Ok(regex.search_half(&input).is_some())
            }
            Self::Backtracking(regex) => {
                regex.is_match_input(RegexInput::new(text).anchored(true)).map_err(|_| Overrun)
            }
        }
    }

    /// Fills in the places of `groups` groups and the whole match.
    pub(super) fn captures(&self, text: &str, groups: usize) -> Result<Option<Slots>, Overrun> {
        let mut slots: Slots = vec![None; 2 * (groups + 1)];
        match self {
            Self::Linear(regex) => {
                let input = Input::new(text).anchored(Anchored::Yes);
                Ok(regex.search_slots(&input, &mut slots).map(|_| slots))
            }
            Self::Backtracking(regex) => {
                let input = RegexInput::new(text).anchored(true);
                let Some(found) = regex.captures_input(input).map_err(|_| Overrun)? else {
                    return Ok(None);
                };
                for (index, pair) in slots.chunks_exact_mut(2).enumerate() {
                    if let (Some(part), [start, end]) = (found.get(index), pair) {
                        *start = NonMaxUsize::new(part.start());
                        *end = NonMaxUsize::new(part.end());
                    }
                }
                Ok(Some(slots))
            }
        }
    }
}

/// Sets of bytes are written as sets of characters, but ASCII word boundaries need the byte mode.
pub(super) fn syntax() -> syntax::Config {
    syntax::Config::new().utf8(false).nest_limit(2_000)
}

fn linear(text: &str) -> Result<meta::Regex, PatternError> {
    meta::Regex::builder()
        .configure(meta::Config::new().utf8_empty(false).nfa_size_limit(Some(LARGEST)))
        .syntax(syntax())
        .build(text)
        .map_err(|error| too_much(error.size_limit().is_some(), &error))
}

fn backtracking(text: &str) -> Result<fancy_regex::Regex, PatternError> {
    fancy_regex::RegexBuilder::new(text)
        .backtrack_limit(MOST_STEPS)
        .delegate_size_limit(LARGEST)
        .max_prog_size(1 << 20)
        .build()
        .map_err(|error| too_much(true, &error))
}

fn too_much(size: bool, error: &dyn std::error::Error) -> PatternError {
    if size {
        PatternError::new("the pattern is too large when compiled, use smaller repeats", 0)
    } else {
        PatternError::new(format!("the pattern cannot be compiled: {error}"), 0)
    }
}
