//! The built-in launcher for Python apps: which interpreter, and the files it needs (the launcher itself and its
//! table of scripts as JSON) in a private directory. The launcher's own code is `worker/launcher.py`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use thiserror::Error;

use crate::appyaml::{App, Era, Target};
use crate::settings::Settings;

/// How the launcher is called in messages.
pub(super) const NAME: &str = "the built-in Python launcher";
/// What a modern app without `script:` runs, and what `script: auto` means.
pub(super) const DEFAULT: &str = "main:app";
const SOURCE: &str = include_str!("../worker/launcher.py");
const VERSION: &str = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
/// Where an app's own interpreter is looked for, beneath its directory.
const VIRTUAL_ENVIRONMENTS: [&str; 3] = [".venv", "venv", "env"];

/// Why the launcher cannot be used.
#[derive(Debug, Error)]
pub enum LauncherError {
    /// `--python` names nothing that runs.
    #[error("--python: `{0}` does not run; name an interpreter such as `python3` or its full path")]
    Named(String),
    /// There is no Python.
    #[error(
        "no Python found for runtime `{runtime}` (looked for {looked}); install one, name one with `--python PROGRAM`, \
         or start the app yourself with `--upstream-cmd`"
    )]
    None {
        /// The runtime of app.yaml.
        runtime: String,
        /// The programs looked for.
        looked: String,
    },
    /// The private directory cannot be written.
    #[error("cannot write the launcher's files: {0}; is the temporary directory (TMPDIR) writable?")]
    Write(#[from] io::Error),
}

/// A Python that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// The program, as found.
    pub program: PathBuf,
    /// `3.11.7`.
    pub version: String,
}

impl fmt::Display for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Python {} ({})", self.version, self.program.display())
    }
}

/// What starts the launcher.
pub(super) struct Launch {
    pub(super) words: Vec<String>,
    pub(super) interpreter: Interpreter,
    pub(super) notes: Vec<String>,
}

/// Chooses the interpreter and writes the files.
pub(super) fn prepare(
    settings: &Settings,
    app: &App,
    app_dir: &Path,
    private: &Path,
) -> Result<Launch, LauncherError> {
    let interpreter = choose(settings.python.value.as_deref(), app, app_dir)?;
    let notes = remark(app, &interpreter).into_iter().collect();
    let launcher = private.join("launcher.py");
    std::fs::write(&launcher, SOURCE)?;
    let content = serde_json::to_vec_pretty(&table(settings, app)).map_err(io::Error::from)?;
    // Named by content: a plan that did not come into force changes nothing for the workers that run.
    let name: String = blake3::hash(&content).to_hex().chars().take(16).collect();
    let table = private.join(format!("launcher-{name}.json"));
    std::fs::write(&table, content)?;
    let words =
        [interpreter.program.as_path(), &launcher, &table].map(|path| path.to_string_lossy().into_owned());
    let mut words = words.to_vec();
    // A socket in a private directory: no other user of the machine reaches the app past the proxy.
    words.push("{socket}".to_owned());
    Ok(Launch { words, interpreter, notes })
}

/// What is worth knowing of the choice.
pub(super) fn remark(app: &App, interpreter: &Interpreter) -> Option<String> {
    let other = app.era == Era::Classic && !interpreter.version.starts_with("2.");
    other.then(|| {
        format!(
            "runtime `{}` was Python 2.7; the app runs on Python {}: install python2.7 or name it with --python if it needs it",
            app.runtime, interpreter.version
        )
    })
}

/// The application of requests that no handler names one for.
pub(super) fn default(app: &App) -> Option<&'static str> {
    (app.era == Era::Modern).then_some(DEFAULT)
}

/// What the launcher cannot see for itself: it runs in the app's folder, with the app's variables.
fn table(settings: &Settings, app: &App) -> serde_json::Value {
    let scripts = app.handlers.iter().filter_map(|handler| match &handler.target {
        Target::Script { script } => Some(script.as_str()),
        _ => None,
    });
    json!({
        "runtime": app.runtime,
        "scripts": scripts.chain(default(app)).collect::<Vec<_>>(),
        "default": default(app),
        "threads": settings.concurrency.value,
    })
}

/// `--python`, else the app's virtual environment, else what the runtime asks for, else any Python 3.
pub(super) fn choose(named: Option<&str>, app: &App, app_dir: &Path) -> Result<Interpreter, LauncherError> {
    choose_and_ask(named, app, app_dir, VERSION, &[]).map(|(interpreter, _)| interpreter)
}

/// As [`choose`], with a script whose first line is the version; the other lines come back.
pub(super) fn choose_and_ask(
    named: Option<&str>,
    app: &App,
    app_dir: &Path,
    script: &str,
    words: &[&str],
) -> Result<(Interpreter, Vec<String>), LauncherError> {
    let ask = |program: &Path| try_program(program, app_dir, script, words);
    if let Some(named) = named {
        return ask(Path::new(named)).ok_or_else(|| LauncherError::Named(named.to_owned()));
    }
    let own = VIRTUAL_ENVIRONMENTS.iter().map(|folder| app_dir.join(folder).join("bin/python"));
    let mut looked: Vec<PathBuf> = own.filter(|path| path.exists()).collect();
    looked.extend(by_runtime(&app.runtime).into_iter().map(PathBuf::from));
    looked.iter().find_map(|program| ask(program)).ok_or_else(|| LauncherError::None {
        runtime: app.runtime.clone(),
        looked: looked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
    })
}

fn by_runtime(runtime: &str) -> Vec<String> {
    let digits = runtime.trim_start_matches("python");
    let mut names = Vec::new();
    if let Some(minor) = digits.strip_prefix('3').filter(|minor| minor.parse::<u8>().is_ok()) {
        names.push(format!("python3.{minor}"));
    } else if !digits.starts_with('3') {
        names.extend(["python2.7".to_owned(), "python2".to_owned()]);
    }
    names.push("python3".to_owned());
    names.push("python".to_owned());
    names
}

/// Runs the program once: a name on PATH may be a shim that leads nowhere.
fn try_program(
    program: &Path,
    app_dir: &Path,
    script: &str,
    words: &[&str],
) -> Option<(Interpreter, Vec<String>)> {
    let program = if program.components().count() > 1 { app_dir.join(program) } else { program.to_owned() };
    let output = Command::new(&program)
        .args(["-c", script])
        .args(words)
        .current_dir(app_dir)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let told = String::from_utf8(output.stdout).ok()?;
    let mut lines = told.lines().map(ToOwned::to_owned);
    let version = lines.next()?.trim().to_owned();
    let known = output.status.success() && version.starts_with(|digit: char| digit.is_ascii_digit());
    known.then(|| (Interpreter { program, version }, lines.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(yaml: &str) -> App {
        let mut read = |_: &Path| Ok(yaml.as_bytes().to_vec());
        crate::appyaml::load(Path::new("app.yaml"), &mut read).app.unwrap()
    }

    fn program(dir: &Path, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_runtime_names_the_python_it_wants_first() {
        assert_eq!(by_runtime("python27"), ["python2.7", "python2", "python3", "python"]);
        assert_eq!(by_runtime("python"), ["python2.7", "python2", "python3", "python"]);
        assert_eq!(by_runtime("python39"), ["python3.9", "python3", "python"]);
        assert_eq!(by_runtime("python312"), ["python3.12", "python3", "python"]);
        assert_eq!(by_runtime("python3"), ["python3", "python"]);
    }

    #[test]
    fn a_virtual_environment_of_the_app_comes_before_the_machines_python() {
        let dir = tempfile::tempdir().unwrap();
        program(dir.path(), "venv/bin/python", "#!/bin/sh\necho 3.9.1\n");
        let chosen = choose(None, &app("runtime: python27\n"), dir.path()).unwrap();
        assert_eq!(chosen.version, "3.9.1");
    }

    #[test]
    fn a_name_that_leads_nowhere_is_not_an_interpreter() {
        let dir = tempfile::tempdir().unwrap();
        program(dir.path(), "shim", "#!/bin/sh\nexit 127\n");
        let error = choose(Some("./shim"), &app("runtime: python27\n"), dir.path()).unwrap_err();
        assert!(matches!(error, LauncherError::Named(_)), "{error}");
    }

    #[test]
    fn the_table_names_every_script_to_load_and_the_threads() {
        let settings = Settings::defaults(1);
        let handlers = "handlers:\n- url: /s\n  static_dir: s\n- url: /.*\n  script: main.app\n";
        let classic = table(&settings, &app(&format!("runtime: python27\n{handlers}")));
        assert_eq!((&classic["scripts"], &classic["default"]), (&json!(["main.app"]), &json!(null)));
        assert_eq!(classic["threads"], 25);
        let modern = table(&settings, &app("runtime: python311\n"));
        assert_eq!((&modern["scripts"], &modern["default"]), (&json!(["main:app"]), &json!("main:app")));
    }
}
