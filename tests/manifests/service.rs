//! `config/compat-proxy.service`: taken by systemd, locked down, with time to stop, and stopping where the program says
//! that starting again is of no use.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use compat_proxy::settings::Settings;

use crate::packages::missing;
use crate::{BINARY, path, read};

const UNIT: &str = "config/compat-proxy.service";
/// systemd's own measure, tenths: below it is what systemd calls OK.
const MOST_EXPOSED: &str = "25";

/// The keys of the unit; none is given twice.
fn keys() -> BTreeMap<String, String> {
    let text = read(UNIT);
    let lines = text.lines().filter(|line| !line.starts_with(['#', '[']) && !line.is_empty());
    let mut found = BTreeMap::new();
    for line in lines {
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
        assert_eq!(found.insert(key.to_owned(), value.to_owned()), None, "{key} is given twice");
    }
    found
}

#[test]
fn systemd_takes_it_and_finds_it_locked_down() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let unit = folder.path().join("compat-proxy.service");
    // The program and the app where they are on this machine.
    let app = path("tests/fixtures/apps/demo").to_string_lossy().into_owned();
    let text = read(UNIT).replace("/usr/local/bin/compat-proxy", BINARY).replace("/srv/app", &app);
    std::fs::write(&unit, &text).expect("the unit is written");
    let analyze = |words: &[&str]| Command::new("systemd-analyze").args(words).arg(&unit).output();
    let verified = match analyze(&["verify", "--man=no"]) {
        Ok(verified) => verified,
        Err(error) => {
            return missing(&format!("NO SYSTEMD-ANALYZE: {UNIT} is not shown to be valid: {error}"));
        }
    };
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !said.contains("compat-proxy.service"), "{said}");
    let exposed =
        analyze(&["security", "--offline=yes", "--no-pager", &format!("--threshold={MOST_EXPOSED}")]);
    let exposed = exposed.expect("it was there before");
    let said = String::from_utf8_lossy(&exposed.stdout).into_owned();
    assert!(exposed.status.success(), "{said}");
    println!("{}", said.lines().last().unwrap_or_default());
    std::fs::write(&unit, text.replace("KillMode=mixed", "KilMode=mixed")).expect("the unit is written");
    let wrong = analyze(&["verify", "--man=no"]).expect("it was there before");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("KilMode"), "an unknown key is taken");
}

#[test]
fn it_has_time_to_stop_and_does_not_repeat_what_cannot_work() {
    let keys = keys();
    let settings = Settings::defaults(1);
    let own = settings.drain_quiet.value + settings.grace_period.value + settings.stop_timeout.value;
    let seconds =
        keys["TimeoutStopSec"].strip_suffix('s').and_then(|text| text.parse().ok()).expect("seconds");
    assert!(Duration::from_secs(seconds) >= own + Duration::from_secs(5), "{seconds}s");
    assert_eq!(keys["KillMode"], "mixed", "workers are ended by compat-proxy, after their requests");
    assert_eq!(keys["RestartPreventExitStatus"], "2 65 78");
    assert!(keys["ExecReload"].ends_with("-HUP $MAINPID"));
    assert_eq!(keys["ExecStart"], format!("/usr/local/bin/compat-proxy run {}", keys["WorkingDirectory"]));
}
