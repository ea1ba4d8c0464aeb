//! The command line: commands, their words, and what clap refuses.

use super::super::key::Key;
use super::*;

fn read(words: &[&str]) -> Result<Command, clap::Error> {
    Cli::read(std::iter::once("compat-proxy").chain(words.iter().copied()))
}

fn values(command: &Command, key: &Key) -> Vec<String> {
    command.options().and_then(|options| options.get(key)).map(<[String]>::to_vec).unwrap_or_default()
}

#[test]
fn no_command_is_run_in_the_current_directory() {
    assert!(matches!(read(&[]), Ok(Command::Run { app_dir, .. }) if app_dir == Path::new(".")));
    assert!(matches!(read(&["app"]), Ok(Command::Run { app_dir, .. }) if app_dir == Path::new("app")));
    assert!(matches!(read(&["run", "app"]), Ok(Command::Run { app_dir, .. }) if app_dir == Path::new("app")));
    assert!(
        matches!(read(&["--", "check"]), Ok(Command::Run { app_dir, .. }) if app_dir == Path::new("check"))
    );
}

#[test]
fn options_may_stand_before_or_after_the_command() {
    for words in [&["--workers", "3", "check", "app"][..], &["check", "app", "--workers=3"]] {
        let command = read(words).unwrap();
        assert!(matches!(&command, Command::Check { app_dir, .. } if app_dir == Path::new("app")));
        assert_eq!(values(&command, &key::WORKERS_KEY), ["3"]);
    }
    let both = read(&["--workers=3", "--h2c", "run", "--workers=4"]).unwrap();
    assert_eq!(values(&both, &key::WORKERS_KEY), ["4"]);
    assert_eq!(values(&both, &key::H2C), ["on"]);
}

#[test]
fn a_directory_before_the_command_is_a_usage_error_that_says_where_it_goes() {
    let error = read(&["app", "check"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("APP_DIR goes after the command; move `app` there"), "{error}");
}

#[test]
fn a_switch_takes_its_value_only_after_an_equals_sign() {
    assert!(
        matches!(read(&["--h2c", "app"]), Ok(Command::Run { app_dir, .. }) if app_dir == Path::new("app"))
    );
    assert_eq!(values(&read(&["--h2c=off"]).unwrap(), &key::H2C), ["off"]);
}

#[test]
fn usage_errors_exit_2_and_help_exits_0() {
    for words in [
        &["--nonsense"][..],
        &["--workers"],
        &["--workers=1", "--workers=2"],
        &["a", "b"],
        &["explain"],
        &["completions", "tcsh"],
    ] {
        assert_eq!(read(words).unwrap_err().exit_code(), 2, "{words:?}");
    }
    for words in [&["--help"][..], &["--version"], &["help", "check"], &["explain", "--help"]] {
        assert_eq!(read(words).unwrap_err().exit_code(), 0, "{words:?}");
    }
}

#[test]
fn a_value_that_is_wrong_is_not_a_usage_error() {
    assert_eq!(values(&read(&["--queue-depth", "-3"]).unwrap(), &key::QUEUE_DEPTH), ["-3"]);
    assert_eq!(values(&read(&["--log-level", "loud"]).unwrap(), &key::LOG_LEVEL), ["loud"]);
}

#[test]
fn every_command_of_the_contract_is_there() {
    let command = whole_command();
    let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    assert_eq!(names.len(), 8);
    for name in ["run", "check", "explain", "routes", "healthcheck", "export", "install", "completions"] {
        assert!(names.contains(&name), "{name}");
    }
    whole_command().debug_assert();
}

#[test]
fn the_options_of_each_command_are_read() {
    let check = read(&["check", "--format", "json", "--deny-warnings"]).unwrap();
    assert!(matches!(check, Command::Check { format: Format::Json, deny_warnings: true, .. }));
    let explain =
        read(&["explain", "--method=POST", "--https", "--json", "/a", "--app-yaml", "b.yaml"]).unwrap();
    assert_eq!(values(&explain, &key::APP_YAML), ["b.yaml"]);
    assert!(matches!(explain, Command::Explain { method, https: true, json: true, .. } if method == "POST"));
    assert!(matches!(read(&["routes", "--json", "x"]), Ok(Command::Routes { json: true, .. })));
    assert_eq!(values(&read(&["healthcheck", "--admin", "1.2.3.4:5"]).unwrap(), &key::ADMIN), ["1.2.3.4:5"]);
}

#[test]
fn a_word_that_is_no_command_is_told_the_nearest_one() {
    let error = Cli::unknown_word(Path::new("chekc"));
    assert_eq!(error.exit_code(), 2);
    assert!(
        error
            .to_string()
            .contains("`chekc` is neither a command nor a directory; did you mean `compat-proxy check`?")
    );
    let error = Cli::unknown_word(Path::new("frobnicate"));
    assert!(error.to_string().contains("`frobnicate` is neither a command nor a directory\n"), "{error}");
}

#[test]
fn explain_tells_the_directory_from_the_urls() {
    let split = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Cli::split_targets(&words, |path| path == Path::new("/srv/app"))
    };
    let dir = |dir: &str, urls: &[&str]| {
        (PathBuf::from(dir), urls.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(split(&["/a"]).unwrap(), dir(".", &["/a"]));
    assert_eq!(split(&["/", "/home"]).unwrap(), dir(".", &["/", "/home"]));
    assert_eq!(split(&["app", "/a", "https://h/b"]).unwrap(), dir("app", &["/a", "https://h/b"]));
    assert_eq!(split(&["/srv/app", "/a"]).unwrap(), dir("/srv/app", &["/a"]));
    assert_eq!(split(&["/srv/app"]).unwrap(), dir(".", &["/srv/app"]));
    let error = split(&["app"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("`app` is not a URL"), "{error}");
}

#[test]
fn help_says_default_and_variable_of_every_option() {
    let help = whole_command().term_width(0).render_long_help().to_string();
    for key in KEYS {
        let line =
            help.lines().find(|line| line.trim_start().starts_with(&format!("--{}", key.name))).unwrap();
        let next = help.lines().skip_while(|other| *other != line).nth(1).unwrap_or_default();
        let said = format!("{line}{next}");
        assert!(said.contains(&key.env()), "{}: {said}", key.name);
        assert!(key.default.is_empty() || said.contains("[default: "), "{}: {said}", key.name);
    }
    for heading in
        ["Application:", "Listening:", "Workers:", "Requests:", "Stopping:", "Static files:", "Logging:"]
    {
        assert!(help.contains(heading), "{heading}");
    }
}

#[test]
fn completions_know_the_commands_the_options_and_their_words() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let script = String::from_utf8(completions(shell)).unwrap();
        for word in ["healthcheck", "queue-depth", "enforce"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}
