//! A parsed pattern: what is left of the text once flags, escapes and names are resolved.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

/// One thing a pattern may ask for. Flags are applied already: a set holds both cases, an anchor knows its mode.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// Exactly one character out of a set.
    Set(ClassUnicode),
    Anchor(Anchor),
    /// All of these, one after another.
    Concat(Vec<Node>),
    /// The first of these that leads to a match.
    Either(Vec<Node>),
    /// `(…)` and `(?P<name>…)`.
    Capture(Box<Node>),
    /// `(?:…)` and `(?i:…)`.
    Plain(Box<Node>),
    Repeat {
        body: Box<Node>,
        min: u32,
        max: Option<u32>,
        kind: Kind,
    },
    /// `(?=…)`, `(?!…)`, `(?<=…)`, `(?<!…)`.
    Look {
        ahead: bool,
        wanted: bool,
        body: Box<Node>,
    },
    /// `(?>…)`.
    Atomic(Box<Node>),
    /// `\1`, `(?P=name)`.
    Back {
        group: usize,
        any_case: bool,
    },
    /// `(?(1)…|…)`.
    If {
        group: usize,
        yes: Box<Node>,
        no: Box<Node>,
    },
}

/// A place between characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// `^`, `\A`.
    Start,
    /// `^` in multi-line mode.
    LineStart,
    /// `$`: at the end, or before a newline that ends the text.
    End,
    /// `$` in multi-line mode.
    LineEnd,
    /// `\Z`.
    TextEnd,
    /// `\b`, and whether words have letters beyond ASCII.
    Word { unicode: bool },
    /// `\B`; on an empty text Python finds it nowhere.
    NotWord { unicode: bool },
}

/// How a repeat gives back what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Greedy,
    Lazy,
    /// Never.
    Possessive,
}

/// The least and most characters a node covers.
pub(super) type Width = (u64, u64);

impl Node {
    pub(super) fn literal(code: u32) -> Self {
        // A lone surrogate is fine in a Python pattern and stands in no text.
        Self::Set(ClassUnicode::new(
            char::from_u32(code).map(|letter| ClassUnicodeRange::new(letter, letter)),
        ))
    }

    /// The only text this matches, if it is one character after another.
    pub(super) fn literal_text(&self) -> Option<String> {
        match self {
            Self::Set(set) => match set.ranges() {
                [range] if range.start() == range.end() => Some(range.start().into()),
                _ => None,
            },
            Self::Concat(nodes) => nodes.iter().map(Self::literal_text).collect(),
            Self::Plain(body) => body.literal_text(),
            _ => None,
        }
    }

    /// Python's `getwidth`; `groups` are the widths of the groups closed so far.
    pub(super) fn width(&self, groups: &[Option<Width>]) -> Width {
        match self {
            Self::Set(_) => (1, 1),
            Self::Anchor(_) | Self::Look { .. } => (0, 0),
            Self::Concat(nodes) => nodes.iter().fold((0, 0), |(low, high), node| {
                let (min, max) = node.width(groups);
                (min.saturating_add(low), max.saturating_add(high))
            }),
            Self::Either(branches) => widest(branches.iter().map(|branch| branch.width(groups))),
            Self::Capture(body) | Self::Plain(body) | Self::Atomic(body) => body.width(groups),
            Self::Repeat { body, min, max, .. } => {
                let (low, high) = body.width(groups);
                let high = match max {
                    None if high > 0 => u64::MAX,
                    None => 0,
                    Some(max) => high.saturating_mul(u64::from(*max)),
                };
                (low.saturating_mul(u64::from(*min)), high)
            }
            Self::Back { group, .. } => groups.get(*group).copied().flatten().unwrap_or((0, 0)),
            Self::If { yes, no, .. } => widest([yes.width(groups), no.width(groups)].into_iter()),
        }
    }

    /// How many steps it has when compiled, roughly; repeats are written out, as the engines do.
    pub(super) fn size(&self) -> u64 {
        match self {
            // Beyond ASCII a range is a few sequences of bytes.
            Self::Set(set) => {
                set.iter().map(|range| if range.end().is_ascii() { 1 } else { 4 }).sum::<u64>().max(1)
            }
            Self::Anchor(Anchor::Word { unicode: true } | Anchor::NotWord { unicode: true }) => 4_000,
            Self::Anchor(_) | Self::Back { .. } => 1,
            Self::Concat(nodes) | Self::Either(nodes) => {
                nodes.iter().fold(1, |sum: u64, node| sum.saturating_add(node.size()))
            }
            Self::Capture(body) | Self::Plain(body) | Self::Atomic(body) | Self::Look { body, .. } => {
                body.size().saturating_add(1)
            }
            Self::Repeat { body, min, max, .. } => {
                let times = u64::from(max.unwrap_or(*min).max(1));
                // Rounds that need not be have a way around them.
                let around = u64::from(*max != Some(*min));
                body.size().saturating_add(around).saturating_mul(times)
            }
            Self::If { yes, no, .. } => yes.size().saturating_add(no.size()).saturating_add(1),
        }
    }

    /// How often a backtracking engine may go round without moving on in the text: nothing else bounds that.
    pub(super) fn idle_rounds(&self) -> u64 {
        match self {
            Self::Set(_) | Self::Anchor(_) | Self::Back { .. } => 0,
            Self::Concat(nodes) | Self::Either(nodes) => {
                nodes.iter().fold(0, |sum: u64, node| sum.saturating_add(node.idle_rounds()))
            }
            Self::Capture(body) | Self::Plain(body) | Self::Atomic(body) | Self::Look { body, .. } => {
                body.idle_rounds()
            }
            Self::Repeat { body, min, max, .. } => {
                let moves = body.width(&[]).0 > 0;
                let times = if moves { 0 } else { u64::from(max.unwrap_or(*min)) };
                let inside = body.idle_rounds();
                inside.max(inside.max(1).saturating_mul(times))
            }
            Self::If { yes, no, .. } => yes.idle_rounds().saturating_add(no.idle_rounds()),
        }
    }

    /// True when it can be written as one automaton that keeps the meaning. `last`: nothing follows it in the pattern.
    pub(super) fn is_linear(&self, last: bool) -> bool {
        match self {
            Self::Set(_) => true,
            // Before a final newline and at the end are two places: one automaton can only tell them apart where
            // nothing follows.
            Self::Anchor(Anchor::End) => last,
            Self::Anchor(Anchor::Word { unicode }) => !unicode,
            Self::Anchor(Anchor::NotWord { .. }) => false,
            Self::Anchor(_) => true,
            Self::Concat(nodes) => {
                nodes.iter().enumerate().all(|(index, node)| node.is_linear(last && index + 1 == nodes.len()))
            }
            Self::Either(branches) => branches.iter().all(|branch| branch.is_linear(last)),
            Self::Capture(body) | Self::Plain(body) => body.is_linear(last),
            Self::Repeat { body, max, kind, .. } => {
                *kind != Kind::Possessive && body.is_linear(last && *max == Some(1))
            }
            Self::Look { .. } | Self::Atomic(_) | Self::Back { .. } | Self::If { .. } => false,
        }
    }
}

fn widest(widths: impl Iterator<Item = Width>) -> Width {
    widths.reduce(|(low, high), (min, max)| (low.min(min), high.max(max))).unwrap_or((0, 0))
}
