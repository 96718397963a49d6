//! The simulated disk keeps what it says that it keeps, and fails where it was asked to.

use super::*;
use crate::util::clock::SystemClock;

fn disk() -> SimDisk {
    SimDisk::new(Arc::new(SystemClock))
}

#[test]
fn only_what_was_synced_outlives_a_power_failure() {
    let disk = disk();
    let path = Path::new("a/b");
    disk.create_dir_all(Path::new("a")).unwrap();
    disk.write(path, b"one").unwrap();
    disk.sync_file(path).unwrap();
    disk.reboot(Loss::Everything);
    assert!(!disk.exists(path).unwrap(), "its name was not synced");

    disk.create_dir_all(Path::new("a")).unwrap();
    disk.write(path, b"one").unwrap();
    disk.sync_file(path).unwrap();
    disk.sync_dir(Path::new("a")).unwrap();
    disk.reboot(Loss::Everything);
    assert!(!disk.exists(path).unwrap(), "that of its folder was not");

    disk.create_dir_all(Path::new("a")).unwrap();
    disk.write(path, b"one").unwrap();
    disk.sync_file(path).unwrap();
    disk.sync_dir(Path::new("a")).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    disk.open_append(path).unwrap().append(b"two").unwrap();
    disk.reboot(Loss::Everything);
    assert_eq!(disk.read(path).unwrap(), b"one");
}

#[test]
fn faults_strike_where_they_were_asked_to() {
    let disk = disk();
    disk.strike(2, Fault::Short(ErrorKind::StorageFull));
    disk.write(Path::new("a"), b"1234").unwrap();
    let error = disk.write(Path::new("b"), b"1234").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(disk.read(Path::new("b")).unwrap(), b"12");
    disk.strike(1, Fault::CrashAfter);
    assert!(disk.write(Path::new("b"), b"1234").is_err());
    assert!(disk.is_down() && disk.read(Path::new("b")).is_err());
    disk.reboot(Loss::Nothing);
    assert_eq!(disk.read(Path::new("b")).unwrap(), b"1234");
    assert_eq!(disk.trace(), ["write a", "write b", "write b"]);
}

#[test]
fn any_subset_of_what_was_not_synced_can_survive() {
    let before = disk();
    before.write(Path::new("a"), b"old").unwrap();
    before.sync_file(Path::new("a")).unwrap();
    before.sync_dir(Path::new("")).unwrap();
    before.write(Path::new("b"), b"new").unwrap();
    before.rename(Path::new("b"), Path::new("a")).unwrap();
    // The name `b`, the rename, the content.
    assert_eq!(before.unsynced(), 3);
    let after = |kept: u64| {
        let disk = before.fork();
        disk.reboot(Loss::Subset(kept));
        let read = |name: &str| disk.read(Path::new(name)).ok();
        (read("a"), read("b"))
    };
    let file = |bytes: &[u8]| Some(bytes.to_vec());
    assert_eq!(after(0b000), (file(b"old"), None));
    assert_eq!(after(0b001), (file(b"old"), file(b"")));
    assert_eq!(
        after(0b010),
        (file(b""), None),
        "renamed before it was whole"
    );
    assert_eq!(after(0b101), (file(b"old"), file(b"new")));
    assert_eq!(after(0b111), (file(b"new"), None));
    assert_eq!(before.unsynced(), 3, "a fork goes its own way");
}
