//! Programs and libraries that only the tests need, from the package registry into folders beneath the target
//! directory, once. What cannot be had is said loudly, past the test runner's capture; where
//! `COMPAT_PROXY_TESTS_STRICT` is set, as `.ci/run` does, that fails.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// For one installation.
const LIMIT: Duration = Duration::from_secs(150);

/// The Python 3 of the machine: the program itself and no wrapper around it, so that its process is the worker.
pub fn python() -> &'static str {
    static FOUND: OnceLock<String> = OnceLock::new();
    FOUND.get_or_init(|| {
        let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        let path = String::from_utf8(asked.expect("python3 is installed").stdout).expect("a path");
        path.trim().to_owned()
    })
}

/// A folder with these packages for the Python 3 of the machine
pub fn packages(name: &str, words: &[&str]) -> Result<PathBuf, String> {
    folder(name, words, |to| pip(python(), words, to, None))
}

/// A folder with these packages, made once and kept: by one process at a time, whole or not at all.
pub fn folder(
    name: &str,
    packages: &[&str],
    make: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let mut hasher = DefaultHasher::new();
    packages.hash(&mut hasher);
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pythons");
    let at = base.join(format!("{name}-{:08x}", hasher.finish() >> 32));
    let told = |error: std::io::Error| format!("{}: {error}", at.display());
    std::fs::create_dir_all(&base).map_err(told)?;
    let lock = File::create(at.with_added_extension("lock")).map_err(told)?;
    lock.lock().map_err(told)?;
    if !at.exists() {
        let half = at.with_added_extension("half");
        let _ = std::fs::remove_dir_all(&half);
        std::fs::create_dir_all(&half).map_err(told)?;
        make(&half)?;
        std::fs::rename(&half, &at).map_err(told)?;
    }
    Ok(at)
}

/// Installs with this Python's pip, or with the one in `tools`.
pub fn pip(program: &str, packages: &[&str], to: &Path, tools: Option<&Path>) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(["-m", "pip", "install", "--quiet", "--target"]).arg(to).args(packages);
    if let Some(tools) = tools {
        command.env("PYTHONPATH", tools);
    }
    bounded(command, to)
}

/// Runs it to its end, or to the end of its time.
pub fn bounded(mut command: Command, to: &Path) -> Result<(), String> {
    let log = to.with_added_extension("log");
    let file = File::create(&log).map_err(|error| error.to_string())?;
    command.env("PIP_DISABLE_PIP_VERSION_CHECK", "1").stdin(Stdio::null());
    command.stdout(file.try_clone().map_err(|error| error.to_string())?).stderr(file);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let end = Instant::now() + LIMIT;
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(_) => return Err(std::fs::read_to_string(&log).unwrap_or_default()),
            None if Instant::now() > end => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("pip took more than {LIMIT:?}"));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Says it whether or not the test runner shows what tests print.
pub fn shout(text: &str) {
    let _ = writeln!(std::io::stderr(), "\n=== {text}\n");
}

/// Says that something is missing and what is not shown without it; fails where nothing may be missing.
pub fn missing(what: &str) {
    shout(what);
    assert!(std::env::var_os("COMPAT_PROXY_TESTS_STRICT").is_none(), "{what}");
}
