//! Handlers that can never match, because an earlier one matches all they would.

use super::UrlMap;
use super::decide::may_fall_on;

/// A handler nobody reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covered {
    /// The handler that never matches.
    pub handler: usize,
    /// The earlier one that takes all its paths.
    pub by: usize,
}

pub(super) fn unreachable(map: &UrlMap) -> Vec<Covered> {
    let pattern = |handler: usize| &map.table.row(handler).pattern;
    let covered = |handler: usize| {
        (0..handler)
            // A handler whose missing file sends the request on takes nothing for good (R-RMF).
            .filter(|&earlier| !may_fall_on(&map.handlers[earlier]))
            .find(|&earlier| pattern(handler).is_covered_by(pattern(earlier), b'/'))
            .map(|by| Covered { handler, by })
    };
    (0..map.handlers.len()).filter_map(covered).collect()
}
