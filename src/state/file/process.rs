//! Who this process is, and whether another one still lives.

use std::fmt;

use crate::state::LockHolder;

/// What the lock says of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// User name.
    pub owner: String,
    /// Host name.
    pub host: String,
    /// Boot id of the host, and after a space the name space of its process ids where there is such a thing; empty when
    /// the system does not tell.
    pub boot_id: String,
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot; 0 when the system does not tell.
    pub pid_start: u64,
}

impl Process {
    /// This process.
    #[must_use]
    pub fn current() -> Self {
        let pid = std::process::id();
        Self {
            owner: ["USER", "LOGNAME", "USERNAME"]
                .iter()
                .find_map(|name| std::env::var(name).ok())
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "unknown".to_owned()),
            host: host_name(),
            boot_id: boot_id(),
            pid,
            pid_start: start_of(pid).unwrap_or(0),
        }
    }

    /// Whether the holder of a lock lives, as far as this process can tell.
    pub(crate) fn judge(&self, holder: &LockHolder, processes: &dyn Processes) -> Option<bool> {
        if holder.host != self.host {
            return None;
        }
        if holder.boot_id.is_empty() && self.boot_id.is_empty() {
            // A process id that nobody has is dead in any boot; one that somebody has may be another's by now.
            let alive = processes.is_alive(holder.pid, holder.pid_start);
            return alive.filter(|alive| !alive);
        }
        if holder.boot_id.is_empty() || self.boot_id.is_empty() {
            return None;
        }
        let (boot, space) = split_boot_id(&holder.boot_id);
        let (our_boot, our_space) = split_boot_id(&self.boot_id);
        if boot != our_boot {
            return Some(false);
        }
        if space != our_space {
            // A container beside this one: its process ids mean nothing here.
            return None;
        }
        processes.is_alive(holder.pid, holder.pid_start)
    }
}

fn split_boot_id(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

/// Tells whether processes of this host live.
pub trait Processes: Send + Sync {
    /// Whether the process `pid` that started at `start` lives; `None` when that cannot be told.
    fn is_alive(&self, pid: u32, start: u64) -> Option<bool>;
}

/// The processes that the operating system knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemProcesses;

#[cfg(target_os = "linux")]
impl Processes for SystemProcesses {
    fn is_alive(&self, pid: u32, start: u64) -> Option<bool> {
        // No /proc here: say nothing rather than take a living run for dead.
        start_of(std::process::id())?;
        Some(start_of(pid).is_some_and(|other| start == 0 || other == start))
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
impl Processes for SystemProcesses {
    fn is_alive(&self, pid: u32, _start: u64) -> Option<bool> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
        match rustix::process::test_kill_process(pid) {
            Ok(()) | Err(rustix::io::Errno::PERM) => Some(true),
            Err(rustix::io::Errno::SRCH) => Some(false),
            Err(_) => None,
        }
    }
}

#[cfg(not(unix))]
impl Processes for SystemProcesses {
    fn is_alive(&self, _pid: u32, _start: u64) -> Option<bool> {
        None
    }
}

/// The start time of a process, in ticks since boot.
#[cfg(target_os = "linux")]
fn start_of(pid: u32) -> Option<u64> {
    let path = format!("/proc/{pid}/stat");
    start_in(&crate::util::fs::read(std::path::Path::new(&path)).ok()?)
}

#[cfg(not(target_os = "linux"))]
fn start_of(_pid: u32) -> Option<u64> {
    None
}

/// Field 22 of a `stat` file. The second field is the program's name in parentheses and may hold anything. A process that
/// has ended and only waits to be collected counts as gone.
#[cfg(target_os = "linux")]
fn start_in(stat: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(stat);
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(target_os = "linux")]
fn boot_id() -> String {
    use std::path::Path;
    let boot = crate::util::fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"));
    let space = std::fs::read_link("/proc/self/ns/pid");
    match (boot, space) {
        (Ok(boot), Ok(space)) => format!("{} {}", boot.trim(), space.display()),
        (Ok(boot), Err(_)) => boot.trim().to_owned(),
        (Err(_), _) => String::new(),
    }
}

#[cfg(not(target_os = "linux"))]
fn boot_id() -> String {
    // Not to be had without unsafe code or another program; `judge` then goes by the process id alone.
    String::new()
}

#[cfg(unix)]
fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(not(unix))]
fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "unknown".to_owned())
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} (pid {})", self.owner, self.host, self.pid)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_program_name() {
        let fields = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(
            start_in(format!("5 (a) b) S {fields}").as_bytes()),
            Some(4711)
        );
        assert_eq!(start_in(format!("5 (a) Z {fields}").as_bytes()), None);
        assert_eq!(start_in(b"nonsense"), None);
    }

    #[test]
    fn this_process_lives_and_one_of_another_start_time_does_not() {
        let me = Process::current();
        assert!(me.pid_start > 0 && !me.boot_id.is_empty());
        assert_eq!(SystemProcesses.is_alive(me.pid, me.pid_start), Some(true));
        assert_eq!(
            SystemProcesses.is_alive(me.pid, me.pid_start + 1),
            Some(false)
        );
    }
}
