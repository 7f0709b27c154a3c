//! Expired and future signatures, archives that are left out or rolled back, and lock files that name what the project does not.

use crate::archive::{Act, Archive, Web, YEAR_2020, YEAR_2024, YEAR_2025, YEAR_2090, plain, world};
use crate::world::World;
use std::fs;

fn lock(world: &World) -> String {
    fs::read_to_string(world.folder.join("stead.lock")).unwrap_or_default()
}

/// Fails the test unless resolving is refused with these words and the lock file stays as it is.
fn refused(world: &World, told: &[&str]) {
    let before = lock(world);
    let ran = world.fails(&["update"]);
    for told in told {
        assert!(ran.err.contains(told), "expected {told:?} in:\n{}", ran.err);
    }
    assert_eq!(lock(world), before, "the lock stands");
}

fn app(archive: &Archive, version: &str) -> String {
    archive.package("app", version, &plain("app", version))
}

#[test]
fn an_expired_key_signs_nothing_that_is_new_and_what_is_locked_stays_usable() {
    let Some((world, archive)) = world("expired-key", "1y") else { return };
    archive.publish("test", &app(&archive, "1"), YEAR_2020);
    refused(&world, &["the signature of", "vendor/dists/test/InRelease", "expired on 2020-12-31"]);
    // The lock is made with a key that does not expire; then the archive is signed with one that has expired.
    let Some((locked, lasting)) = self::world("expired-later", "never") else { return };
    lasting.publish("test", &app(&lasting, "1"), YEAR_2024);
    locked.ok(&["update"]);
    fs::copy(world.folder.join("key.gpg"), locked.folder.join("key.gpg")).unwrap();
    fs::copy(archive.folder.join("dists/test/InRelease"), lasting.folder.join("dists/test/InRelease")).unwrap();
    locked.ok(&["build", "--frozen"]);
    refused(&locked, &["expired on 2020-12-31"]);
}

#[test]
fn signatures_have_their_time() {
    let Some((world, archive)) = world("signature-time", "never") else { return };
    let index = app(&archive, "1");
    let fields = "Suite: test\n";
    archive.publish_as("test", &index, YEAR_2020.0, fields, &["--default-sig-expire", "1m"]);
    refused(&world, &["its signature expired on 2020-"]);
    archive.publish_as("test", &index, YEAR_2090.0, fields, &[]);
    refused(&world, &["its signature is dated 2090-06-01", "is in the future"]);
    archive.publish_as("test", &index, "20190101T000000", fields, &[]);
    refused(&world, &["its signature of 2019-01-01", "is older than the key"]);
    archive.publish_as("test", &index, YEAR_2024.0, fields, &[]);
    world.ok(&["update"]);
}

#[test]
fn releases_have_their_time_and_their_suite() {
    let Some((world, archive)) = world("release-time", "never") else { return };
    let index = app(&archive, "1");
    for (fields, told) in [
        ("Suite: test\nValid-Until: when it is over\n", "has an invalid Valid-Until: when it is over"),
        ("Suite: test\nValid-Until: 2090-06-01\n", "has an invalid Valid-Until"),
        ("Suite: test\nValid-Until: Mon, 01 Jun 2020 00:00:00 UTC\n", "was only valid until 2020-06-01"),
        ("Suite: test\nDate: soon\n", "has an invalid Date: soon"),
        ("Suite: test\nDate: Thu, 01 Jun 2090 00:00:00 UTC\n", "is dated 2090-06-01T00:00:00Z, which is in the future"),
        ("Origin: test\n", "does not say which suite it is for"),
        ("Suite: other\n", "is for the suite other, not test"),
    ] {
        archive.publish_as("test", &index, YEAR_2024.0, fields, &[]);
        refused(&world, &[told]);
    }
}

#[test]
fn an_old_release_is_not_played_again() {
    let Some((world, archive)) = world("rollback", "never") else { return };
    let (one, two) = (app(&archive, "1"), app(&archive, "2"));
    archive.publish("test", &one, YEAR_2024);
    let old = fs::read(archive.folder.join("dists/test/InRelease")).unwrap();
    archive.publish("test", &format!("{one}{two}"), YEAR_2025);
    assert!(world.ok(&["update"]).contains("+ app 2"));
    assert!(world.ok(&["update"]).contains("nothing moved"), "the same date is no step back");
    fs::write(archive.folder.join("dists/test/InRelease"), old).unwrap();
    fs::write(archive.folder.join("dists/test/main/binary-amd64/Packages"), &one).unwrap();
    let dates = ["2024-06-01T00:00:00Z", "2025-06-01T00:00:00Z", "stead update --allow-downgrade"];
    refused(&world, &dates);
    // A changed project is resolved again, also by `build` and `up`.
    world.edit("package \"app\"", "package \"app\"; recommends #true");
    let ran = world.fails(&["build"]);
    assert!(dates.iter().all(|told| ran.err.contains(told)), "{}", ran.err);
    // A release without a date does not count as newer.
    archive.publish_as("test", &one, YEAR_2025.0, "Suite: test\n", &[]);
    refused(&world, &["has no date", "2025-06-01T00:00:00Z"]);
    // The date is good, but the version is older.
    world.edit("; recommends #true", "");
    archive.publish("test", &one, YEAR_2025);
    refused(&world, &["app 2 → 1", "stead update --allow-downgrade"]);
    let ran = world.run(&["update", "--allow-downgrade"]);
    assert!(ran.code == 0 && ran.out.contains("~ app 2 → 1") && ran.err.contains("app 2 → 1"), "{ran:?}");
}

#[test]
fn the_security_archive_is_not_left_out() {
    let Some((world, archive)) = world("left-out", "never") else { return };
    archive.publish("test", &app(&archive, "1"), YEAR_2024);
    archive.publish("test-security", &app(&archive, "2"), YEAR_2024);
    let security = archive.folder.join("dists/test-security");
    let first = world.run(&["update"]);
    assert!(first.code == 0 && lock(&world).contains("app=2"), "{first:?}");
    // The security archive is gone, in every way in which something can be gone.
    fs::rename(&security, security.with_extension("away")).unwrap();
    refused(&world, &["\"test-security\"", "stead.lock was made with it", "stead update --allow-downgrade"]);
    assert!(
        first.err.contains("\"test-updates\"") && !first.err.contains("\"test-security\""),
        "what is missing is told: {}",
        first.err
    );
    fs::rename(security.with_extension("away"), &security).unwrap();
    let status = std::sync::Arc::new(std::sync::atomic::AtomicU16::new(200));
    let (asked, folder) = (status.clone(), archive.folder.clone());
    let web = Web::new(move |path| match asked.load(std::sync::atomic::Ordering::Relaxed) {
        200 => Act::File(folder.clone()),
        status if path.contains("-security") => Act::Status(status),
        _ => Act::File(folder.clone()),
    });
    world.edit("mirror \"vendor\"", &format!("mirror \"{}\"", web.address));
    assert!(world.ok(&["update"]).contains("nothing moved"));
    for code in [404, 403, 410, 500] {
        status.store(code, std::sync::atomic::Ordering::Relaxed);
        refused(&world, &["\"test-security\"", "stead.lock was made with it"]);
    }
    // A changed step is resolved with the same checks.
    world.edit("package \"app\"", "package \"app\"; recommends #true");
    assert!(world.fails(&["build"]).err.contains("\"test-security\""));
    let ran = world.run(&["update", "--allow-downgrade"]);
    assert!(ran.code == 0 && ran.err.contains("\"test-security\"") && ran.out.contains("~ app 2 → 1"), "{ran:?}");
}

#[test]
fn a_component_of_the_security_archive_is_not_left_out() {
    let Some((world, archive)) = world("left-out-component", "never") else { return };
    archive.publish("test", &app(&archive, "1"), YEAR_2024);
    archive.publish("test-security", &app(&archive, "2"), YEAR_2024);
    world.ok(&["update"]);
    // The release is there, signed and recent, but it no longer names the index.
    archive.publish_as("test-security", "", YEAR_2025.0, &format!("Suite: test-security\nDate: {}\nX-", YEAR_2025.1), &[]);
    refused(&world, &["\"test-security/main\"", "stead.lock was made with it"]);
}

/// Changes the package's line in the lock file, and returns its line number.
fn poison(world: &World, change: impl Fn(&str) -> String) -> usize {
    let text = lock(world);
    let at = text.lines().position(|line| line.trim().starts_with("package ")).unwrap();
    let lines: Vec<String> =
        text.lines().enumerate().map(|(index, line)| if index == at { change(line) } else { line.to_owned() }).collect();
    world.write("stead.lock", &(lines.join("\n") + "\n"));
    at + 1
}

#[test]
fn a_lock_does_not_say_whose_packages_are_installed() {
    let Some((world, archive)) = world("poisoned-lock", "never") else { return };
    archive.publish("test", &app(&archive, "1"), YEAR_2024);
    world.ok(&["update"]);
    let good = lock(&world);
    // Unsigned bytes, at a place that only the lock file names.
    let evil = archive.beside("evil");
    let bytes = plain("app", "evil");
    evil.package("app", "1", &bytes);
    let (sha256, size) = (stead::tested::model::Digest::of(&bytes).hex(), bytes.len());
    let replaced = |more: &str, path: &str| {
        format!("    package \"app\" version=\"1\" architecture=\"all\" sha256=\"{sha256}\" size={size} path=\"{path}\"{more}")
    };
    let line = poison(&world, |_| replaced(" repository=\"evil\"", "pool/app_1_all.deb"));
    for command in [&["build"][..], &["build", "--frozen"], &["up"], &["plan"], &["update", "--check"]] {
        let ran = world.fails(command);
        assert!(ran.err.contains(&format!("stead.lock:{line}: app=1 comes from evil")), "{command:?}: {}", ran.err);
    }
    // A path that leads there is refused, too.
    let absolute = evil.folder.join("pool/app_1_all.deb").display().to_string();
    for path in ["../evil/pool/app_1_all.deb", &absolute, "pool//app_1_all.deb"] {
        world.write("stead.lock", &good);
        let line = poison(&world, |_| replaced("", path));
        let ran = world.fails(&["build", "--frozen"]);
        assert!(ran.err.contains(&format!("stead.lock:{line}: the path")), "{path}: {}", ran.err);
    }
    // The place is the archive's own, but the digest is not: the file there does not match, so it cannot be installed.
    world.write("stead.lock", &good);
    poison(&world, |_| replaced("", "pool/app_1_all.deb"));
    assert!(world.fails(&["build", "--frozen"]).err.contains("is not what the lock says"));
    world.ok(&["update"]);
    assert_eq!(lock(&world), good);
    world.ok(&["build", "--frozen"]);
}

#[test]
fn a_lock_is_checked_against_its_signed_indexes() {
    let Some((world, archive)) = world("checked-lock", "never") else { return };
    archive.publish("test", &app(&archive, "1"), YEAR_2024);
    world.ok(&["update"]);
    let good = lock(&world);
    let ran = world.run(&["update", "--check"]);
    assert!(ran.code == 0 && ran.out.contains("1 package matches its signed index"), "{ran:?}");
    // Somebody put other bytes into the pool, and wrote their digest into the lock file.
    let bytes = plain("app", "evil");
    archive.package("app", "1", &bytes);
    let (sha256, size) = (stead::tested::model::Digest::of(&bytes).hex(), bytes.len());
    poison(&world, |_| {
        format!(
            "    package \"app\" version=\"1\" architecture=\"all\" sha256=\"{sha256}\" size={size} path=\"pool/app_1_all.deb\""
        )
    });
    let poisoned = lock(&world);
    let ran = world.run(&["update", "--check"]);
    assert!(ran.code == 1 && ran.err.contains("app=1 of \"test\" is not in the signed indexes"), "{ran:?}");
    assert_eq!(lock(&world), poisoned, "a check writes nothing");
    // The lock names an index that the release does not list.
    let other = stead::tested::model::Digest::of("other").hex();
    let packages = good.split("packages=\"").nth(1).unwrap().split('"').next().unwrap();
    world.write("stead.lock", &good.replace(packages, &other));
    let ran = world.run(&["update", "--check"]);
    assert!(ran.code == 1 && ran.err.contains("lists another index of main"), "{ran:?}");
    // Without its release, a package cannot be verified, and `update --check` says so.
    let release = good.split("release=\"").nth(1).unwrap().split('"').next().unwrap();
    world.write("stead.lock", &good.replace(release, &other));
    let ran = world.run(&["update", "--check"]);
    assert!(ran.err.contains("app=1 of \"test\" is not verified against its index"), "{ran:?}");
    // The release that was signed when the lock was made still verifies it: it is kept here, although the archive has moved on.
    world.write("stead.lock", &good);
    let mut index = app(&archive, "1");
    index.push_str(&app(&archive, "2"));
    archive.publish("test", &index, YEAR_2025);
    let ran = world.run(&["update", "--check"]);
    assert!(
        ran.code == 1 && ran.out.contains("1 package matches its signed index") && ran.out.contains("~ app 1 → 2"),
        "{ran:?}"
    );
    assert_eq!(lock(&world), good);
}
