//! The options of `run` as typed, built from the table: one flag for each key.
//!
//! Values are kept as text; `layers` reads them together with the other sources, so that a bad value is told the same
//! way wherever it came from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};

use super::key::{self, Arity, KEYS, Key};

/// The options of `run` as typed: names from the table, values as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    given: BTreeMap<&'static str, Vec<String>>,
}

impl Options {
    /// What was typed for an option.
    pub(super) fn get(&self, key: &Key) -> Option<&[String]> {
        self.given.get(key.name).map(Vec::as_slice)
    }

    /// What was typed, in the order of the names.
    pub fn typed(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        self.given.iter().map(|(name, values)| (*name, values.as_slice()))
    }

    /// Lays options over these: what they say holds.
    pub(super) fn overlay(&mut self, stronger: Self) {
        self.config = stronger.config.or(self.config.take());
        self.given.extend(stronger.given);
    }
}

const CONFIG: &str = "config";

impl Args for Options {
    fn augment_args(command: clap::Command) -> clap::Command {
        let config = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .help_heading(key::APP_YAML.heading)
            .value_parser(clap::value_parser!(PathBuf))
            .help("The settings file [default: compat-proxy.yaml in APP_DIR, if there] [env: COMPAT_PROXY_CONFIG]");
        command.arg(config).args(KEYS.iter().map(|key| arg(key)))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Options {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let typed = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
        let given = KEYS
            .iter()
            .filter(|key| typed(key.name))
            .filter_map(|key| Some((key.name, matches.get_many::<String>(key.name)?.cloned().collect())))
            .collect();
        Ok(Self { config: matches.get_one::<PathBuf>(CONFIG).cloned(), given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.overlay(Self::from_arg_matches(matches)?);
        Ok(())
    }
}

fn arg(key: &'static Key) -> Arg {
    let arg = Arg::new(key.name)
        .long(key.name)
        .value_name(key.value)
        .help_heading(key.heading)
        .help(key.full_help())
        .hide_possible_values(true)
        .allow_negative_numbers(true)
        .value_parser(Hinted(key.words));
    match key.arity {
        Arity::One => arg.action(ArgAction::Set),
        Arity::Many => arg.action(ArgAction::Append),
        Arity::Switch => {
            arg.action(ArgAction::Set).num_args(0..=1).require_equals(true).default_missing_value("on")
        }
    }
}

/// Takes any text, and tells completions which words are meant.
#[derive(Clone)]
struct Hinted(&'static [&'static str]);

impl TypedValueParser for Hinted {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        if self.0.is_empty() { None } else { Some(Box::new(self.0.iter().map(PossibleValue::new))) }
    }
}
