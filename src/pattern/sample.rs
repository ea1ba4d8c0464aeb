//! A text that a pattern probably matches. Look-around and anchors are passed over: whoever asks must try it.

use super::node::Node;

/// Longer samples tell nothing that short ones do not.
const LONGEST: usize = 4_000;

/// A short text, or with `long` one that goes into repeats and takes the last of each choice.
pub(super) fn sample(node: &Node, long: bool) -> Option<String> {
    let mut writer = Writer { text: String::new(), groups: vec![None], long };
    writer.write(node)?;
    Some(writer.text)
}

struct Writer {
    text: String,
    /// From where to where a group reaches; none while it is open. Groups in what is passed over are not counted,
    /// which may spoil the sample.
    groups: Vec<Option<(usize, usize)>>,
    long: bool,
}

impl Writer {
    fn write(&mut self, node: &Node) -> Option<()> {
        match node {
            Node::Set(set) => {
                let ranges = set.ranges();
                let letter = if self.long {
                    ranges.last().map(|it| it.end())
                } else {
                    ranges.first().map(|it| it.start())
                };
                self.text.push(letter?);
            }
            Node::Anchor(_) | Node::Look { .. } => {}
            Node::Concat(nodes) => nodes.iter().try_for_each(|node| self.write(node))?,
            Node::Either(branches) => {
                let branch = if self.long { branches.last() } else { branches.first() };
                self.write(branch?)?;
            }
            Node::Capture(body) => {
                let (number, start) = (self.groups.len(), self.text.len());
                self.groups.push(None);
                self.write(body)?;
                *self.groups.get_mut(number)? = Some((start, self.text.len()));
            }
            Node::Plain(body) | Node::Atomic(body) => self.write(body)?,
            Node::Repeat { body, min, max, .. } => {
                let times = if self.long && *max != Some(0) { (*min).max(1) } else { *min };
                let before = self.groups.len();
                for _ in 0..times {
                    self.groups.truncate(before);
                    self.write(body)?;
                }
            }
            Node::Back { group, .. } => {
                let (start, end) = self.groups.get(*group).copied().flatten()?;
                let text = self.text.get(start..end)?.to_owned();
                self.text.push_str(&text);
            }
            // Too rare to try.
            Node::If { .. } => return None,
        }
        (self.text.len() <= LONGEST).then_some(())
    }
}
