//! What `check` says about a Python app: which interpreter and server the launcher would use, which scripts are on
//! disk, which bundled services the app imports. Reads files and asks the interpreter; runs nothing of the app.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bundled;
use super::launcher;
use super::{Way, way};
use crate::appyaml::{App, Login, Place, Problem, Severity, Target};
use crate::settings::Settings;

/// Modules named in one line, at most.
const MOST_NAMES: usize = 12;
/// Asks a Python its version, which gunicorn it has, as the launcher will, and which of the modules named it knows.
/// The app's folder is no place to import from here.
const ASK: &str = r"
import sys
print('%d.%d.%d' % sys.version_info[:3])
sys.path[:] = [folder for folder in sys.path if folder]
try:
    import gunicorn
    print('gunicorn ' + gunicorn.__version__)
except ImportError:
    print('')
for name in sys.argv[1:]:
    try:
        try:
            from importlib.util import find_spec
        except ImportError:
            from imp import find_module
            find_module(name)
            print(name)
        else:
            if find_spec(name):
                print(name)
    except (ImportError, ValueError):
        pass
";

/// Remarks on how the app would be started; none unless the built-in launcher would.
#[must_use]
pub fn survey(settings: &Settings, app: &App, app_dir: &Path, place: &Place) -> Vec<Problem> {
    let Ok(app_dir) = super::app_dir(app_dir) else { return Vec::new() };
    if !matches!(way(settings, app, &app_dir), Way::Launcher) {
        return Vec::new();
    }
    let scripts = scripts(app, place);
    if !has_python(&app_dir, &scripts) {
        let names = scripts.iter().map(|script| format!("`{}`", script.name)).collect::<Vec<_>>();
        let names = shortened(names.into_iter());
        return vec![note(
            place,
            format!("no Python file is in this folder: nothing can be said of {names}"),
        )];
    }
    let modules: BTreeSet<&str> = scripts.iter().filter_map(Script::module).collect();
    let modules: Vec<&str> = modules.into_iter().collect();
    let named = settings.python.value.as_deref();
    let mut found = Vec::new();
    match launcher::choose_and_ask(named, app, &app_dir, ASK, &modules) {
        Ok((interpreter, told)) => {
            let server = match told.first().map(String::as_str) {
                None | Some("") => "the built-in server (gunicorn is not installed in that Python)",
                Some(gunicorn) => gunicorn,
            };
            found.push(note(place, format!("{} starts it: {interpreter}, {server}", launcher::NAME)));
            found.extend(launcher::remark(app, &interpreter).map(|text| note(place, text)));
            found.extend(on_disk(&scripts, &app_dir, told.get(1..).unwrap_or_default(), place));
        }
        Err(error) => {
            found.push(Problem { severity: Severity::Warning, ..note(place, error.to_string()) });
            found.extend(on_disk(&scripts, &app_dir, &[], place));
        }
    }
    found.extend(services(&app_dir, &scripts, place));
    found
}

/// Whether the app's code is here at all, and not its app.yaml alone.
fn has_python(app_dir: &Path, scripts: &[Script<'_>]) -> bool {
    let mut entries = std::fs::read_dir(app_dir).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().as_encoded_bytes().ends_with(b".py"))
        || scripts.iter().any(|script| script.find(app_dir).is_some())
}

/// Where app.yaml says which runtime it wants: the line for remarks on the app as a whole.
#[must_use]
pub fn place_of_runtime(texts: &[(Arc<str>, String)]) -> Option<Place> {
    let (file, text) = texts.first()?;
    let line = text.lines().position(|line| line.starts_with("runtime:")).unwrap_or(0);
    Some(Place { file: Arc::clone(file), line: u32::try_from(line + 1).ok()?, column: 1 })
}

fn note(place: &Place, message: String) -> Problem {
    Problem { severity: Severity::Note, place: place.clone(), message, hint: None }
}

/// One script as app.yaml names it, and by whom first.
struct Script<'a> {
    name: &'a str,
    place: &'a Place,
    /// Only handlers with a login rule name it: nobody reaches it.
    hidden: bool,
}

impl Script<'_> {
    /// The rule of the launcher.
    fn is_file(&self) -> bool {
        self.name.contains('/') || self.name.ends_with(".py")
    }

    /// What is imported first, unless it is a file or of App Engine's own.
    fn module(&self) -> Option<&str> {
        let module = self.name.split(['.', ':']).next()?;
        (!self.is_file() && !self.is_bundled()).then_some(module)
    }

    fn is_bundled(&self) -> bool {
        self.name.starts_with("google.appengine.") || self.name.starts_with("$PYTHON_LIB/")
    }

    /// The file it is in, relative to the app, without a look into any.
    fn find(&self, app_dir: &Path) -> Option<PathBuf> {
        if self.is_file() {
            let path = PathBuf::from(self.name.trim_start_matches('/'));
            return app_dir.join(&path).is_file().then_some(path);
        }
        let mut at = PathBuf::new();
        let parts: Vec<&str> = self.name.split(['.', ':']).collect();
        // The last one is the application, and so may be more of them.
        for part in parts.iter().take(parts.len().max(2) - 1) {
            let file = at.join(format!("{part}.py"));
            if app_dir.join(&at).join(part).is_dir() {
                at.push(part);
            } else if app_dir.join(&file).is_file() {
                return Some(file);
            } else {
                break;
            }
        }
        let package = at.join("__init__.py");
        (!at.as_os_str().is_empty() && app_dir.join(&package).is_file()).then_some(package)
    }
}

/// Every script whose name no request changes, once.
fn scripts<'a>(app: &'a App, default: &'a Place) -> Vec<Script<'a>> {
    let mut found: Vec<Script<'a>> = Vec::new();
    for handler in &app.handlers {
        let Target::Script { script } = &handler.target else { continue };
        let Some(name) = script.literal() else { continue };
        let name = if name == "auto" { launcher::DEFAULT } else { name };
        let hidden = handler.login != Login::Optional;
        match found.iter_mut().find(|known| known.name == name) {
            Some(known) if known.hidden && !hidden => (known.place, known.hidden) = (&handler.place, false),
            Some(_) => {}
            None => found.push(Script { name, place: &handler.place, hidden }),
        }
    }
    if launcher::default(app).is_some() && !found.iter().any(|script| script.name == launcher::DEFAULT) {
        found.push(Script { name: launcher::DEFAULT, place: default, hidden: false });
    }
    found
}

/// A line on the scripts that are there, a warning for each that is not.
fn on_disk(scripts: &[Script<'_>], app_dir: &Path, installed: &[String], place: &Place) -> Vec<Problem> {
    let (mut there, mut found) = (BTreeSet::new(), Vec::new());
    for script in scripts.iter().filter(|script| !script.is_bundled()) {
        if let Some(path) = script.find(app_dir) {
            there.insert(path.display().to_string());
        } else if let Some(module) =
            script.module().filter(|module| installed.iter().any(|known| known == module))
        {
            there.insert(format!("{module} (installed)"));
        } else if let Some(folder) = script.module().and_then(|module| vendored(app_dir, module)) {
            there.insert(folder.display().to_string());
        } else if !script.hidden {
            found.push(Problem {
                severity: Severity::Warning,
                place: script.place.clone(),
                message: format!("`{}` is not in the app's folder: its requests would get 500", script.name),
                hint: Some("name a module or file beneath APP_DIR".to_owned()),
            });
        }
    }
    if !there.is_empty() {
        found.insert(0, note(place, format!("scripts on disk: {}", shortened(there.into_iter()))));
    }
    found
}

/// A module in a folder such as `lib`, which the app's own `appengine_config` may add to the path.
fn vendored(app_dir: &Path, module: &str) -> Option<PathBuf> {
    let folders = std::fs::read_dir(app_dir).ok()?.flatten().filter(|entry| entry.path().is_dir());
    let mut named = folders.map(|entry| PathBuf::from(entry.file_name()).join(module));
    named.find(|path| app_dir.join(path).is_dir() || app_dir.join(path).with_extension("py").is_file())
}

fn services(app_dir: &Path, scripts: &[Script<'_>], place: &Place) -> Option<Problem> {
    let mut seen = bundled::look(app_dir);
    for script in scripts.iter().filter(|script| script.is_bundled()) {
        let at = format!("{}:{}", script.place.file, script.place.line);
        seen.modules.entry(script.name.to_owned()).or_insert(at);
    }
    if seen.modules.is_empty() {
        return None;
    }
    let named = seen.modules.into_iter().map(|(module, at)| format!("`{module}` ({at})"));
    let cut = if seen.cut { "; not every file was looked at" } else { "" };
    Some(Problem {
        hint: Some(
            "put client libraries of services you run in their place, or install the SDK's modules where Python finds them and run an API server"
                .to_owned(),
        ),
        ..note(
            place,
            format!(
                "App Engine's bundled services are imported: {}; they need its API server and are not provided here{cut}",
                shortened(named)
            ),
        )
    })
}

fn shortened(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(MOST_NAMES);
    let mut text = names.take(MOST_NAMES).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
