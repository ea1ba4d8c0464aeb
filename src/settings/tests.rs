//! Where a value comes from, and which source wins.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use super::*;

/// The options of the contract, in its order.
const CONTRACT: [&str; 30] = [
    "app-yaml",
    "listen",
    "h2c",
    "admin",
    "upstream-cmd",
    "upstream",
    "python",
    "workers",
    "concurrency",
    "threadsafe",
    "queue-depth",
    "queue-timeout",
    "request-timeout",
    "connect-timeout",
    "max-request-body",
    "start-timeout",
    "health-path",
    "max-requests",
    "max-lifetime",
    "max-rss",
    "stop-timeout",
    "drain-quiet",
    "grace-period",
    "trusted-proxy",
    "threads",
    "max-connections",
    "static-cache",
    "log-format",
    "access-log",
    "log-level",
];

/// What a test lays before `resolve`.
#[derive(Default)]
struct Given<'a> {
    flags: &'a [&'a str],
    env: &'a [(&'a str, &'a str)],
    file: &'a str,
}

impl Given<'_> {
    fn resolve(&self) -> Result<Settings, SettingsErrors> {
        let words = std::iter::once("compat-proxy").chain(self.flags.iter().copied());
        let command = Cli::read(words).unwrap();
        let env: HashMap<&str, &str> = self.env.iter().copied().collect();
        Settings::resolve(&Sources {
            flags: command.options().unwrap(),
            env: &|name| env.get(name).map(OsString::from),
            file: Some(("c.yaml", self.file)),
            cores: 4,
            terminal: false,
        })
    }

    fn good(&self) -> Settings {
        self.resolve().unwrap()
    }

    fn bad(&self) -> Vec<String> {
        self.resolve().unwrap_err().0.iter().map(ToString::to_string).collect()
    }
}

fn flags<'a>(flags: &'a [&'a str]) -> Given<'a> {
    Given { flags, ..Given::default() }
}

fn env<'a>(env: &'a [(&'a str, &'a str)]) -> Given<'a> {
    Given { env, ..Given::default() }
}

fn file(file: &str) -> Given<'_> {
    Given { file, ..Given::default() }
}

#[test]
fn the_table_holds_the_options_of_the_contract_and_no_other() {
    let mut table: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    let mut contract = CONTRACT.to_vec();
    table.sort_unstable();
    contract.sort_unstable();
    assert_eq!(table, contract);
}

#[test]
fn every_option_is_a_flag_of_run_and_check_a_variable_and_a_key() {
    let command = flags::whole_command();
    let long_names = |command: &clap::Command| -> Vec<String> {
        command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect()
    };
    for place in
        [&command, command.find_subcommand("run").unwrap(), command.find_subcommand("check").unwrap()]
    {
        let longs = long_names(place);
        for name in CONTRACT {
            assert!(longs.iter().any(|long| long == name), "{} {name}", place.get_name());
        }
        let extra = ["config", "help", "version", "format", "deny-warnings"];
        for long in &longs {
            assert!(
                CONTRACT.contains(&long.as_str()) || extra.contains(&long.as_str()),
                "--{long} is not in the contract"
            );
        }
    }
    for key in KEYS {
        // A value no option accepts shows that the variable and the key are looked at.
        let variable = format!("COMPAT_PROXY_{}", key.name.to_uppercase().replace('-', "_"));
        let said = env(&[(&variable, "'\0")]).bad().join("\n");
        assert!(said.starts_with(&format!("{variable}: ")), "{said}");
        let said = file(&format!("{}: \"'\\0\"", key.name)).bad().join("\n");
        assert!(said.starts_with(&format!("c.yaml:1:{}: {}: ", key.name.len() + 3, key.name)), "{said}");
    }
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let settings = Settings::defaults(4);
    let second = Duration::from_secs;
    assert_eq!(*settings.app_yaml, Path::new("app.yaml"));
    assert_eq!(*settings.listen, [Endpoint::Tcp { host: "0.0.0.0".into(), port: 8080 }]);
    assert_eq!(*settings.admin, Endpoint::Tcp { host: "127.0.0.1".into(), port: 9911 });
    assert!(!*settings.h2c && settings.upstream.is_empty() && settings.trusted_proxy.is_empty());
    assert_eq!((&*settings.upstream_cmd, &*settings.python, &*settings.health_path), (&None, &None, &None));
    assert_eq!((settings.workers.number, settings.threads.number, *settings.concurrency), (4, 4, 25));
    assert_eq!((*settings.threadsafe, *settings.queue_depth), (Threadsafe::Ignore, None));
    assert_eq!(settings.queue_depth_for(4, 25), 1000);
    assert_eq!((*settings.queue_timeout, *settings.request_timeout), (second(10), second(60)));
    assert_eq!((*settings.connect_timeout, *settings.start_timeout), (second(1), second(60)));
    assert_eq!(
        (*settings.stop_timeout, *settings.drain_quiet, *settings.grace_period),
        (second(10), second(0), second(30))
    );
    assert_eq!((settings.max_request_body.as_u64(), settings.static_cache.as_u64()), (32 << 20, 64 << 20));
    assert_eq!((*settings.max_requests, *settings.max_lifetime, *settings.max_rss), (None, None, None));
    assert_eq!(
        (*settings.log_format, *settings.access_log, *settings.log_level),
        (LogFormat::Json, AccessLog::On, LogLevel::Info)
    );
    assert!(settings.shown().iter().all(|shown| shown.origin == Origin::Default));
}

#[test]
fn a_flag_beats_a_variable_beats_the_platform_beats_the_file_beats_a_hint() {
    let flag: &[&str] = &["--workers=1"];
    let own = ("COMPAT_PROXY_WORKERS", "2");
    let platform = ("WEB_CONCURRENCY", "3");
    let hints = Hints { workers: Some(5), ..Hints::default() };
    let got = |flags: &[&str], env: &[(&str, &str)], file: &str| {
        let settings = Given { flags, env, file }.good().with_hints(&hints);
        (settings.workers.number, settings.workers.origin.to_string())
    };
    let at = |number, origin: &str| (number, origin.to_owned());
    assert_eq!(got(flag, &[own, platform], "workers: 4"), at(1, "flag"));
    assert_eq!(got(&[], &[own, platform], "workers: 4"), at(2, "environment COMPAT_PROXY_WORKERS"));
    assert_eq!(got(&[], &[platform], "workers: 4"), at(3, "environment WEB_CONCURRENCY"));
    assert_eq!(got(&[], &[], "\nworkers: 4"), at(4, "c.yaml:2"));
    assert_eq!(got(&[], &[], ""), at(5, "app.yaml manual_scaling.instances"));
    assert_eq!(file("").good().workers.origin.to_string(), "default");
}

#[test]
fn the_platforms_variables_are_read_by_their_plain_names() {
    assert_eq!(env(&[("PORT", "9000")]).good().listen[0].to_string(), "0.0.0.0:9000");
    assert_eq!(env(&[("PORT", "0")]).good().listen[0].to_string(), "0.0.0.0:0");
    assert_eq!(*env(&[("MODULE_YAML_PATH", "b.yaml")]).good().app_yaml, Path::new("b.yaml"));
    assert!(env(&[("PORT", "http")]).bad()[0].starts_with("PORT: `http` has no port"));
    // One that is not needed is not our business.
    assert!(Given { flags: &["--listen=80"], env: &[("PORT", "http")], file: "" }.resolve().is_ok());
}

#[test]
fn an_empty_variable_is_not_set() {
    let settings = env(&[("COMPAT_PROXY_WORKERS", ""), ("PORT", " "), ("COMPAT_PROXY_UPSTREAM", "")]).good();
    assert_eq!(settings.workers.origin, Origin::Default);
    assert_eq!(settings.listen.origin, Origin::Default);
    assert!(!settings.is_attached());
}

#[test]
fn a_repeatable_option_takes_several_values_from_every_source() {
    let want = "10.0.0.0/8, ::1/128";
    for given in [
        flags(&["--trusted-proxy=10.0.0.0/8", "--trusted-proxy=::1"]),
        flags(&["--trusted-proxy=10.0.0.0/8,::1"]),
        env(&[("COMPAT_PROXY_TRUSTED_PROXY", "10.0.0.0/8, ::1")]),
        file("trusted-proxy: 10.0.0.0/8 ::1"),
        file("trusted-proxy:\n- 10.0.0.0/8\n- \"::1\"\n"),
    ] {
        let shown = given.good().shown();
        assert_eq!(shown.iter().find(|shown| shown.key.name == "trusted-proxy").unwrap().value, want);
    }
}

#[test]
fn every_mistake_of_every_source_is_told_even_where_a_stronger_source_hides_it() {
    let given = Given {
        flags: &["--workers=2", "--grace-period=10"],
        env: &[("COMPAT_PROXY_WORKERS", "x"), ("COMPAT_PROXY_LOG_LEVEL", "loud")],
        file: "zebra: 1\nworkers: 0\nconcurrency: 70000\n",
    };
    assert_eq!(
        given.bad(),
        [
            "COMPAT_PROXY_WORKERS: `x` is not a whole number; write one from 1 to 512, or `auto`",
            "--grace-period: `10` has no unit; write `10s` for seconds or `10ms` for milliseconds",
            "COMPAT_PROXY_LOG_LEVEL: `loud` is none of `error`, `warn`, `info`, `debug` and `trace`",
            "c.yaml:1:1: unknown setting `zebra`; `compat-proxy --help` lists every option, and the keys are the same words",
            "c.yaml:2:10: workers: `0` is out of range; write a number from 1 to 512, or `auto`",
            "c.yaml:3:14: concurrency: `70000` is out of range; write a number from 1 to 65535",
        ]
    );
}

#[test]
fn a_variable_that_is_not_text_is_told_by_name() {
    use std::os::unix::ffi::OsStringExt as _;
    let flags = Options::default();
    let env = |name: &str| (name == "COMPAT_PROXY_PYTHON").then(|| OsString::from_vec(vec![0xff]));
    let sources = Sources { flags: &flags, env: &env, file: None, cores: 1, terminal: false };
    let errors = Settings::resolve(&sources).unwrap_err();
    assert_eq!(errors.to_string(), "COMPAT_PROXY_PYTHON: the value is not UTF-8 text");
}

#[test]
fn wrap_and_attach_together_is_an_error_that_names_both_sources() {
    let given = Given { flags: &["--upstream=app:80"], env: &[], file: "upstream-cmd: gunicorn main:app" };
    let said = given.bad();
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("--upstream: excludes `upstream-cmd` (c.yaml:1)"), "{said:?}");
    let overruled = Given { flags: &["--upstream=app:80", "--upstream-cmd="], ..given };
    assert!(overruled.good().is_attached());
}

#[test]
fn what_has_no_effect_beside_an_upstream_is_noted() {
    let settings = flags(&["--upstream=app:80", "--workers=3", "--max-requests=5"]).good();
    assert_eq!(
        settings.notes,
        [
            "`workers` (flag) has no effect: the app runs elsewhere (`upstream`)",
            "`max-requests` (flag) has no effect: the app runs elsewhere (`upstream`)"
        ]
    );
    let platform = Given { flags: &["--upstream=app:80"], env: &[("WEB_CONCURRENCY", "3")], file: "" };
    assert_eq!(platform.good().notes, Vec::<String>::new());
    assert_eq!(flags(&["--upstream-cmd=x", "--python=python2"]).good().notes.len(), 1);
}

#[test]
fn two_listeners_on_one_place_are_an_error() {
    assert!(flags(&["--listen=80", "--listen=127.0.0.1:80"]).bad()[0].contains("the same place"));
    assert!(
        flags(&["--admin=0.0.0.0:8080"]).bad()[0]
            .starts_with("--admin: `0.0.0.0:8080` (flag) and the main listener")
    );
    assert!(flags(&["--upstream=a:80", "--upstream=a:80"]).bad()[0].contains("give it once"));
    assert!(flags(&["--listen=0", "--listen=0"]).resolve().is_ok());
    assert!(flags(&["--listen="]).bad()[0].contains("names no address"));
    assert_eq!(flags(&["--listen=foo"]).bad().len(), 1);
}

#[test]
fn hints_fill_only_what_nobody_chose_and_can_be_taken_back() {
    let hints =
        Hints { concurrency: Some(80), workers: Some(9999), queue_timeout: Some(Duration::from_secs(2)) };
    let base = flags(&["--concurrency=7"]).good();
    let hinted = base.with_hints(&hints);
    assert_eq!((*hinted.concurrency, hinted.workers.number), (7, 512));
    assert_eq!(*hinted.queue_timeout, Duration::from_secs(2));
    assert_eq!(hinted.queue_timeout.origin.to_string(), "app.yaml automatic_scaling.max_pending_latency");
    assert_eq!(hinted.with_hints(&Hints::default()), base);
}

#[test]
fn a_level_of_the_file_that_is_overruled_is_told() {
    let told = |flags: &[&str], env: &[(&str, &str)], file: &str| {
        Given { flags, env, file }.good().log_level_overruled
    };
    let file = "log-level: debug";
    assert_eq!(told(&[], &[], file), None);
    assert_eq!(told(&["--log-level=debug"], &[], file), None, "they agree");
    assert_eq!(told(&["--log-level=warn"], &[], ""), None);
    assert_eq!(
        told(&["--log-level=warn"], &[], file).as_deref(),
        Some("`log-level: debug` (c.yaml:1) has no effect: `warn` is given by flag")
    );
    let variable = [("COMPAT_PROXY_LOG_LEVEL", "info")];
    assert!(told(&[], &variable, file).is_some_and(|text| text.ends_with("COMPAT_PROXY_LOG_LEVEL")));
}

#[test]
fn changes_that_need_a_restart_are_told_apart() {
    let old = file("").good();
    let new = file("listen: 9000\nthreads: 7\nworkers: 3\nlog-level: debug\nlog-format: text").good();
    assert_eq!(old.changes(&new), ["listen", "threads", "workers", "log-format", "log-level"]);
    assert_eq!(old.changes_needing_restart(&new), ["listen", "threads", "log-format"]);
    // The same value from elsewhere is no change.
    assert_eq!(old.changes(&env(&[("PORT", "8080")]).good()), Vec::<&str>::new());
}

#[test]
fn a_settings_file_asked_for_must_be_there_and_one_not_asked_for_need_not() {
    let dir = tempfile::tempdir().unwrap();
    let read = |words: &[&str], env: &dyn Fn(&str) -> Option<OsString>| {
        let command = Cli::read(std::iter::once("compat-proxy").chain(words.iter().copied())).unwrap();
        load::read_file(command.options().unwrap(), env, dir.path())
    };
    assert_eq!(read(&[], &|_| None), Ok(None));
    let error = read(&["--config=/nope.yaml"], &|_| None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the settings file `/nope.yaml`: there is no such file; check the path given by `--config`, or take it away"
    );
    let variable = |name: &str| (name == "COMPAT_PROXY_CONFIG").then(|| OsString::from("/nope.yaml"));
    assert!(read(&[], &variable).unwrap_err().to_string().starts_with("COMPAT_PROXY_CONFIG: cannot read"));
    std::fs::write(dir.path().join(FILE_NAME), "workers: 2").unwrap();
    let (path, text) = read(&[], &|_| None).unwrap().unwrap();
    assert!(path.ends_with("/compat-proxy.yaml"));
    assert_eq!(text, "workers: 2");
}

#[test]
fn load_reads_the_file_of_the_application_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE_NAME), "grace-period: 7s\n").unwrap();
    let settings = Settings::load(&Options::default(), dir.path(), false).unwrap();
    assert_eq!(*settings.grace_period, Duration::from_secs(7));
    assert_eq!(settings.file.as_deref(), Some(dir.path().join(FILE_NAME).as_path()));
}

#[test]
fn a_misspelt_variable_is_noted_and_those_of_kubernetes_are_not() {
    let names = [
        "COMPAT_PROXY_WORKRES",
        "COMPAT_PROXY_PORT",
        "COMPAT_PROXY_SERVICE_HOST",
        "COMPAT_PROXY_WORKERS",
        "HOME",
    ];
    let notes = load::slips(names.into_iter());
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("did you mean `COMPAT_PROXY_WORKERS`?"), "{notes:?}");
}

#[test]
fn host_names_are_looked_up_when_asked_and_a_failure_names_the_source() {
    // No label may have 64 bytes, so this fails without asking a server.
    let upstream = format!("--upstream={}:80", "x".repeat(64));
    let settings = flags(&["--listen=localhost:80", &upstream]).good();
    assert_eq!(settings.resolved_listen().unwrap()[0].to_string(), "127.0.0.1:80");
    let said = settings.resolved_upstream().unwrap_err().to_string();
    assert!(said.starts_with("--upstream: no address for the host in `xxx"), "{said}");
}
