//! The clock seam: the only way for the engine and the state to learn the time or to wait.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

/// Wall time, monotonic time and sleeping.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The wall clock, for records and names of backups. Never used to measure.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;

    /// As [`Clock::monotonic`], and goes on while the machine sleeps, where the system can tell. For leases, which go on too.
    fn since_boot(&self) -> Duration {
        self.monotonic()
    }

    /// Waits for `duration`.
    async fn sleep(&self, duration: Duration);
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }

    #[cfg(unix)]
    fn since_boot(&self) -> Duration {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
        // Elsewhere the monotonic clock of POSIX counts sleep.
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
        Duration::try_from(rustix::time::clock_gettime(CLOCK)).unwrap_or_else(|_| self.monotonic())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
