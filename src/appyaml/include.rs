//! `includes` and `builtins`, in the SDK's order, merged into one [`Part`].
//!
//! A file's builtins come before its includes, and both before those they name in turn. Each file is read once, so
//! that loops are harmless. No path leaves the application root.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::Place;
use super::builtin;
use super::fields;
use super::findings::{Findings, code, nearest};
use super::handler::Around;
use super::load::Files;
use super::part::{self, Builtin, Part};
use super::raw::Node;
use super::reader::{self, Content};

/// No real application has as many.
const MOST_FILES: usize = 100;

/// What a file is included as: builtins cannot be mixed up with paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Builtin(&'static str),
    File(PathBuf),
}

struct Merging<'a, 'r> {
    files: &'a mut Files<'r>,
    findings: &'a mut Findings,
    around: Around,
    /// Who included it first.
    included: BTreeMap<Name, String>,
    /// Who switched it off.
    excluded: BTreeMap<Name, String>,
    sum: Part,
}

/// Everything that the builtins and includes of app.yaml bring, in order.
pub(super) fn resolve(
    app: &mut Part,
    files: &mut Files<'_>,
    around: Around,
    findings: &mut Findings,
) -> Part {
    let around = Around { included: true, ..around };
    let sum = Part::default();
    let mut merging =
        Merging { files, findings, around, included: BTreeMap::new(), excluded: BTreeMap::new(), sum };
    let main = merging.files.main.clone();
    merging.follow(&main, std::mem::take(&mut app.builtins), std::mem::take(&mut app.includes));
    merging.sum
}

impl Merging<'_, '_> {
    /// What one file asks for. Its builtins are switched before any of its includes is read.
    fn follow(&mut self, from: &Path, builtins: Vec<Builtin>, includes: Vec<(String, Place)>) {
        let asked: Vec<(&'static builtin::Builtin, Place)> =
            builtins.into_iter().filter_map(|item| self.switch(from, item)).collect();
        for (builtin, place) in asked {
            let name = Name::Builtin(builtin.name);
            if self.is_new(&name, from, &place) {
                let file: Arc<str> = format!("builtin:{}", builtin.name).into();
                let around = Around { builtin: true, ..self.around };
                self.add(&file, Path::new(""), builtin.text.to_owned(), around);
            }
        }
        for (path, place) in includes {
            if self.included.len() >= MOST_FILES {
                self.findings.error(&place, format!("more than {MOST_FILES} included files"));
                return;
            }
            let Some((path, bytes)) = self.find(from, &path, &place) else { continue };
            if !self.is_new(&Name::File(path.clone()), from, &place) {
                continue;
            }
            let file: Arc<str> = path.display().to_string().into();
            self.files.sources.push(path.clone());
            match reader::decode(bytes, &file) {
                Ok(text) => self.add(&file, &path, text, self.around),
                Err(problem) => self.findings.push(problem),
            }
        }
    }

    /// On: the builtin to add. Off: remembered, for those who ask for it later.
    fn switch(&mut self, from: &Path, item: Builtin) -> Option<(&'static builtin::Builtin, Place)> {
        let on = item.on?;
        let Some(builtin) = builtin::find(&item.name) else {
            let known = builtin::ALL.iter().map(|builtin| builtin.name);
            let hint = match nearest(&item.name, known.clone()) {
                Some(name) => format!("did you mean {}?", code(name)),
                None => format!("there are {}", known.map(code).collect::<Vec<_>>().join(", ")),
            };
            self.findings.error(&item.place, format!("{} is not a builtin", code(&item.name))).hint(hint);
            return None;
        };
        if builtin.retired {
            self.findings
                .note(&item.place, format!("{} is gone from App Engine; accepted here", code(&item.name)));
        }
        if on {
            return Some((builtin, item.place));
        }
        let name = Name::Builtin(builtin.name);
        if let Some(by) = self.included.get(&name) {
            let message = format!("{} is already included by {} and stays on", code(&item.name), code(by));
            self.findings.warning(&item.place, message);
        }
        self.excluded.insert(name, from.display().to_string());
        None
    }

    /// Neither switched off nor read before.
    fn is_new(&mut self, name: &Name, from: &Path, place: &Place) -> bool {
        if let Some(by) = self.excluded.get(name) {
            let message = format!("this is switched off by {} and stays off", code(by));
            self.findings.warning(place, message);
            return false;
        }
        if self.included.contains_key(name) {
            return false;
        }
        self.included.insert(name.clone(), from.display().to_string());
        true
    }

    /// Next to the including file, then next to app.yaml, then in the root; a directory means its include.yaml.
    fn find(&mut self, from: &Path, written: &str, place: &Place) -> Option<(PathBuf, Vec<u8>)> {
        let parent = |path: &Path| path.parent().unwrap_or(Path::new("")).to_owned();
        let bases = [parent(from), parent(&self.files.main), PathBuf::new()];
        let mut outside = false;
        let mut failed = None;
        for base in bases {
            let Some(path) = inside(&base.join(written)) else {
                outside = true;
                continue;
            };
            let inner = path.join("include.yaml");
            for path in [path, inner].into_iter().filter(|path| !path.as_os_str().is_empty()) {
                match (self.files.read)(&path) {
                    Ok(bytes) => return Some((path, bytes)),
                    Err(error) => {
                        let absent = matches!(
                            error.kind(),
                            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory
                        );
                        failed = failed.or((!absent).then_some(error));
                    }
                }
            }
        }
        let (message, hint) = match failed {
            Some(error) => {
                (format!("cannot read {}: {error}", code(written)), "look at the file's permissions")
            }
            None if outside || Path::new(written).is_absolute() => (
                format!("{} is outside the application", code(written)),
                "copy the file into the application and name it without `/` or `..` in front",
            ),
            None => (
                format!("there is no file {}", code(written)),
                "the path counts from the file that names it, then from app.yaml",
            ),
        };
        self.findings.error(place, message).hint(hint);
        None
    }

    /// One included file: its own part, then what it asks for.
    fn add(&mut self, file: &Arc<str>, path: &Path, text: String, around: Around) {
        let content = reader::read(&text, file, self.findings);
        self.files.texts.push((Arc::clone(file), text));
        let document = match content {
            Content::Document(document) => document,
            Content::Broken => return,
            Content::Nothing => {
                if !around.builtin {
                    let place = Place { file: Arc::clone(file), line: 1, column: 1 };
                    self.findings.warning(&place, "this included file is empty");
                }
                return;
            }
        };
        let root = Node::root(&document, file);
        fields::INCLUDE.check(root, self.findings);
        let mut part = part::read(root, around, self.findings);
        let (builtins, includes) = (std::mem::take(&mut part.builtins), std::mem::take(&mut part.includes));
        merge(&mut self.sum, part);
        let from = if around.builtin { PathBuf::from(&**file) } else { path.to_owned() };
        self.follow(&from, builtins, includes);
    }
}

/// One included file more: later env_variables win, earlier vm_settings, the larger manual_scaling.
fn merge(sum: &mut Part, part: Part) {
    sum.handlers.extend(part.handlers);
    sum.env_variables.extend(part.env_variables);
    for (name, value) in part.vm_settings {
        sum.vm_settings.entry(name).or_insert(value);
    }
    sum.instances = sum.instances.max(part.instances);
    sum.vm |= part.vm;
    sum.skip_files = match (sum.skip_files.take(), part.skip_files) {
        (Some((one, place)), Some((two, _))) => Some((format!("{one}|{two}"), place)),
        (one, two) => one.or(two),
    };
}

/// app.yaml with what its builtins and includes bring.
pub(super) fn merge_into(app: &mut Part, sum: Part) {
    let (tail, head): (Vec<_>, Vec<_>) = sum.handlers.into_iter().partition(|entry| entry.tail);
    app.handlers.splice(0..0, head);
    app.handlers.extend(tail);
    app.env_variables.extend(sum.env_variables);
    for (name, value) in sum.vm_settings {
        app.vm_settings.entry(name).or_insert(value);
    }
    app.instances = app.instances.max(sum.instances);
    app.vm |= sum.vm;
    if let Some((included, place)) = sum.skip_files {
        let own = app.skip_files.take().map_or_else(|| super::skip::DEFAULT.to_owned(), |(own, _)| own);
        app.skip_files = Some((format!("{own}|{included}"), place));
    }
}

/// The path without `.` and `..`, if it stays inside the root.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !clean.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}
