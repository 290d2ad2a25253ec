//! What the kernel does with a device or file: mounted, swapped to, stacked on.
//!
//! All of it is read from /proc and /sys. The kernel's own exclusive claim
//! (`O_EXCL`) is asked for by the opener; this says *why* it is refused, and
//! finds what that claim does not cover.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the kernel is asked. Tests point it elsewhere.
pub(crate) struct System {
    proc: PathBuf,
    sys: PathBuf,
}

/// A device number.
type Number = (u32, u32);

impl System {
    /// The running system.
    pub(crate) fn live() -> Self {
        Self::of(Path::new("/proc"), Path::new("/sys"))
    }

    /// One whose /proc and /sys lie elsewhere.
    pub(crate) fn of(proc: &Path, sys: &Path) -> Self {
        Self { proc: proc.into(), sys: sys.into() }
    }

    /// Who uses a block device or one of its partitions, in words; none when
    /// nobody does. Files of /proc and /sys that are missing count as silent.
    pub(crate) fn device_user(&self, number: Number) -> Option<String> {
        let mut numbers = vec![(number, String::new())];
        for (name, partition) in self.partitions(number) {
            numbers.push((partition, format!(" (through its partition {name})")));
        }
        for (number, through) in numbers {
            let user = self
                .mount_of(number)
                .or_else(|| self.swap_on(|path| device_number(path) == Some(number)))
                .or_else(|| self.holder_of(number));
            if let Some(user) = user {
                return Some(user + &through);
            }
        }
        None
    }

    /// Who uses a regular file as if it were a device, in words.
    pub(crate) fn file_user(&self, path: &Path) -> Option<String> {
        let own = fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
        let same = |other: &Path| {
            own.is_some() && fs::metadata(other).ok().map(|m| (m.dev(), m.ino())) == own
        };
        self.swap_on(same).or_else(|| self.loop_over(same))
    }

    fn device_dir(&self, (major, minor): Number) -> PathBuf {
        self.sys.join(format!("dev/block/{major}:{minor}"))
    }

    fn partitions(&self, number: Number) -> Vec<(String, Number)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.device_dir(number)).into_iter().flatten().flatten() {
            let dir = entry.path();
            if !dir.join("partition").exists() {
                continue;
            }
            let text = fs::read_to_string(dir.join("dev")).unwrap_or_default();
            if let Some(number) = parse_number(text.trim()) {
                found.push((entry.file_name().to_string_lossy().into_owned(), number));
            }
        }
        found
    }

    fn mount_of(&self, number: Number) -> Option<String> {
        let text = read_lossy(&self.proc.join("self/mountinfo")).ok()?;
        for line in text.lines() {
            let mut words = line.split(' ');
            if words.nth(2).and_then(parse_number) == Some(number) {
                return Some(format!("it is mounted on {}", words.nth(1).unwrap_or("?")));
            }
        }
        // A file system may show an anonymous number (btrfs does) and name the
        // device after the dash only.
        for line in text.lines() {
            let Some((place, kind)) = line.split_once(" - ") else { continue };
            let device = kind.split(' ').nth(1).unwrap_or_default();
            if device.starts_with('/') && device_number(Path::new(device)) == Some(number) {
                let on = place.split(' ').nth(4).unwrap_or("?");
                return Some(format!("it is mounted on {on}"));
            }
        }
        None
    }

    fn swap_on(&self, same: impl Fn(&Path) -> bool) -> Option<String> {
        let text = read_lossy(&self.proc.join("swaps")).ok()?;
        let used = text
            .lines()
            .skip(1)
            .filter_map(|line| line.split_ascii_whitespace().next())
            .any(|path| same(Path::new(&unescape(path))));
        used.then(|| "the system swaps to it".to_owned())
    }

    fn holder_of(&self, number: Number) -> Option<String> {
        let dir = self.device_dir(number).join("holders");
        let holder = fs::read_dir(dir).ok()?.flatten().next()?;
        Some(format!("the device {} is built on it", holder.file_name().to_string_lossy()))
    }

    fn loop_over(&self, same: impl Fn(&Path) -> bool) -> Option<String> {
        for entry in fs::read_dir(self.sys.join("block")).ok()?.flatten() {
            let Ok(path) = read_lossy(&entry.path().join("loop/backing_file")) else { continue };
            if same(Path::new(path.trim_end_matches('\n'))) {
                return Some(format!(
                    "it is attached to the loop device {}",
                    entry.file_name().to_string_lossy()
                ));
            }
        }
        None
    }
}

fn read_lossy(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

/// `8:1`.
pub(crate) fn parse_number(text: &str) -> Option<Number> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn device_number(path: &Path) -> Option<Number> {
    use std::os::unix::fs::FileTypeExt;
    let meta = fs::metadata(path).ok().filter(|m| m.file_type().is_block_device())?;
    Some((rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev())))
}

/// Undoes the octal escapes of /proc (space, tab, newline, backslash).
fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (escape, byte) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(escape, byte);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up /proc and /sys in a directory of its own.
    struct Fake {
        root: PathBuf,
        system: System,
    }

    impl Fake {
        fn new(name: &str) -> Self {
            let root =
                std::env::temp_dir().join(format!("freehold-system-{}-{name}", std::process::id()));
            let fake =
                Self { system: System { proc: root.join("proc"), sys: root.join("sys") }, root };
            fake.put("proc/swaps", "Filename Type Size Used Priority\n");
            fake.put("proc/self/mountinfo", "20 1 0:20 / /proc rw - proc proc rw\n");
            fake
        }

        fn put(&self, path: &str, text: &str) -> PathBuf {
            let path = self.root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    #[test]
    fn a_device_nobody_uses_is_free() {
        let fake = Fake::new("free");
        assert_eq!(fake.system.device_user((8, 0)), None);
    }

    #[test]
    fn a_mounted_partition_names_its_mount() {
        let fake = Fake::new("mount");
        fake.put("sys/dev/block/8:0/sda1/partition", "1\n");
        fake.put("sys/dev/block/8:0/sda1/dev", "8:1\n");
        fake.put("proc/self/mountinfo", "27 1 8:1 / /srv/data rw - ext4 /dev/sda1 rw\n");
        let user = fake.system.device_user((8, 0)).unwrap();
        assert!(user.contains("/srv/data") && user.contains("sda1"), "{user}");
        assert_eq!(fake.system.device_user((8, 2)), None);
    }

    #[test]
    fn a_device_under_another_names_it() {
        let fake = Fake::new("holder");
        fake.put("sys/dev/block/8:0/holders/dm-3", "");
        let user = fake.system.device_user((8, 0)).unwrap();
        assert!(user.contains("dm-3"), "{user}");
    }

    #[test]
    fn swap_files_and_loop_files_are_seen() {
        let fake = Fake::new("file");
        let file = fake.put("a file", "x");
        assert_eq!(fake.system.file_user(&file), None);
        let escaped = file.display().to_string().replace(' ', "\\040");
        fake.put("proc/swaps", &format!("Filename Type\n{escaped} file 1 0 -2\n"));
        assert!(fake.system.file_user(&file).unwrap().contains("swap"));
        fake.put("proc/swaps", "Filename Type\n");
        fake.put("sys/block/loop7/loop/backing_file", &format!("{}\n", file.display()));
        assert!(fake.system.file_user(&file).unwrap().contains("loop7"));
    }
}
