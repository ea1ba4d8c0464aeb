//! Which of App Engine's bundled services an app imports (`google.appengine.*`), read from its files: nothing is run.

use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::path::Path;

/// Files that are read, files and folders that are looked at, and folders inside folders, at most.
const MOST_FILES: usize = 2000;
const MOST_ENTRIES: usize = 20_000;
const DEEPEST: usize = 16;
/// Longer ones are data in disguise.
const LONGEST: u64 = 1 << 20;
/// Packages of modules: what is imported from them is a module.
const PACKAGES: [&str; 4] =
    ["google.appengine", "google.appengine.api", "google.appengine.ext", "google.appengine.runtime"];
/// What the launcher lends to a classic app.
const LENT: [&str; 3] =
    ["google.appengine.ext.vendor", "google.appengine.ext.vmruntime", "google.appengine.ext.webapp.util"];

/// What was seen: each module and where it is imported first, `main.py:3`.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) modules: BTreeMap<String, String>,
    /// Not everything was looked at.
    pub(super) cut: bool,
}

/// Looks through the app's own files. Installed packages (a folder with `.dist-info` beside them), virtual
/// environments and hidden folders are somebody else's.
pub(super) fn look(app_dir: &Path) -> Seen {
    let mut seen = Seen::default();
    let mut open = vec![(app_dir.to_owned(), 0)];
    let (mut files, mut entries) = (0, 0);
    while let Some((folder, depth)) = open.pop() {
        let Ok(listed) = std::fs::read_dir(&folder) else { continue };
        let mut listed: Vec<DirEntry> = listed.flatten().take(MOST_ENTRIES).collect();
        entries += listed.len();
        listed.sort_by_key(DirEntry::file_name);
        let named = |entry: &DirEntry, end: &str| entry.file_name().to_string_lossy().ends_with(end);
        let installed =
            listed.iter().any(|entry| named(entry, ".dist-info") || entry.file_name() == "pyvenv.cfg");
        if installed && depth > 0 {
            continue;
        }
        for entry in listed {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < DEEPEST && !is_foreign(&entry.file_name().to_string_lossy()) {
                open.push((entry.path(), depth + 1));
            } else if kind.is_file() && named(&entry, ".py") && files < MOST_FILES {
                files += 1;
                read(&entry, app_dir, &mut seen);
            }
        }
        if files >= MOST_FILES || entries >= MOST_ENTRIES {
            seen.cut = true;
            break;
        }
    }
    seen
}

fn is_foreign(folder: &str) -> bool {
    folder.starts_with('.')
        || ["venv", "env", "node_modules", "__pycache__", "site-packages"].contains(&folder)
}

fn read(entry: &DirEntry, app_dir: &Path, seen: &mut Seen) {
    if entry.metadata().map_or(u64::MAX, |known| known.len()) > LONGEST {
        return;
    }
    let Ok(bytes) = std::fs::read(entry.path()) else { return };
    let path = entry.path();
    let path = path.strip_prefix(app_dir).unwrap_or(&path);
    for (line, module) in imports(&String::from_utf8_lossy(&bytes)) {
        seen.modules.entry(module).or_insert_with(|| format!("{}:{line}", path.display()));
    }
}

/// Lines, from 1, and the modules they import. A string that looks like an import counts, too.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let words = line.trim_start();
        if let Some(list) = words.strip_prefix("import ") {
            found.extend(names(list).map(|name| (index + 1, name.to_owned())));
        } else if let Some((from, list)) =
            words.strip_prefix("from ").and_then(|rest| rest.split_once(" import "))
        {
            let from = from.trim();
            if !PACKAGES.contains(&from) {
                found.push((index + 1, from.to_owned()));
                continue;
            }
            let mut list = list.split('#').next().unwrap_or_default().to_owned();
            while (list.contains('(') && !list.contains(')')) || list.ends_with('\\') {
                let Some((_, more)) = lines.next() else { break };
                list =
                    format!("{} {}", list.trim_end_matches('\\'), more.split('#').next().unwrap_or_default());
            }
            found.extend(names(&list).map(|name| (index + 1, format!("{from}.{name}"))));
        }
    }
    let lent = |module: &str| {
        LENT.iter().any(|lent| {
            module.strip_prefix(lent).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    found.retain(|(_, module)| module.starts_with("google.appengine.") && !lent(module));
    found
}

/// The names of an import list, without what they are called here.
fn names(list: &str) -> impl Iterator<Item = &str> {
    let list = list.split(['#', ';']).next().unwrap_or_default();
    let words = list.split([',', '(', ')']).filter_map(|item| item.split_whitespace().next());
    words.filter(|word| word.chars().all(|letter| letter.is_alphanumeric() || "._".contains(letter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_import_is_seen_and_what_is_lent_is_not() {
        let text = "import os, google.appengine.api.mail as post\nfrom google.appengine.api import (  # two\n    memcache,\n    users as people,\n)\n\
                    if True:\n    from google.appengine.ext.ndb import model\nfrom google.appengine.ext import vendor, deferred\n\
                    from google.appengine.ext.webapp.util import run_wsgi_app\nfrom google.cloud import ndb\n# import google.appengine.api.search\n\
                    from google.appengine.ext import \\\n    blobstore\n";
        let seen: Vec<_> =
            imports(text).into_iter().map(|(line, module)| format!("{line} {module}")).collect();
        let expected = [
            "1 google.appengine.api.mail",
            "2 google.appengine.api.memcache",
            "2 google.appengine.api.users",
            "7 google.appengine.ext.ndb",
            "8 google.appengine.ext.deferred",
            "12 google.appengine.ext.blobstore",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn installed_packages_and_virtual_environments_are_not_the_app_s() {
        let dir = tempfile::tempdir().unwrap();
        let import = "from google.appengine.api import users\n";
        for path in ["a/b.py", "lib/x.dist-info/RECORD", "lib/other.py", "venv/c.py", ".git/d.py"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, import).unwrap();
        }
        let seen = look(dir.path());
        let expected = [("google.appengine.api.users".to_owned(), "a/b.py:1".to_owned())];
        assert_eq!(seen.modules.into_iter().collect::<Vec<_>>(), expected);
        assert!(!seen.cut);
    }
}
