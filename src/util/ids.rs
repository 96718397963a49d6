//! The id seam: the only source of randomness for the engine and the state.

use rand::Rng as _;

/// Makes identifiers and random bytes.
pub trait Ids: Send + Sync {
    /// Fills `bytes` with randomness fit for keys and nonces.
    fn fill(&self, bytes: &mut [u8]);

    /// A short sortable identifier (ULID, 26 characters) for the moment `now`.
    fn ulid(&self, now: jiff::Timestamp) -> String {
        let mut random = [0_u8; 16];
        self.fill(&mut random);
        let millisecond = u64::try_from(now.as_millisecond()).unwrap_or(0);
        ulid::Ulid::from_parts(millisecond, u128::from_le_bytes(random)).to_string()
    }
}

/// The randomness of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}
