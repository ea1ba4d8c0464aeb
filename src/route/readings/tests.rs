//! Single readings, and what holds for all of them. Whether they are used well is tested with whole decisions.

use proptest::prelude::*;

use super::*;

fn readings(bytes: &[u8]) -> Vec<String> {
    let mut seen = Vec::new();
    let end = each(&String::from_utf8_lossy(bytes), bytes, &mut |reading| {
        seen.push(reading.to_owned());
        ControlFlow::Continue(())
    });
    assert_eq!(end, End::All, "{bytes:?}");
    seen.sort();
    seen
}

fn all(path: &str) -> Vec<String> {
    readings(path.as_bytes())
}

#[track_caller]
fn reads_as(path: impl AsRef<[u8]>, other: &str) {
    let path = path.as_ref();
    assert!(possible(path), "{path:?}");
    let readings = readings(path);
    assert!(readings.iter().any(|reading| reading == other), "{path:?}: {readings:?}");
}

#[test]
fn an_ordinary_path_has_no_other_reading() {
    for path in ["/", "/foo/bar", "/a-b_c.d~e", "/..hidden", "/a b", "/x:y@z,(1)+2"] {
        assert!(!possible(path.as_bytes()), "{path}");
        assert_eq!(all(path), Vec::<String>::new());
    }
}

#[test]
fn every_way_into_admin_is_read_as_admin() {
    reads_as("//admin", "/admin");
    reads_as("/x/..;y/admin", "/admin");
    reads_as("/%61dmin", "/admin");
    reads_as("/%2561dmin", "/admin");
    reads_as("/%u0061dmin", "/admin");
    reads_as("/%U0061dmin", "/admin");
    reads_as("/x\\..\\admin", "/admin");
    reads_as("/admin;a=b", "/admin");
    reads_as("/admin?x", "/admin");
    reads_as("/admin#x", "/admin");
    reads_as("/ad\u{1}min", "/admin");
    reads_as("/admin%00.png", "/admin");
    reads_as("/\u{ff41}dmin", "/admin");
    reads_as("/%ud835%udc1admin", "/admin");
    reads_as("/x%252f..%5c.%5c%2561dmin;q//", "/admin/");
}

#[test]
fn overlong_forms_of_any_length_are_undone() {
    reads_as(b"/admin\xc0\xafx", "/admin/x");
    reads_as(b"/admin\xe0\x80\xafx", "/admin/x");
    reads_as(b"/admin\xf0\x80\x80\xafx", "/admin/x");
    reads_as(b"/admin\xf8\x80\x80\x80\xafx", "/admin/x");
    reads_as(b"/admin\xfc\x80\x80\x80\x80\xafx", "/admin/x");
    reads_as(b"/\xf0\x8f\xbd\x81dmin", "/admin");
    assert_eq!(readings(b"/caf\xe9"), Vec::<String>::new(), "Latin-1 is not overlong");
    assert_eq!(readings("/日本\u{1f600}".as_bytes()), Vec::<String>::new());
    assert_eq!(readings(b"/\xff\xfe\x80\xc0"), Vec::<String>::new());
}

#[test]
fn overlong_forms_that_a_later_decoding_makes_are_undone() {
    reads_as("/%c1%a1dmin", "/admin");
    reads_as("/%25c1%25a1dmin/x", "/admin/x");
    reads_as("/admin%f0%80%80%afx", "/admin/x");
    reads_as("/admin%25f0%2580%2580%25afx", "/admin/x");
    reads_as("/%%c0%b2%35c1%a1dmin", "/admin");
    reads_as("/%u0025c1%u0025a1dmin", "/admin");
    reads_as("/%c1%01%a1dmin", "/admin");
}

#[test]
fn an_overlong_percent_that_makes_another_escape_is_undone() {
    reads_as(b"/j\xc0\xa5c1\xafbs/", "/jobs/");
    reads_as(b"/j\xc0\xa5c1%afbs", "/jobs");
    reads_as(b"/j\xc0\xa5c1\xc0\xa5af%62s/", "/jobs/");
    reads_as(b"/\xe0\x80\xa5u0061dmin", "/admin");
}

#[test]
fn dots_are_removed_after_all_other_steps_as_well_as_between_them() {
    reads_as("/x%5cy/%2e%2e/admin", "/x/admin");
    reads_as("/x%5cy/%2e%2e/admin", "/admin");
    reads_as("/x;/%2e%2e/admin", "/admin");
}

#[test]
fn case_and_trailing_dots_are_not_readings() {
    assert_eq!(all("/Admin."), Vec::<String>::new());
}

#[test]
fn too_many_readings_are_told() {
    let path = format!("/a%{}", "25".repeat(400));
    assert_eq!(each(&path, path.as_bytes(), &mut |_| ControlFlow::Continue(())), End::TooMany);
}

proptest! {
    #[test]
    fn a_path_that_cannot_be_read_otherwise_is_not(path in r"/([ -~\x00-\x1f]|é|ａ|//|%2f){0,12}") {
        let path = without_dots(path.as_bytes());
        if !possible(&path) {
            prop_assert_eq!(readings(&path), Vec::<String>::new());
        }
    }

    #[test]
    fn every_reading_is_a_clean_path(path in r"/(\.|/|%2e|%25|%5c|\\|;|\?|a|％|\x01){0,9}") {
        each(&path, path.as_bytes(), &mut |reading| {
            assert!(reading.starts_with('/') && !has_dots(reading.as_bytes()), "{reading}");
            ControlFlow::Continue(())
        });
    }

    #[test]
    fn any_bytes_end_at_the_bound(path in proptest::collection::vec(any::<u8>(), 0..200)) {
        let path = [b"/", path.as_slice()].concat();
        each(&String::from_utf8_lossy(&path), &path, &mut |_| ControlFlow::Continue(()));
    }
}
