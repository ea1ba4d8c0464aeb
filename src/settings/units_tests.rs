//! Durations, sizes, numbers and words: their forms and their ranges.

use super::super::words::{AccessLog, LogLevel};
use super::*;
use proptest::prelude::*;

#[test]
fn a_duration_without_a_unit_is_told_to_add_one() {
    let parse = duration(0..=3_600_000);
    assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(parse("1m 30s"), Ok(Duration::from_secs(90)));
    assert_eq!(parse("0s"), Ok(Duration::ZERO));
    assert_eq!(
        parse("10").unwrap_err(),
        "`10` has no unit; write `10s` for seconds or `10ms` for milliseconds"
    );
    assert!(parse("1.5").unwrap_err().contains("has no unit"));
    for text in ["", "ten", "10 parsecs", "-5s", "5s5"] {
        assert!(parse(text).unwrap_err().contains("not a duration"), "{text}");
    }
}

#[test]
fn a_duration_out_of_range_is_told_the_range_in_units() {
    let parse = duration(100..=3_600_000);
    assert_eq!(parse("99ms").unwrap_err(), "`99ms` is out of range; write something from 100ms to 1h");
    assert!(parse("2h").is_err());
}

#[test]
fn sizes_count_by_1024_with_an_i_and_by_1000_without() {
    let parse = size(0..=u64::MAX);
    for (text, bytes) in
        [("64KiB", 65_536), ("64KB", 64_000), ("64k", 64_000), ("32 MiB", 33_554_432), ("7", 7), ("0B", 0)]
    {
        assert_eq!(parse(text), Ok(ByteSize(bytes)), "{text}");
    }
    for text in ["", "MiB", "1 apple", "-1MiB"] {
        assert!(parse(text).unwrap_err().contains("not a size"), "{text}");
    }
    assert_eq!(size(1..=1 << 40)("0").unwrap_err(), "`0` is out of range; write something from 1B to 1TiB");
}

#[test]
fn a_number_too_large_for_its_type_is_out_of_range_like_any_other() {
    let parse = number(1..=65_535_u32);
    assert_eq!(parse("65535"), Ok(65_535));
    for text in ["0", "65536", "99999999999999999999999"] {
        assert_eq!(
            parse(text).unwrap_err(),
            format!("`{text}` is out of range; write a number from 1 to 65535")
        );
    }
    for text in ["", "+1", "1.0", "-1", "x"] {
        assert!(parse(text).unwrap_err().contains("not a whole number"), "{text}");
    }
}

#[test]
fn auto_is_the_usable_cores_within_the_range() {
    assert_eq!(count(3, 512)("auto"), Ok(Count { number: 3, auto: true }));
    assert_eq!(count(0, 512)("auto"), Ok(Count { number: 1, auto: true }));
    assert_eq!(count(1000, 256)("auto"), Ok(Count { number: 256, auto: true }));
    assert_eq!(count(3, 512)("7"), Ok(Count { number: 7, auto: false }));
    assert!(count(3, 512)("Auto").unwrap_err().ends_with("or `auto`"));
}

#[test]
fn a_word_is_one_of_its_set_and_the_message_names_the_set() {
    assert_eq!(word("errors"), Ok(AccessLog::Errors));
    assert_eq!(word("true"), Ok(AccessLog::On));
    assert_eq!(word::<AccessLog>("some").unwrap_err(), "`some` is none of `on`, `off` and `errors`");
    assert_eq!(word::<bool>("maybe").unwrap_err(), "`maybe` is none of `on` and `off`");
    assert_eq!(word("debug"), Ok(LogLevel::Debug));
}

#[test]
fn the_log_format_follows_the_terminal_unless_named() {
    assert_eq!(log_format(true)("auto"), Ok(LogFormat::Text));
    assert_eq!(log_format(false)("auto"), Ok(LogFormat::Json));
    assert_eq!(log_format(true)("gcp"), Ok(LogFormat::Gcp));
}

#[test]
fn a_trusted_network_may_be_one_address() {
    assert_eq!(network("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
    assert_eq!(network("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
    assert_eq!(network("::1").unwrap().to_string(), "::1/128");
    for text in ["", "10.0.0.0/33", "all"] {
        assert!(network(text).is_err(), "{text}");
    }
}

#[test]
fn a_health_path_is_a_request_path() {
    assert!(request_path("/healthz?full=1").is_ok());
    for text in ["", "healthz", "/a b", "/a#b", "/\u{e9}", "/a\r\nX: y", "http://a/"] {
        assert!(request_path(text).is_err(), "{text}");
    }
}

#[test]
fn a_command_has_closed_quotes_and_a_program() {
    assert!(command("gunicorn -b 'unix:{socket}' main:app").is_ok());
    assert!(command("gunicorn 'main").unwrap_err().contains("quote"));
    assert!(command("  ").unwrap_err().contains("no command"));
}

proptest! {
    #[test]
    fn no_text_makes_a_unit_panic(text in "\\PC{0,24}|[0-9]{0,24}[a-zA-Z.]{0,4}") {
        let _ = duration(1..=10_000)(&text);
        let _ = size(1..=10_000)(&text);
        let _ = number(1..=10_u64)(&text);
        let _ = network(&text);
        let _ = request_path(&text);
        let _ = command(&text);
        let _ = super::super::endpoint::listen(&text);
        let _ = super::super::endpoint::upstream(&text);
    }

    #[test]
    fn a_duration_shown_reads_back_as_itself(millis in 0_u64..10_000_000_000) {
        let time = Duration::from_millis(millis);
        prop_assert_eq!(duration(0..=u64::MAX / 2)(&humantime::format_duration(time).to_string()), Ok(time));
    }

    #[test]
    fn a_size_shown_reads_back_as_itself(bytes in any::<u64>()) {
        prop_assert_eq!(size(0..=u64::MAX)(&super::super::show::size(ByteSize(bytes))), Ok(ByteSize(bytes)));
    }
}
