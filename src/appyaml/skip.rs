//! `skip_files`: which files count as missing (R-SKIP).

use super::findings::{Findings, code};
use super::raw::Node;
use crate::pattern::Pattern;

/// The SDK's own: editor leftovers, byte code, RCS folders and every dot file.
pub(super) const DEFAULT: &str = r"^(.*/)?((#.*#)|(.*~)|(.*\.py[co])|(.*/RCS/.*)|(\..*)|)$";

/// More patterns than this were not written by hand.
const MOST: usize = 1000;

/// The pattern as one text: a list is joined with `|`, line breaks are dropped.
pub(super) fn read(node: Node<'_>, findings: &mut Findings) -> Option<String> {
    if node.is_broken() {
        return None;
    }
    if node.value.is_mapping() {
        findings
            .error(&node.place(), "`skip_files` must be a pattern or a list of patterns")
            .hint("start each pattern on its own line with `- `");
        return None;
    }
    if let Some(extra) = node.items().nth(MOST) {
        findings.error(&extra.place(), format!("more than {MOST} patterns in `skip_files`"));
        return None;
    }
    let mut parts = Vec::new();
    let items: Vec<Node<'_>> = if node.value.is_sequence() { node.items().collect() } else { vec![node] };
    for item in &items {
        if !item.is_scalar() {
            findings.error(&item.place(), "an item of `skip_files` must be one pattern");
            continue;
        }
        let text = item.text().replace(['\n', '\r'], "");
        if let Err(error) = Pattern::parse(&text) {
            findings
                .error(&item.place(), format!("{} is not a regular expression: {error}", code(&text)))
                .hint("these are patterns, not shell globs: write `.*` for `*`, and `\\.` for `.`");
        }
        parts.push(text);
    }
    if parts.is_empty() {
        findings
            .warning(&node.place(), "`skip_files` is an empty list: the default is used")
            .hint("remove it, or name what to skip");
        return None;
    }
    let joined = parts.join("|");
    let skips_all =
        |text: &str| Pattern::parse(text).is_ok_and(|it| matches!(it.starts("\u{1}/\u{1}.\u{1}"), Ok(true)));
    if skips_all(&joined) {
        let culprit =
            items.iter().find(|item| skips_all(&item.text().replace(['\n', '\r'], ""))).unwrap_or(&node);
        findings
            .warning(&culprit.place(), "this matches the start of every path: no static file is served (R-SKIP)")
            .hint("skip_files is matched at the start of the path; end a pattern with `$` and leave no empty `|`");
    }
    Some(joined)
}
