//! Settings from the world: the file, the environment, the cores, and the addresses behind host names.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::endpoint::{Endpoint, Resolved};
use super::error::{Fault, SettingsError, SettingsErrors};
use super::key::{self, KEYS, Key};
use super::options::Options;
use super::origin::{FilePlace, Origin, Setting};
use super::{FILE_NAME, Settings, Sources};

/// A settings file is a page; anything larger is a mistake in the name.
const FILE_MAX: u64 = 1024 * 1024;

const CONFIG_VARIABLE: &str = "COMPAT_PROXY_CONFIG";
const PREFIX: &str = "COMPAT_PROXY_";

impl Settings {
    /// Settings for an application directory from the command line, this process's environment and the file.
    /// `terminal` says whether the log goes to one.
    ///
    /// # Errors
    /// Everything that is wrong, all at once.
    pub fn load(flags: &Options, app_dir: &Path, terminal: bool) -> Result<Self, SettingsErrors> {
        let mut settings = Self::from_env(flags, &|name| std::env::var_os(name), app_dir, terminal)?;
        let variables: Vec<String> =
            std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
        settings.notes.extend(slips(variables.iter().map(String::as_str)));
        Ok(settings)
    }

    /// The same without the environment: for an app that will run in another one.
    ///
    /// # Errors
    /// Everything that is wrong, all at once.
    pub fn load_for_elsewhere(flags: &Options, app_dir: &Path) -> Result<Self, SettingsErrors> {
        Self::from_env(flags, &|_| None, app_dir, false)
    }

    fn from_env(
        flags: &Options,
        env: &dyn Fn(&str) -> Option<OsString>,
        app_dir: &Path,
        terminal: bool,
    ) -> Result<Self, SettingsErrors> {
        let file = read_file(flags, env, app_dir).map_err(|error| SettingsErrors(vec![error]))?;
        let file = file.as_ref().map(|(path, text)| (path.as_str(), text.as_str()));
        Self::resolve(&Sources { flags, env, file, cores: usable_cores(), terminal })
    }

    /// The main listeners with host names looked up.
    ///
    /// # Errors
    /// Names without an address.
    pub fn resolved_listen(&self) -> Result<Vec<Resolved>, SettingsErrors> {
        look_up(&key::LISTEN, &self.listen.origin, &self.listen)
    }

    /// The upstreams with host names looked up.
    ///
    /// # Errors
    /// Names without an address.
    pub fn resolved_upstream(&self) -> Result<Vec<Resolved>, SettingsErrors> {
        look_up(&key::UPSTREAM, &self.upstream.origin, &self.upstream)
    }

    /// The admin listener with its host name looked up.
    ///
    /// # Errors
    /// A name without an address.
    pub fn resolved_admin(&self) -> Result<Resolved, SettingsErrors> {
        let Setting { value, origin } = &self.admin;
        look_up_one(&key::ADMIN, origin, value).map_err(|error| SettingsErrors(vec![error]))
    }
}

/// Usable cores: the affinity mask and the cgroup quota are respected.
fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn look_up(key: &Key, origin: &Origin, endpoints: &[Endpoint]) -> Result<Vec<Resolved>, SettingsErrors> {
    let mut errors = Vec::new();
    let mut found = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        match look_up_one(key, origin, endpoint) {
            Ok(resolved) => found.push(resolved),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(SettingsErrors(errors)) }
}

fn look_up_one(key: &Key, origin: &Origin, endpoint: &Endpoint) -> Result<Resolved, SettingsError> {
    endpoint.resolve().map_err(|error| {
        let message = format!(
            "no address for the host in `{endpoint}` ({error}); check the name, or write an IP address"
        );
        SettingsError::value(key, origin.clone(), message)
    })
}

/// The file's name and text: the one asked for, else the one in the application directory, if there.
pub(super) fn read_file(
    flags: &Options,
    env: &dyn Fn(&str) -> Option<OsString>,
    app_dir: &Path,
) -> Result<Option<(String, String)>, SettingsError> {
    let variable = env(CONFIG_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    let (path, asked) = match (&flags.config, variable) {
        (Some(path), _) => (path.clone(), Some(("--config", Origin::Flag))),
        (None, Some(path)) => (path, Some((CONFIG_VARIABLE, Origin::Env(CONFIG_VARIABLE.to_owned())))),
        (None, None) if app_dir == Path::new(".") => (PathBuf::from(FILE_NAME), None),
        (None, None) => (app_dir.join(FILE_NAME), None),
    };
    let shown = path.display().to_string();
    match read_text(&path) {
        Ok(text) => Ok(Some((shown, text))),
        Err(error) if asked.is_none() && is_absent(&error) => Ok(None),
        Err(error) => {
            let advice = match &asked {
                Some((who, _)) => format!("check the path given by `{who}`, or take it away"),
                None => "make it readable, or take it away".to_owned(),
            };
            let origin = asked.map_or_else(|| place_of(&shown), |(_, origin)| origin);
            let message = format!("cannot read the settings file `{shown}`: {}; {advice}", plainly(&error));
            Err(SettingsError { name: String::new(), origin, fault: Fault::Unreadable(message) })
        }
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_MAX {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is larger than 1MiB"));
    }
    Ok(text)
}

/// No file, because the name or the directory is not there. What is wrong with APP_DIR is told elsewhere.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// What the system says, without its error number.
fn plainly(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

fn place_of(path: &str) -> Origin {
    Origin::File(FilePlace { path: Arc::from(path), line: 1, column: 1 })
}

/// A note for every variable that looks like one of ours misspelt. Others are left alone: Kubernetes sets
/// `COMPAT_PROXY_PORT` and `COMPAT_PROXY_SERVICE_HOST` for a service of our name.
pub(super) fn slips<'n>(variables: impl Iterator<Item = &'n str>) -> Vec<String> {
    let known: Vec<String> = KEYS
        .iter()
        .map(|key| key.env())
        .chain([CONFIG_VARIABLE.to_owned(), "COMPAT_PROXY_WORKER".to_owned()])
        .collect();
    let kubernetes = |rest: &str| rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_");
    variables
        .filter_map(|variable| Some((variable, variable.strip_prefix(PREFIX)?)))
        .filter(|(variable, rest)| !kubernetes(rest) && !known.iter().any(|name| name == variable))
        .filter_map(|(variable, rest)| {
            let near = key::nearest(rest, known.iter().filter_map(|name| name.strip_prefix(PREFIX)))?;
            Some(format!("the variable `{variable}` is not one of ours and has no effect; did you mean `{PREFIX}{near}`?"))
        })
        .collect()
}
