//! Keeps `config/compat-proxy.yaml` true: every setting, its default, and nothing else.

use compat_proxy::settings::{KEYS, Options, Origin, Reload, Settings, Sources};

const FILE: &str = include_str!("../config/compat-proxy.yaml");
const CORES: usize = 4;

fn read(text: &str) -> Settings {
    let flags = Options::default();
    let file = Some(("config/compat-proxy.yaml", text));
    let sources = Sources { flags: &flags, env: &|_| None, file, cores: CORES, terminal: false };
    Settings::resolve(&sources).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The lines `#name: value` without their `#`, in order.
fn settings_shown() -> Vec<&'static str> {
    let shown = |line: &'static str| {
        line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    FILE.lines().filter_map(shown).collect()
}

#[test]
fn the_file_as_it_is_changes_nothing() {
    let settings = read(FILE);
    assert!(settings.shown().iter().all(|shown| shown.origin == Origin::Default));
    assert_eq!(settings.changes(&Settings::defaults(CORES)), Vec::<&str>::new());
}

#[test]
fn every_setting_is_shown_once_in_the_order_of_the_help() {
    let names: Vec<&str> = settings_shown().iter().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    let keys: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(names, keys);
}

#[test]
fn every_value_shown_is_the_default() {
    let settings = read(&settings_shown().join("\n"));
    assert_eq!(settings.changes(&Settings::defaults(CORES)), Vec::<&str>::new());
    for (line, key) in settings_shown().iter().zip(KEYS) {
        let value = line.split_once(':').map(|(_, value)| value.trim());
        assert_eq!(value, Some(key.default), "{}", key.name);
    }
}

#[test]
fn every_setting_has_help_under_the_heading_it_has_on_the_command_line() {
    for key in KEYS {
        let at =
            FILE.find(&format!("\n#{}:", key.name)).unwrap_or_else(|| panic!("{} is not shown", key.name));
        let before = &FILE[..at];
        let heading = before.rfind("# ---- ").map(|start| before[start + 7..].lines().next());
        assert_eq!(heading.flatten(), Some(key.heading), "{}", key.name);
        let help = before.rsplit("\n\n").next().unwrap_or_default();
        assert!(help.starts_with("# ") && !help.starts_with("# ----"), "{} has no help", key.name);
        assert_eq!(help.ends_with("(restart)"), key.reload == Reload::Restart, "{}", key.name);
    }
}
