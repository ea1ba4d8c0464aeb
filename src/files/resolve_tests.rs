//! What can be reached beneath a root, by either resolver.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use rustix::fs::{CWD, RenameFlags, mknodat, renameat_with};
use tempfile::TempDir;

use super::*;

const RESOLVERS: [Resolver; 2] = [Resolver::Kernel, Resolver::Walk];

/// A folder with an application root in it and a secret beside it.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(TempDir::new().unwrap());
        for dir in ["app/a/b", "outside/b"] {
            fs::create_dir_all(tree.0.path().join(dir)).unwrap();
        }
        for name in ["app.yaml", "a/x", "a/b/y"] {
            tree.write(name, "inside");
        }
        fs::write(tree.0.path().join("outside/x"), "secret").unwrap();
        fs::write(tree.0.path().join("outside/b/y"), "secret").unwrap();
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("app").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn link(&self, name: &str, target: &str) {
        symlink(target, self.path(name)).unwrap();
    }

    fn root(&self, resolver: Resolver) -> Root {
        Root::open(&self.path(""), &[PathBuf::from("app.yaml")]).unwrap().with(resolver)
    }

    /// What both resolvers say of each name: `ok` or the rule.
    #[track_caller]
    fn check(&self, expected: &[(&str, &str)]) {
        for resolver in RESOLVERS {
            let root = self.root(resolver);
            let told: Vec<_> = expected.iter().map(|(name, _)| (*name, verdict(&root, name))).collect();
            assert_eq!(told, expected, "{resolver:?}");
        }
    }
}

fn verdict(root: &Root, name: &str) -> &'static str {
    match root.read(name).map_err(Unopened::absent) {
        Ok((file, stamp)) => {
            let mut text = String::new();
            File::from(file).read_to_string(&mut text).unwrap();
            assert_eq!((text.as_str(), stamp.size), ("inside", 6), "{name}");
            "ok"
        }
        Err(Absent::Missing(rule)) => rule,
        Err(Absent::Forbidden) => "forbidden",
        Err(Absent::Unknown) => "unknown",
    }
}

#[test]
fn the_kernel_s_own_resolver_is_used_where_it_is_there() {
    let tree = Tree::new();
    let root = Root::open(&tree.path(""), &[]).unwrap();
    let there = beneath(&root.fd, ".", PLACE).is_ok();
    assert_eq!(root.mode == Resolver::Kernel, there);
}

#[test]
fn files_are_found_and_directories_are_not() {
    Tree::new().check(&[
        ("a/x", "ok"),
        ("a/b/y", "ok"),
        ("a", "R-DIR404"),
        ("a/b", "R-DIR404"),
        ("a/none", "R-MISSING"),
        ("none/x", "R-MISSING"),
        ("a/x/y", "R-MISSING"),
    ]);
}

#[test]
fn unclean_paths_find_nothing_even_if_asked_for() {
    Tree::new().check(&[
        ("", "R-CLEANPATH"),
        ("/a/x", "R-CLEANPATH"),
        ("a//x", "R-CLEANPATH"),
        ("a/x/", "R-CLEANPATH"),
        ("./a/x", "R-CLEANPATH"),
        ("a/../a/x", "R-CLEANPATH"),
        ("../outside/x", "R-CLEANPATH"),
        ("a\\x", "R-CLEANPATH"),
        ("a/x\0", "R-CLEANPATH"),
        ("a/x\n", "R-CLEANPATH"),
    ]);
}

#[test]
fn overlong_names_are_just_missing() {
    let (name, path) = ("n".repeat(300), "d/".repeat(3000) + "x");
    Tree::new().check(&[(&name, "R-MISSING"), (&path, "R-MISSING")]);
}

#[test]
fn links_that_stay_inside_are_followed() {
    let tree = Tree::new();
    tree.link("to-file", "a/x");
    tree.link("to-dir", "a");
    tree.link("a/up", "../to-dir/./b//y");
    tree.link("a/b/top", "../../a/b/../x");
    // As a mounted ConfigMap is laid out.
    tree.link("..data", "a");
    tree.link("mounted", "..data/x");
    tree.check(&[
        ("to-file", "ok"),
        ("to-dir/x", "ok"),
        ("to-dir", "R-DIR404"),
        ("a/up", "ok"),
        ("a/b/top", "ok"),
        ("mounted", "ok"),
    ]);
}

#[test]
fn links_that_leave_are_missing() {
    let tree = Tree::new();
    tree.link("out", "../outside/x");
    tree.link("out-dir", "../outside");
    tree.link("a/out", "../../outside/x");
    tree.link("absolute", tree.path("a/x").to_str().unwrap());
    tree.link("system", "/etc/passwd");
    tree.link("proc", "/proc/self/root");
    // Out and in again: it would depend on what the root is called.
    tree.link("round", "../app/a/x");
    tree.link("via", "out-dir/b");
    tree.link("circle", "circle");
    tree.check(&[
        ("out", "R-LINK"),
        ("out-dir/x", "R-LINK"),
        ("a/out", "R-LINK"),
        ("absolute", "R-LINK"),
        ("system", "R-LINK"),
        ("proc/etc/passwd", "R-LINK"),
        ("round", "R-LINK"),
        ("via/y", "R-LINK"),
        ("circle", "R-LINK"),
    ]);
    tree.link("dangling", "a/none");
    tree.link("to-root", ".");
    tree.link("to-parent", "a/..");
    tree.check(&[
        ("dangling", "R-MISSING"),
        ("to-root", "R-DIR404"),
        ("to-parent", "R-DIR404"),
        ("to-parent/a/x", "ok"),
    ]);
}

#[test]
fn fifos_sockets_and_devices_are_missing_and_hold_nobody_up() {
    let tree = Tree::new();
    mknodat(CWD, tree.path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    let _socket = UnixListener::bind(tree.path("socket")).unwrap();
    tree.check(&[("fifo", "R-MISSING"), ("socket", "R-MISSING")]);
    // Only root may make one; elsewhere this part has nothing to look at.
    let null = rustix::fs::makedev(1, 3);
    if mknodat(CWD, tree.path("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), null).is_ok() {
        tree.check(&[("null", "R-MISSING")]);
    }
}

#[test]
fn a_file_we_may_not_read_is_forbidden() {
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root may read everything");
        return;
    }
    let tree = Tree::new();
    fs::set_permissions(tree.path("a/x"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(tree.path("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
    tree.check(&[("a/x", "forbidden"), ("a/b/y", "forbidden")]);
}

#[test]
fn the_configuration_is_never_served_under_any_name() {
    let tree = Tree::new();
    tree.link("link", "app.yaml");
    fs::hard_link(tree.path("app.yaml"), tree.path("hard")).unwrap();
    tree.check(&[("app.yaml", "R-CONFIG"), ("link", "R-CONFIG"), ("hard", "R-CONFIG")]);
}

#[test]
fn a_replaced_configuration_is_known_at_once() {
    let tree = Tree::new();
    tree.link("link", "app.yaml");
    for resolver in RESOLVERS {
        let root = tree.root(resolver);
        tree.write("new", "inside");
        assert_eq!(verdict(&root, "new"), "ok");
        fs::rename(tree.path("new"), tree.path("app.yaml")).unwrap();
        assert_eq!(verdict(&root, "link"), "R-CONFIG");
        assert_eq!(root.stat("link"), Err(Unopened::Rule("R-CONFIG")));
    }
}

#[test]
fn a_configuration_that_is_gone_still_has_its_name() {
    let tree = Tree::new();
    fs::remove_file(tree.path("app.yaml")).unwrap();
    tree.check(&[("app.yaml", "R-CONFIG"), ("a/x", "ok")]);
}

/// Swaps two names as fast as it goes while the other thread looks.
fn while_swapping(tree: &Tree, one: &str, other: &str, look: impl Fn()) {
    /// Stops the swapping also when `look` panics.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let (one, other) = (tree.path(one), tree.path(other));
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let _stop = Stop(&stop);
        look();
    });
}

#[test]
fn a_directory_swapped_for_a_link_while_looking_never_leads_outside() {
    let tree = Tree::new();
    tree.link("swap", "../outside");
    tree.link("round", "a/b/../x");
    for resolver in RESOLVERS {
        let root = tree.root(resolver);
        while_swapping(&tree, "a", "swap", || {
            for _ in 0..3_000 {
                // `verdict` insists on what a file holds.
                for name in ["a/x", "a/b/y", "round"] {
                    assert!(["ok", "R-LINK", "R-MISSING"].contains(&verdict(&root, name)));
                }
            }
        });
    }
}

#[test]
fn a_link_to_a_file_as_if_it_were_a_directory_leads_nowhere() {
    let tree = Tree::new();
    for (name, target) in [("slash", "x/"), ("dot", "x/."), ("up", "x/../x"), ("twice", ".//x")] {
        tree.link(&format!("a/{name}"), target);
    }
    for resolver in RESOLVERS {
        let root = tree.root(resolver);
        for (name, expected) in
            [("slash", "R-MISSING"), ("dot", "R-MISSING"), ("up", "R-MISSING"), ("twice", "ok")]
        {
            assert_eq!(verdict(&root, &format!("a/{name}")), expected, "{name}");
        }
    }
}

#[test]
fn a_file_swapped_for_a_link_while_looking_never_leads_outside() {
    let tree = Tree::new();
    tree.link("swap", "../outside/x");
    for resolver in RESOLVERS {
        let root = tree.root(resolver);
        while_swapping(&tree, "a/x", "swap", || {
            for _ in 0..3_000 {
                // The link says something else from `a/`, and nothing good there either.
                assert!(["ok", "R-LINK", "R-MISSING"].contains(&verdict(&root, "a/x")));
                assert!(["ok", "R-LINK", "R-MISSING"].contains(&verdict(&root, "swap")));
            }
        });
    }
}

#[test]
fn a_directory_moved_out_while_looking_never_leads_above_the_root() {
    let tree = Tree::new();
    // Were `..` asked of the kernel after the move, `up` would be `outside/x`.
    tree.link("a/b/up", "../x");
    for resolver in RESOLVERS {
        let root = tree.root(resolver);
        while_swapping(&tree, "a/b", "../outside/b", || {
            for _ in 0..3_000 {
                assert!(["ok", "R-LINK", "R-MISSING"].contains(&verdict(&root, "a/b/up")));
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_links_and_no_path_lead_outside_and_both_resolvers_agree(
        links in prop::collection::vec(
            ("(a/)?[l-n]", prop::collection::vec("(\\.\\.|\\.|a|b|[l-n]|x|y|outside|app)", 1..5), any::<bool>()), 0..5,
        ),
        paths in prop::collection::vec(
            prop::collection::vec("(\\.\\.|a|b|[l-n]|x|y|outside|app\\.yaml)", 1..5), 1..8,
        ),
    ) {
        let tree = Tree::new();
        for (name, target, absolute) in &links {
            let target = if *absolute { tree.path(&target.join("/")) } else { target.join("/").into() };
            let _ = symlink(target, tree.path(name));
        }
        let [kernel, walk] = RESOLVERS.map(|resolver| tree.root(resolver));
        for path in paths {
            let path = path.join("/");
            prop_assert_eq!(verdict(&kernel, &path), verdict(&walk, &path), "{} {:?}", path, links);
        }
    }
}
