//! Flag over variable over file over default, one option at a time.
//!
//! Every source that says something is read, so that a mistake is told even where a stronger source hides it; only
//! the variables other platforms set (`PORT` and the like) are left alone unless they are needed.

use std::ffi::OsString;

use super::error::SettingsError;
use super::file::{self, Written};
use super::key::{Arity, Key};
use super::options::Options;
use super::origin::{Origin, Setting};

/// Everything settings are made of.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The command line.
    pub flags: &'a Options,
    /// Looks an environment variable up.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// compat-proxy.yaml: its name in messages and its text.
    pub file: Option<(&'a str, &'a str)>,
    /// Usable cores, what `auto` means.
    pub cores: usize,
    /// The log goes to a terminal, which `--log-format auto` asks.
    pub terminal: bool,
}

/// What one source says about one option: texts, each with where it stands.
struct Given {
    origin: Origin,
    texts: Vec<(String, Origin)>,
}

pub(super) struct Layers<'a> {
    flags: &'a Options,
    env: &'a dyn Fn(&str) -> Option<OsString>,
    file: Written,
    pub(super) errors: Vec<SettingsError>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(sources: &Sources<'a>) -> Self {
        let mut errors = Vec::new();
        let file = sources.file.map(|(path, text)| file::parse(path, text, &mut errors)).unwrap_or_default();
        Self { flags: sources.flags, env: sources.env, file, errors }
    }

    /// The strongest value of an option that is given once.
    pub(super) fn one<T>(
        &mut self,
        key: &'static Key,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Setting<T> {
        let values = self.all(key, &parse);
        match values.into_iter().next().and_then(|(mut values, origin)| Some((values.pop()?, origin))) {
            Some((value, origin)) => Setting { value, origin },
            None => Setting { value: default(key, parse), origin: Origin::Default },
        }
    }

    /// The strongest value of an option that may have none. A flag with an empty value says none.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static Key,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Setting<Option<T>> {
        self.one(key, |text| if text.is_empty() { Ok(None) } else { parse(text).map(Some) })
    }

    /// The strongest list of values of an option that may be repeated. A flag with an empty value says none.
    pub(super) fn many<T>(
        &mut self,
        key: &'static Key,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Setting<Vec<T>> {
        let values = self.all(key, &parse);
        match values.into_iter().next() {
            Some((value, origin)) => Setting { value, origin },
            None if key.default.is_empty() => Setting { value: Vec::new(), origin: Origin::Default },
            None => Setting { value: vec![default(key, parse)], origin: Origin::Default },
        }
    }

    /// That the file says something else than a stronger source, and which one that is.
    pub(super) fn overruled(&mut self, key: &'static Key) -> Option<String> {
        let known = self.errors.len();
        let given = self.given(key);
        // Told when the option was read.
        self.errors.truncate(known);
        let [strongest, .., weakest] = given.as_slice() else { return None };
        let text = |given: &Given| given.texts.first().map(|(text, _)| text.clone());
        let (wins, said) = (text(strongest)?, text(weakest)?);
        let Origin::File(place) = &weakest.origin else { return None };
        (wins != said).then(|| {
            format!(
                "`{}: {said}` ({}:{}) has no effect: `{wins}` is given by {}",
                key.name, place.path, place.line, strongest.origin
            )
        })
    }

    /// What every source says, strongest first; mistakes are kept apart.
    fn all<T>(
        &mut self,
        key: &'static Key,
        parse: &impl Fn(&str) -> Result<T, String>,
    ) -> Vec<(Vec<T>, Origin)> {
        self.given(key)
            .into_iter()
            .map(|given| {
                let values = given.texts.into_iter().filter_map(|(text, origin)| match parse(&text) {
                    Ok(value) => Some(value),
                    Err(message) => {
                        self.errors.push(SettingsError::value(key, origin, message));
                        None
                    }
                });
                (values.collect(), given.origin)
            })
            .collect()
    }

    fn given(&mut self, key: &'static Key) -> Vec<Given> {
        let mut given = Vec::new();
        if let Some(texts) = self.flags.get(key) {
            let texts = texts.iter().flat_map(|text| split(key, text)).map(|part| (part, Origin::Flag));
            given.push(Given { origin: Origin::Flag, texts: texts.collect() });
        }
        given.extend(self.variable(key, key.env()));
        if let Some(platform) = key.platform.filter(|_| given.is_empty()) {
            given.extend(self.variable(key, platform.to_owned()));
        }
        if let Some(entry) = self.file.get(key) {
            let texts = entry.values.iter().flat_map(|(text, place)| {
                let origin = Origin::File(place.clone());
                let parts = if entry.list { vec![text.clone()] } else { split(key, text) };
                parts.into_iter().map(move |part| (part, origin.clone()))
            });
            given.push(Given { origin: Origin::File(entry.place.clone()), texts: texts.collect() });
        }
        given
    }

    /// What a variable says; an empty one is not set.
    fn variable(&mut self, key: &'static Key, name: String) -> Option<Given> {
        let value = (self.env)(&name)?;
        let origin = Origin::Env(name);
        let Ok(text) = value.into_string() else {
            self.errors.push(SettingsError::value(key, origin, "the value is not UTF-8 text".to_owned()));
            return None;
        };
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        let texts = split(key, text).into_iter().map(|part| (part, origin.clone())).collect();
        Some(Given { origin, texts })
    }
}

/// The values in one text: several, separated by commas or white space, where the option may be repeated.
fn split(key: &Key, text: &str) -> Vec<String> {
    if key.arity == Arity::Many {
        let separator = |c: char| c == ',' || c.is_whitespace();
        text.split(separator).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    } else {
        vec![text.to_owned()]
    }
}

#[expect(clippy::expect_used, reason = "the defaults are constants, and a test reads every one")]
fn default<T>(key: &'static Key, parse: impl Fn(&str) -> Result<T, String>) -> T {
    parse(key.default).expect("a default of the table")
}
