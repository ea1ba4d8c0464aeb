//! Python's pattern grammar, after `re/_parser.py` of 3.11: what it refuses is refused here, with its words.

use super::node::{Anchor, Kind, Node, Width};
use super::source::{Source, Token};
use super::{PatternError, escape, group, set};

/// Groups inside groups; a program this deep was not written by a person.
const DEEPEST: usize = 100;
/// Python's MAXREPEAT.
const MOST_REPEATS: u64 = 4_294_967_295;

/// The flags in force at a place of the pattern.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are Python's six letters")]
pub(super) struct Flags {
    /// `i`
    pub(super) any_case: bool,
    /// `m`
    pub(super) lines: bool,
    /// `s`
    pub(super) dot_newline: bool,
    /// `x`
    pub(super) verbose: bool,
    /// `u` (only scoped: the whole pattern is ASCII)
    pub(super) unicode: bool,
    /// `t`, which forbids repeats
    pub(super) template: bool,
}

/// A pattern read whole.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) root: Node,
    /// Groups, the whole match not counted.
    pub(super) groups: usize,
    pub(super) names: Vec<(String, usize)>,
    /// The flags that hold for the whole pattern.
    pub(super) flags: Flags,
}

#[derive(Debug)]
pub(super) struct Parser {
    pub(super) source: Source,
    /// In force here.
    pub(super) flags: Flags,
    /// Set by `(?i)` at the start.
    pub(super) global: Flags,
    pub(super) names: Vec<(String, usize)>,
    /// By group; none while the group is open. Index 0 is the whole match.
    pub(super) widths: Vec<Option<Width>>,
    /// How many groups there were when the outermost look-behind began.
    pub(super) look_behind: Option<usize>,
    /// Groups asked for by conditionals, with the place.
    pub(super) wanted: Vec<(usize, usize)>,
    /// Told only when nothing else is wrong, as Python does.
    pub(super) uneven_look_behind: Option<usize>,
    pub(super) depth: usize,
}

/// Reads a pattern.
pub(super) fn parse(text: &str) -> Result<Parsed, PatternError> {
    let mut parser = Parser {
        source: Source::new(text)?,
        flags: Flags::default(),
        global: Flags::default(),
        names: Vec::new(),
        widths: vec![None],
        look_behind: None,
        wanted: Vec::new(),
        uneven_look_behind: None,
        depth: 0,
    };
    let root = parser.branches()?;
    if parser.source.peek().is_some() {
        return Err(parser.source.error("unbalanced parenthesis", 0));
    }
    let groups = parser.widths.len() - 1;
    if let Some(&(group, place)) = parser.wanted.iter().find(|(group, _)| *group > groups) {
        return Err(PatternError::new(format!("invalid group reference {group}"), place));
    }
    if let Some(place) = parser.uneven_look_behind {
        return Err(PatternError::new("look-behind requires fixed-width pattern", place));
    }
    Ok(Parsed { root, groups, names: parser.names, flags: parser.global })
}

impl Parser {
    /// `a|b|c`, up to a `)` or the end.
    pub(super) fn branches(&mut self) -> Result<Node, PatternError> {
        if self.depth > DEEPEST {
            return Err(self.source.error(format!("more than {DEEPEST} groups inside one another"), 0));
        }
        let mut branches = vec![self.sequence(self.depth == 0)?];
        while self.source.take('|')? {
            if self.depth == 0 {
                self.flags = self.global;
            }
            branches.push(self.sequence(false)?);
        }
        Ok(if branches.len() == 1 { branches.remove(0) } else { Node::Either(branches) })
    }

    /// What stands between bars. `first`: global flags may still come.
    pub(super) fn sequence(&mut self, first: bool) -> Result<Node, PatternError> {
        let mut nodes = Vec::new();
        while let Some(token) = self.source.peek() {
            let Token::Char(letter) = token else {
                self.source.get()?;
                if let Token::Escape(letter) = token {
                    nodes.push(escape::node(self, letter)?);
                }
                continue;
            };
            if matches!(letter, '|' | ')') {
                break;
            }
            self.source.get()?;
            if self.flags.verbose && self.skip(letter)? {
                continue;
            }
            match letter {
                '[' => nodes.push(Node::Set(set::bracket(self)?)),
                '*' | '+' | '?' | '{' => self.repeat(letter, &mut nodes)?,
                '.' => nodes.push(Node::Set(set::dot(self.flags.dot_newline))),
                '(' => nodes.extend(group::group(self, first && nodes.is_empty())?),
                '^' => {
                    nodes.push(Node::Anchor(if self.flags.lines { Anchor::LineStart } else { Anchor::Start }))
                }
                '$' => nodes.push(Node::Anchor(if self.flags.lines { Anchor::LineEnd } else { Anchor::End })),
                _ => nodes.push(self.literal(u32::from(letter))),
            }
        }
        Ok(Node::Concat(nodes))
    }

    /// Blanks and comments of verbose mode.
    fn skip(&mut self, letter: char) -> Result<bool, PatternError> {
        if letter == '#' {
            while !matches!(self.source.get()?, None | Some(Token::Char('\n'))) {}
        }
        Ok(matches!(letter, '#' | ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c'))
    }

    /// One character, in both cases if case is ignored.
    pub(super) fn literal(&self, code: u32) -> Node {
        let mut node = Node::literal(code);
        if let Node::Set(set) = &mut node {
            set::fold(set, self.flags);
        }
        node
    }

    fn repeat(&mut self, sign: char, nodes: &mut Vec<Node>) -> Result<(), PatternError> {
        let here = self.source.position();
        let (min, max) = match sign {
            '?' => (0, Some(1)),
            '*' => (0, None),
            '+' => (1, None),
            _ => match self.bounds(here)? {
                Some(bounds) => bounds,
                None => {
                    nodes.push(self.literal(u32::from(sign)));
                    return Ok(());
                }
            },
        };
        let back = self.source.position() - here + 1;
        let body = match nodes.pop() {
            None | Some(Node::Anchor(_)) => return Err(self.source.error("nothing to repeat", back)),
            Some(Node::Repeat { .. }) => return Err(self.source.error("multiple repeat", back)),
            Some(_) if self.flags.template => {
                return Err(self.source.error("the flag `t` forbids repeats", back));
            }
            Some(body) => Box::new(body),
        };
        let kind = if self.source.take('?')? {
            Kind::Lazy
        } else if self.source.take('+')? {
            Kind::Possessive
        } else {
            Kind::Greedy
        };
        nodes.push(Node::Repeat { body, min, max, kind });
        Ok(())
    }

    /// `{2}`, `{2,}`, `{,3}`, `{2,3}`, `{,}`; none when the brace is a plain character.
    fn bounds(&mut self, here: usize) -> Result<Option<(u32, Option<u32>)>, PatternError> {
        if self.source.peek_char() == Some('}') {
            return Ok(None);
        }
        let digits = |source: &mut Source| source.take_while(usize::MAX, |letter| letter.is_ascii_digit());
        let low = digits(&mut self.source)?;
        let high = if self.source.take(',')? { digits(&mut self.source)? } else { low.clone() };
        if !self.source.take('}')? {
            self.source.seek(here)?;
            return Ok(None);
        }
        let min = self.count(&low, here)?.unwrap_or(0);
        let max = self.count(&high, here)?;
        if max.is_some_and(|max| max < min) {
            let back = self.source.position() - here;
            return Err(self.source.error("min repeat greater than max repeat", back));
        }
        Ok(Some((min, max)))
    }

    fn count(&self, digits: &str, here: usize) -> Result<Option<u32>, PatternError> {
        if digits.is_empty() {
            return Ok(None);
        }
        match digits.parse::<u32>() {
            Ok(count) if u64::from(count) < MOST_REPEATS => Ok(Some(count)),
            _ => Err(PatternError::new("the repetition number is too large", here)),
        }
    }

    /// A reference to a group that must be closed; `back` is how far behind the name or number began.
    pub(super) fn back_reference(&self, group: usize, back: usize) -> Result<Node, PatternError> {
        match self.widths.get(group) {
            None => Err(self.source.error(format!("invalid group reference {group}"), back - 1)),
            Some(None) => Err(self.source.error("cannot refer to an open group", back)),
            Some(Some(_)) => {
                self.check_look_behind(group)?;
                Ok(Node::Back { group, any_case: self.flags.any_case })
            }
        }
    }

    /// A look-behind may only look at groups closed before it began.
    pub(super) fn check_look_behind(&self, group: usize) -> Result<(), PatternError> {
        let Some(before) = self.look_behind else { return Ok(()) };
        if self.widths.get(group).copied().flatten().is_none() {
            return Err(self.source.error("cannot refer to an open group", 0));
        }
        if group >= before {
            let message = "cannot refer to group defined in the same lookbehind subpattern";
            return Err(self.source.error(message, 0));
        }
        Ok(())
    }
}
