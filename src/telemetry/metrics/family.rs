//! What is known of a family before anything is counted: the reference in `dashboards/metrics.md` is written from it.

/// A family as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// With its prefix.
    pub name: String,
    /// How it moves.
    pub kind: Kind,
    /// The text of `# HELP`.
    pub help: String,
    /// The names of its labels, in the order of their values.
    pub labels: Vec<String>,
}

/// How the values of a family move: the text of `# TYPE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only up, from 0.
    Counter,
    /// Up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    /// The word of the text format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}
