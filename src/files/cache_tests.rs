//! What is remembered of a changing folder, for how long, and how much of it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::tests::{MIB, Shop, bytes};
use super::*;

#[tokio::test]
async fn a_change_is_seen_after_a_second_and_the_disk_left_alone_until_then() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.txt", "old");
    assert_eq!(shop.text_at("a.txt", 0).await.unwrap(), "old");
    // Same length, and perhaps the same tick of the file system's clock.
    shop.write("a.txt", "new");
    assert_eq!(shop.text_at("a.txt", 999).await.unwrap(), "old");
    assert_eq!(shop.server.usage().opened, 1);
    assert_eq!(shop.text_at("a.txt", 1_000).await.unwrap(), "new");
    // Replaced by rename, as careful tools do.
    shop.write("b.txt", "gen");
    fs::rename(shop.path("b.txt"), shop.path("a.txt")).unwrap();
    assert_eq!(shop.text_at("a.txt", 2_000).await.unwrap(), "gen");
    fs::remove_file(shop.path("a.txt")).unwrap();
    assert_eq!(shop.text_at("a.txt", 2_999).await.unwrap(), "gen");
    assert_eq!(shop.text_at("a.txt", 3_000).await.unwrap_err(), Absent::Missing("R-MISSING"));
}

#[tokio::test]
async fn a_file_changed_just_now_is_read_again_even_if_its_stamp_is_the_same() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.txt", "text");
    for (now, opened) in [(0, 1), (999, 1), (1_000, 2), (1_001, 2)] {
        assert_eq!(shop.text_at("a.txt", now).await.unwrap(), "text");
        assert_eq!(shop.server.usage().opened, opened);
    }
}

#[tokio::test]
async fn a_settled_file_is_looked_at_once_a_second_and_not_opened_again() {
    let shop = Shop::new(64 * MIB);
    shop.write("a.txt", "text");
    let (file, mut stamp) = shop.server.root.read("a.txt").unwrap();
    let seen = stamp;
    stamp.changed.0 -= 60;
    let mut entry = shop.server.cache.entry("a.txt", file, stamp, [None; 3], 0);
    assert!(entry.settled);
    entry.stamp = seen;
    shop.server.cache.keep("a.txt", &Arc::new(entry));
    for now in [0, 500, 1_000, 1_500, 5_000] {
        assert_eq!(shop.text_at("a.txt", now).await.unwrap(), "text");
    }
    assert_eq!(shop.server.usage().opened, 1);
}

#[tokio::test]
async fn a_file_that_became_a_link_out_is_missing_after_a_second() {
    let (shop, outside) = (Shop::new(64 * MIB), TempDir::new().unwrap());
    shop.write("a.txt", "text");
    fs::write(outside.path().join("secret"), "secret").unwrap();
    assert_eq!(shop.text_at("a.txt", 0).await.unwrap(), "text");
    fs::remove_file(shop.path("a.txt")).unwrap();
    symlink(outside.path().join("secret"), shop.path("a.txt")).unwrap();
    assert_eq!(shop.text_at("a.txt", 1_000).await.unwrap_err(), Absent::Missing("R-LINK"));
}

#[tokio::test]
async fn an_absence_is_believed_for_a_second_and_their_number_is_bounded() {
    let shop = Shop::new(64 * MIB);
    assert_eq!(shop.text_at("a.txt", 0).await.unwrap_err(), Absent::Missing("R-MISSING"));
    shop.write("a.txt", "text");
    assert_eq!(shop.text_at("a.txt", 999).await.unwrap_err(), Absent::Missing("R-MISSING"));
    assert_eq!(shop.text_at("a.txt", 1_000).await.unwrap(), "text");
    for i in 0..5_000 {
        let _ = shop.server.look(&format!("none/{i}"));
    }
    assert!(shop.server.cache.absences() <= 1_024 + 16);
}

#[tokio::test]
async fn the_cache_keeps_to_its_budget_and_a_scan_does_not_flush_what_is_wanted() {
    let shop = Shop::new(4 * MIB);
    for i in 0..400 {
        shop.write(&format!("{i}"), vec![b'x'; 40 * 1024]);
    }
    for i in 0..400 {
        for name in ["0", "1", "2"] {
            shop.get(name, &[]).await;
        }
        shop.get(&format!("{i}"), &[]).await;
        assert!(shop.server.usage().bytes <= 4 * MIB, "{:?}", shop.server.usage());
    }
    assert!(shop.server.usage().bytes > MIB);
    // 400 for the scan, and hardly one more for the three.
    assert!(shop.server.usage().opened <= 410, "{:?}", shop.server.usage());
}

#[test]
fn a_scan_of_ten_times_the_cache_leaves_there_what_was_asked_for_before() {
    // From the smallest files to the largest that are held, and those of which only a descriptor is.
    for (budget, size) in
        [(MIB, 100), (4 * MIB, 40 * 1024), (4 * MIB, 64 * 1024), (64 * MIB, MIB), (64 * MIB, 2 * MIB)]
    {
        let shop = Shop::new(budget);
        let make = |name: &str| {
            shop.write(name, "");
            File::options().write(true).open(shop.path(name)).unwrap().set_len(size).unwrap();
        };
        let wanted: Vec<String> = (0..8).map(|i| format!("wanted/{i}")).collect();
        wanted.iter().for_each(|name| make(name));
        for name in wanted.iter().cycle().take(24) {
            shop.server.look_at(name, 0).unwrap();
        }
        let counted = if size > MIB { budget / 256 } else { size } + 4_096;
        for i in 0..10 * budget / counted {
            make("scanned");
            fs::rename(shop.path("scanned"), shop.path(&format!("{i}"))).unwrap();
            shop.server.look_at(&format!("{i}"), 0).unwrap();
            fs::remove_file(shop.path(&format!("{i}"))).unwrap();
        }
        let still = wanted.iter().filter(|name| matches!(shop.server.cache.get(name, 0), Found::Fresh(_)));
        assert_eq!(still.count(), wanted.len(), "of {size} bytes in a cache of {budget}");
    }
}

#[test]
fn descriptors_held_open_are_few() {
    let shop = Shop::new(64 * MIB);
    for i in 0..600 {
        shop.write(&format!("{i}"), "");
        let file = File::options().write(true).open(shop.path(&format!("{i}"))).unwrap();
        file.set_len(2 * MIB).unwrap();
        shop.server.look(&format!("{i}")).unwrap();
    }
    let kept = shop.server.usage().entries;
    assert!((100..=256).contains(&kept), "{kept}");
}

#[tokio::test]
async fn without_a_cache_files_are_served_all_the_same() {
    let shop = Shop::new(0);
    for (name, length) in [("none", 0), ("small", 100), ("big", 300_000)] {
        let content = vec![b'x'; length];
        shop.write(name, &content);
        for _ in 0..2 {
            assert_eq!(bytes(shop.get(name, &[]).await.body).await.unwrap(), content);
        }
    }
    assert_eq!(shop.server.usage(), Usage { entries: 0, bytes: 0, opened: 6 });
}
