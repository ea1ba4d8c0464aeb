//! Regular expressions as `app.yaml` means them: Python's `re` syntax (3.11, with `re.ASCII`).
//!
//! 1. `source`: the text as tokens.
//! 2. `parse`, `group`, `set`, `escape`: tokens to a tree of [`node`]s; what Python refuses is refused, in its words.
//! 3. `translate`: the tree in the syntax of an engine.
//! 4. `program`: automata where that keeps the meaning (`automaton`), else an engine that backtracks and counts its
//!    steps.
//! 5. `union`: many patterns as one automaton; `cover`: whether one pattern matches all that another does, `sample`:
//!    a text to rule that out.
//! 6. `template`: replacement texts such as `static/\1`.
//!
//! Nothing here knows what a handler or a path is.

use std::sync::Arc;

mod automaton;
mod cover;
mod escape;
mod group;
mod node;
mod parse;
mod program;
mod sample;
mod set;
mod source;
mod template;
mod translate;
mod union;

#[cfg(test)]
mod tests;

use node::{Kind, Node};
use program::{Program, Slots};
use translate::Form;

pub use cover::Cover;
pub use program::Question;
pub use template::{Template, TemplateError};
pub use union::{TooLarge, Union};

/// Most steps ([`Pattern::size`]) of one pattern, and of all patterns that are loaded together. A url has some dozens;
/// `(a{1000}){100}` has a hundred thousand.
pub const MOST_SIZE: u64 = 200_000;

/// A pattern; cloning is cheap.
#[derive(Clone, Debug)]
pub struct Pattern(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    text: String,
    root: Node,
    groups: usize,
    names: Vec<(String, usize)>,
    size: u64,
    program: Program,
}

/// Why Python would refuse a pattern, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at position {offset}")]
pub struct PatternError {
    /// Lower case, no full stop, without the place.
    pub message: String,
    /// Characters (not bytes) from the start of the pattern.
    pub offset: usize,
}

/// The step limit of a backtracking match was reached: neither a match nor none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern needs too many steps on this text")]
pub struct Overrun;

/// What the groups of one full match covered.
#[derive(Clone, Debug)]
pub struct Groups<'t> {
    pattern: Pattern,
    text: &'t str,
    slots: Slots,
}

impl PatternError {
    fn new(message: impl Into<String>, offset: usize) -> Self {
        Self { message: message.into(), offset }
    }
}

impl Pattern {
    /// Reads a pattern; refuses what Python refuses. It is compiled when it is first needed, or by
    /// [`Pattern::prepare`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let parsed = parse::parse(text)?;
        Self::new(text, parsed.root, parsed.groups, parsed.names)
    }

    fn new(text: &str, root: Node, groups: usize, names: Vec<(String, usize)>) -> Result<Self, PatternError> {
        let size = root.size();
        if size > MOST_SIZE {
            let message =
                format!("the pattern is too large: {size} steps, at most {MOST_SIZE}; use smaller repeats");
            return Err(PatternError::new(message, 0));
        }
        let program = Program::new(&root)?;
        Ok(Self(Arc::new(Inner { text: text.to_owned(), root, groups, names, size, program })))
    }

    /// The pattern of a `static_dir` whose url is `text`: the url as a group, a slash, and the rest as the last group.
    /// A slash at the end of the url is not doubled.
    pub fn parse_directory(text: &str) -> Result<Self, PatternError> {
        let parsed = parse::parse(text.strip_suffix('/').unwrap_or(text))?;
        let groups = parsed.groups + 1;
        let rest = Node::Repeat {
            body: Box::new(Node::Set(set::dot(parsed.flags.dot_newline))),
            min: 0,
            max: None,
            kind: Kind::Greedy,
        };
        let root = Node::Concat(vec![
            Node::Plain(Box::new(parsed.root)),
            Node::literal(u32::from('/')),
            Node::Capture(Box::new(rest)),
        ]);
        Self::new(text, root, groups, parsed.names)
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// True when matching may backtrack (look-around, backreference and the like) and so may end in [`Overrun`].
    #[must_use]
    pub fn needs_backtracking(&self) -> bool {
        matches!(self.0.program, Program::Backtracking { .. })
    }

    /// How many steps a pattern has when compiled, roughly: what compiling costs in time and memory.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Compiles now what answers a question, so that asking it costs no more than the answer.
    pub fn prepare(&self, question: Question) -> Result<(), PatternError> {
        self.0.program.prepare(&self.0.root, question)
    }

    /// Matches the whole text, end included (R-FULL).
    pub fn full_match<'t>(&self, text: &'t str) -> Result<Option<Groups<'t>>, Overrun> {
        let slots = self.0.program.captures(&self.0.root, self.0.groups, text)?;
        Ok(slots.map(|slots| Groups { pattern: self.clone(), text, slots }))
    }

    /// Whether the whole text matches; cheaper than [`Pattern::full_match`].
    pub fn is_full_match(&self, text: &str) -> Result<bool, Overrun> {
        self.0.program.is_match(&self.0.root, Question::Full, text)
    }

    /// Whether a match begins at the start of the text (Python's `re.match`).
    pub fn starts(&self, text: &str) -> Result<bool, Overrun> {
        self.0.program.is_match(&self.0.root, Question::Starts, text)
    }

    /// How many groups there are, the whole match not counted.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.0.groups
    }

    /// The number of a named group.
    #[must_use]
    pub fn group_index(&self, name: &str) -> Option<usize> {
        self.group_names().find(|(own, _)| *own == name).map(|(_, index)| index)
    }

    /// The names of the groups with their numbers.
    pub fn group_names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.names.iter().map(|(name, index)| (name.as_str(), *index))
    }

    /// The only text the pattern matches in full, if it is plain text.
    #[must_use]
    pub fn literal(&self) -> Option<String> {
        self.0.root.literal_text()
    }

    /// A text that begins with `first` and that the pattern probably matches in full. `long`: another.
    #[must_use]
    pub fn sample(&self, first: char, long: bool) -> Option<String> {
        let text = sample::sample(&self.0.root, long)?;
        Some(if text.starts_with(first) { text } else { format!("{first}{text}") })
    }

    /// One automaton that matches the whole text exactly as the pattern does, if there is one.
    fn automaton(&self) -> Option<String> {
        (!self.needs_backtracking()).then(|| program::anchored(&self.0.root, Form::Full, Question::Full))
    }

    /// One automaton that matches at least what the pattern matches.
    fn superset(&self) -> String {
        program::anchored(&self.0.root, Form::Superset, Question::Full)
    }
}

impl<'t> Groups<'t> {
    /// What group `index` covered (0 is the whole text); none when it took no part or does not exist.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&'t str> {
        let start = self.slots.get(2 * index).copied().flatten()?;
        let end = self.slots.get(2 * index + 1).copied().flatten()?;
        self.text.get(start.get()..end.get())
    }

    /// What the named group covered.
    #[must_use]
    pub fn name(&self, name: &str) -> Option<&'t str> {
        self.get(self.pattern.group_index(name)?)
    }
}
