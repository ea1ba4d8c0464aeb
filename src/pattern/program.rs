//! A pattern ready to run: automata, or an engine that backtracks and counts its steps. Each question a pattern is
//! asked has its own, compiled when it is first asked or made ready before: most are never asked.

use std::sync::OnceLock;

use fancy_regex::RegexInput;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind, meta};

use super::automaton::{self, Automaton};
use super::node::Node;
use super::translate::{Form, translate};
use super::{Overrun, PatternError};

/// A pattern that needs more memory than this was not meant so.
const LARGEST: usize = 32 << 20;
/// Rounds of repeats that need not move on, such as `(?:\1{100}){100}`.
const MOST_IDLE_ROUNDS: u64 = 2_000;
/// Backtracking steps for one text; ordinary patterns need a few for each character.
const MOST_STEPS: usize = 200_000;

/// Where each group begins and ends, two by two; group 0 is the whole match.
pub(super) type Slots = Vec<Option<NonMaxUsize>>;

type Ready<T> = OnceLock<Result<Box<T>, PatternError>>;

/// What a pattern may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Whether the whole text matches.
    Full,
    /// What the groups cover then.
    Groups,
    /// Whether a match begins at the start of the text.
    Starts,
}

#[derive(Debug)]
pub(super) enum Program {
    Linear { full: Ready<Automaton>, groups: Ready<meta::Regex>, starts: Ready<Automaton> },
    Backtracking { full: Ready<fancy_regex::Regex>, starts: Ready<fancy_regex::Regex> },
}

impl Program {
    /// Compiles nothing yet.
    pub(super) fn new(root: &Node) -> Result<Self, PatternError> {
        if root.is_linear(true) {
            let (full, groups, starts) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
            Ok(Self::Linear { full, groups, starts })
        } else if root.idle_rounds() > MOST_IDLE_ROUNDS {
            Err(PatternError::new("the pattern repeats too often what may be empty, use smaller repeats", 0))
        } else {
            Ok(Self::Backtracking { full: OnceLock::new(), starts: OnceLock::new() })
        }
    }

    pub(super) fn prepare(&self, root: &Node, question: Question) -> Result<(), PatternError> {
        match (self, question) {
            (Self::Linear { full: program, .. }, Question::Full)
            | (Self::Linear { starts: program, .. }, Question::Starts) => {
                automaton(program, root, question).map(drop)
            }
            (Self::Linear { groups, .. }, Question::Groups) => capturing(groups, root).map(drop),
            (Self::Backtracking { full: program, .. }, Question::Full | Question::Groups)
            | (Self::Backtracking { starts: program, .. }, Question::Starts) => {
                backtracking(program, root, question).map(drop)
            }
        }
        .map_err(Clone::clone)
    }

    /// For [`Question::Full`] and [`Question::Starts`].
    pub(super) fn is_match(&self, root: &Node, question: Question, text: &str) -> Result<bool, Overrun> {
        match self {
            Self::Linear { full, starts, .. } => {
                let program = if question == Question::Starts { starts } else { full };
                let program = automaton(program, root, question).map_err(|_| Overrun)?;
                program.first(text, true).map(|found| found.is_some())
            }
            Self::Backtracking { full, starts } => {
                let program = if question == Question::Starts { starts } else { full };
                let program = backtracking(program, root, question).map_err(|_| Overrun)?;
                program.is_match_input(RegexInput::new(text).anchored(true)).map_err(|_| Overrun)
            }
        }
    }

    /// Fills in the places of `groups` groups and the whole match.
    pub(super) fn captures(&self, root: &Node, groups: usize, text: &str) -> Result<Option<Slots>, Overrun> {
        let mut slots: Slots = vec![None; 2 * (groups + 1)];
        match self {
            Self::Linear { groups: program, .. } => {
                let program = capturing(program, root).map_err(|_| Overrun)?;
                let input = Input::new(text).anchored(Anchored::Yes);
                Ok(program.search_slots(&input, &mut slots).map(|_| slots))
            }
            Self::Backtracking { full, .. } => {
                let program = backtracking(full, root, Question::Full).map_err(|_| Overrun)?;
                let input = RegexInput::new(text).anchored(true);
                let Some(found) = program.captures_input(input).map_err(|_| Overrun)? else {
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

/// The pattern in an engine's words, held to the start of the text and, if the question is about all of it, to its end.
pub(super) fn anchored(root: &Node, form: Form, question: Question) -> String {
    let close = if question == Question::Starts { "" } else { r"\z" };
    format!(r"\A(?:{}){close}", translate(root, form))
}

fn automaton<'p>(
    program: &'p Ready<Automaton>,
    root: &Node,
    question: Question,
) -> Result<&'p Automaton, &'p PatternError> {
    let form = if question == Question::Starts { Form::Starts } else { Form::Full };
    let compile = || {
        let states = automaton::states(&[anchored(root, form, question)]);
        states
            .and_then(|states| Automaton::new(states, MatchKind::LeftmostFirst))
            .map(Box::new)
            .ok_or_else(too_large)
    };
    program.get_or_init(compile).as_deref()
}

/// The text is known to match, or nearly so: an automaton that only tells whether it does would be read for nothing.
fn capturing<'p>(program: &'p Ready<meta::Regex>, root: &Node) -> Result<&'p meta::Regex, &'p PatternError> {
    let compile = || {
        let config = meta::Config::new()
            .utf8_empty(false)
            .auto_prefilter(false)
            .dfa(false)
            .hybrid(false)
            .nfa_size_limit(Some(LARGEST));
        let text = anchored(root, Form::Full, Question::Groups);
        meta::Regex::builder()
            .configure(config)
            .syntax(syntax())
            .build(&text)
            .map(Box::new)
            .map_err(|_| too_large())
    };
    program.get_or_init(compile).as_deref()
}

fn backtracking<'p>(
    program: &'p Ready<fancy_regex::Regex>,
    root: &Node,
    question: Question,
) -> Result<&'p fancy_regex::Regex, &'p PatternError> {
    let compile = || {
        fancy_regex::RegexBuilder::new(&anchored(root, Form::Backtracking, question))
            .backtrack_limit(MOST_STEPS)
            .delegate_size_limit(LARGEST)
            .max_prog_size(1 << 20)
            .build()
            .map(Box::new)
            .map_err(|error| PatternError::new(format!("the pattern cannot be compiled: {error}"), 0))
    };
    program.get_or_init(compile).as_deref()
}

fn too_large() -> PatternError {
    PatternError::new("the pattern is too large when compiled, use smaller repeats", 0)
}
