//! The journal's bytes: an append-only redo log, and how a tear at its end is told from damage.
//!
//! ```text
//! file   = magic (8 bytes) frame(header) frame(entry)*
//! frame  = length u32 | epoch u64 | batch u32 | left u32 | kind u8 | CRC32 of these 21 bytes | payload | CRC32 of it
//! ```
//!
//! Numbers are little-endian, payloads JSON. A *batch* is what was written in one go and synced before the next began; `left`
//! counts the frames of the batch that follow. A crash can therefore only tear the last batch. A frame is torn when the file
//! ends within it or when a sector's part of it is zero (allocated, never written); a frame that is complete and fails its
//! checksum was changed after it was written, and that is damage, at the end as well as in the middle. Zeros are a sign only
//! where they are many, as a changed bit can make one: so spaces after the JSON keep the end of every frame away from the
//! edges of sectors, and no frame has less than [`SHORTEST_HOLE`] bytes in any.

use serde::{Deserialize, Serialize};

use crate::state::{
    JournalEntry, StateError,
    migrate::{self, Role, Unreadable, Versioned},
    record::FORMAT,
};

const MAGIC: &[u8; 8] = b"ALCHWAL\n";
const HEAD: usize = 25;
const CRC: usize = 4;
const SECTOR: usize = 512;
/// A run of zeros shorter than this is not taken for an unwritten sector.
const SHORTEST_HOLE: usize = 8;

const KIND_HEADER: u8 = 0;
const KIND_ENTRY: u8 = 1;

/// What a journal belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JournalHeader {
    /// Format version.
    pub(crate) format: u32,
    /// That of the application.
    pub(crate) lineage: String,
    /// The checkpoint that the entries come after.
    pub(crate) serial: u64,
    /// The epoch that made the file.
    pub(crate) epoch: u64,
}

impl Versioned for JournalHeader {
    const ROLE: Role = Role::Journal;
}

#[derive(Deserialize)]
struct Stated {
    format: u32,
}

/// A journal that was read.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) header: JournalHeader,
    /// The format that it was written in.
    pub(crate) format: u32,
    pub(crate) entries: Vec<JournalEntry>,
    /// The highest epoch that wrote.
    pub(crate) epoch: u64,
    /// The number of the last batch.
    pub(crate) batch: u32,
    /// Bytes up to the end of the last whole frame; what follows is a tear.
    pub(crate) good_length: usize,
}

/// Why a journal cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JournalError {
    /// Damaged, with what is wrong.
    Damaged(String),
    /// Written by a newer program.
    TooNew(u32),
}

impl JournalError {
    fn of(error: Unreadable, what: impl FnOnce() -> String) -> Self {
        match error {
            Unreadable::TooNew(found) => Self::TooNew(found),
            Unreadable::Wrong(problem) => damaged(format!("{}: {problem}", what())),
        }
    }

    /// With the names of stage and file.
    pub(crate) fn at(self, stage: &str, place: &std::path::Path) -> StateError {
        match self {
            Self::Damaged(problem) => StateError::Corrupt {
                stage: stage.to_owned(),
                place: place.display().to_string(),
                problem,
            },
            Self::TooNew(found) => StateError::TooNew {
                place: place.display().to_string(),
                found,
                known: FORMAT,
            },
        }
    }
}

fn damaged(problem: impl Into<String>) -> JournalError {
    JournalError::Damaged(problem.into())
}

/// Payloads of entries, not yet framed: what one caller wants to append.
#[derive(Debug, Default)]
pub(crate) struct Payloads(Vec<Vec<u8>>);

impl Payloads {
    /// Serialises entries.
    ///
    /// # Errors
    /// When an entry does not serialise or is longer than a frame can be.
    pub(crate) fn of(entries: &[JournalEntry]) -> Result<Self, serde_json::Error> {
        entries
            .iter()
            .map(serde_json::to_vec)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The bytes of a new journal: header, and entries that are carried over from the one before.
pub(crate) fn encode_new(
    header: &JournalHeader,
    carried: &Payloads,
) -> Result<Vec<u8>, serde_json::Error> {
    let payload = serde_json::to_vec(header)?;
    let mut out = Frames {
        sector: 0,
        bytes: MAGIC.to_vec(),
    };
    out.push(header.epoch, 0, carried.len(), KIND_HEADER, &payload);
    out.push_entries(header.epoch, 0, carried.0.iter());
    Ok(out.bytes)
}

/// The bytes of one batch, for a journal of `length` bytes.
pub(crate) fn encode_batch<'a>(
    length: u64,
    epoch: u64,
    batch: u32,
    payloads: impl Iterator<Item = &'a Payloads>,
) -> Vec<u8> {
    let all: Vec<&Vec<u8>> = payloads.flat_map(|payloads| &payloads.0).collect();
    let bytes = |payload: &&Vec<u8>| payload.len() + HEAD + CRC + SHORTEST_HOLE;
    let mut out = Frames {
        sector: usize::try_from(length % SECTOR as u64).unwrap_or(0),
        bytes: Vec::with_capacity(all.iter().map(bytes).sum()),
    };
    out.push_entries(epoch, batch, all.into_iter());
    out.bytes
}

/// Frames as they will stand in the file.
struct Frames {
    /// Where in its sector the first byte comes to lie.
    sector: usize,
    bytes: Vec<u8>,
}

impl Frames {
    fn push_entries<'a>(
        &mut self,
        epoch: u64,
        batch: u32,
        payloads: impl ExactSizeIterator<Item = &'a Vec<u8>>,
    ) {
        let mut left = payloads.len();
        for payload in payloads {
            left -= 1;
            self.push(epoch, batch, left, KIND_ENTRY, payload);
        }
    }

    fn push(&mut self, epoch: u64, batch: u32, left: usize, kind: u8, payload: &[u8]) {
        let begin = self.bytes.len();
        let body = begin + HEAD;
        let spaces = spaces_before(self.sector + body + payload.len() + CRC);
        // Entries are bounded by memory long before 4 GiB; a longer one would not pass its checksum and be told.
        let length = u32::try_from(payload.len() + spaces).unwrap_or(u32::MAX);
        let out = &mut self.bytes;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&epoch.to_le_bytes());
        out.extend_from_slice(&batch.to_le_bytes());
        out.extend_from_slice(&u32::try_from(left).unwrap_or(u32::MAX).to_le_bytes());
        out.push(kind);
        let check = crc32fast::hash(&out[begin..]);
        out.extend_from_slice(&check.to_le_bytes());
        out.extend_from_slice(payload);
        out.resize(out.len() + spaces, b' ');
        let check = crc32fast::hash(&out[body..]);
        out.extend_from_slice(&check.to_le_bytes());
    }
}

/// How many spaces a payload needs so that a frame which would end at `end` has at least [`SHORTEST_HOLE`] bytes in its last
/// sector, and leaves the next one as many, or ends with the sector.
fn spaces_before(end: usize) -> usize {
    match end % SECTOR {
        0 => 0,
        short @ 1..SHORTEST_HOLE => SHORTEST_HOLE - short,
        long if long > SECTOR - SHORTEST_HOLE => SECTOR - long,
        _ => 0,
    }
}

struct Frame<'a> {
    epoch: u64,
    batch: u32,
    left: u32,
    kind: u8,
    payload: &'a [u8],
    /// Where it ends in the file.
    end: usize,
}

/// What stands at a place of the file.
enum Found<'a> {
    Frame(Frame<'a>),
    /// The file ends before the frame does.
    Cut,
    /// All bytes are there and a checksum is wrong.
    Wrong,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn read_frame(bytes: &[u8], at: usize) -> Found<'_> {
    let head = bytes.get(at..at + HEAD);
    let Some(head) = head else {
        return Found::Cut;
    };
    if u32_at(head, HEAD - CRC) != Some(crc32fast::hash(&head[..HEAD - CRC])) {
        return Found::Wrong;
    }
    let parts = (
        u32_at(head, 0),
        head[4..].first_chunk(),
        u32_at(head, 12),
        u32_at(head, 16),
    );
    let (Some(length), Some(epoch), Some(batch), Some(left)) = parts else {
        return Found::Wrong;
    };
    let begin = at + HEAD;
    let Some(end) = begin.checked_add(length as usize) else {
        return Found::Wrong;
    };
    let (Some(payload), Some(check)) = (bytes.get(begin..end), u32_at(bytes, end)) else {
        return Found::Cut;
    };
    if check != crc32fast::hash(payload) {
        return Found::Wrong;
    }
    Found::Frame(Frame {
        epoch: u64::from_le_bytes(*epoch),
        batch,
        left,
        kind: head[20],
        payload,
        end: end + CRC,
    })
}

/// Reads the header of a journal, and how many frames of its batch follow it.
fn begin(bytes: &[u8]) -> Result<(Journal, u32), JournalError> {
    if bytes.is_empty() {
        return Err(damaged("it is empty"));
    }
    if !bytes.starts_with(MAGIC) {
        return Err(damaged("it does not begin as a journal does"));
    }
    let first = match read_frame(bytes, MAGIC.len()) {
        Found::Frame(frame) if frame.kind == KIND_HEADER && frame.batch == 0 => frame,
        _ => return Err(damaged("its header is torn or changed")),
    };
    let header: JournalHeader = migrate::read(first.payload)
        .map_err(|error| JournalError::of(error, || "its header".to_owned()))?;
    // The entries are of the format that the header stated, which reading it has changed to that of this program.
    let stated: Stated = serde_json::from_slice(first.payload)
        .map_err(|error| damaged(format!("its header: {error}")))?;
    let journal = Journal {
        epoch: header.epoch,
        header,
        format: stated.format,
        entries: Vec::new(),
        batch: 0,
        good_length: first.end,
    };
    Ok((journal, first.left))
}

/// Reads what is whole before the first damage of a journal; `None` when its header is damaged.
///
/// # Errors
/// [`JournalError::TooNew`].
pub(crate) fn salvage(bytes: &[u8]) -> Result<Option<Journal>, JournalError> {
    let (mut journal, mut left) = match begin(bytes) {
        Ok(begun) => begun,
        Err(JournalError::Damaged(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    while let Found::Frame(frame) = read_frame(bytes, journal.good_length) {
        if journal.accept(&frame, left, journal.good_length).is_err() {
            break;
        }
        left = frame.left;
    }
    Ok(Some(journal))
}

/// Reads a journal.
///
/// # Errors
/// [`JournalError`] for everything but a torn last batch.
pub(crate) fn decode(bytes: &[u8]) -> Result<Journal, JournalError> {
    let (mut journal, mut left) = begin(bytes)?;
    while journal.good_length < bytes.len() {
        let at = journal.good_length;
        match read_frame(bytes, at) {
            Found::Frame(frame) => {
                journal.accept(&frame, left, at)?;
                left = frame.left;
            }
            found => {
                let wrong = matches!(found, Found::Wrong);
                journal.judge_tear(bytes, left, wrong)?;
                break;
            }
        }
    }
    // A new journal is synced whole before it gets its name.
    if journal.batch == 0 && left > 0 {
        return Err(damaged("entries after its header are missing"));
    }
    Ok(journal)
}

impl Journal {
    fn accept(&mut self, frame: &Frame<'_>, left: u32, at: usize) -> Result<(), JournalError> {
        // A recovered journal goes on, under a higher epoch, where the tear was cut off.
        let next = frame.batch == self.batch.wrapping_add(1);
        let expected = if left > 0 {
            (frame.batch == self.batch && frame.left == left - 1)
                || (next && frame.epoch > self.epoch)
        } else {
            next
        };
        if !expected {
            return Err(damaged(format!("entries before byte {at} are missing")));
        }
        if frame.epoch < self.epoch {
            return Err(damaged(format!(
                "the entry at byte {at} was written by epoch {}, after epoch {} had taken over",
                frame.epoch, self.epoch
            )));
        }
        if frame.kind != KIND_ENTRY {
            return Err(damaged(format!(
                "the entry at byte {at} is of unknown kind {}",
                frame.kind
            )));
        }
        let entry = migrate::read_unstated(Role::Entry, Some(self.format), frame.payload)
            .map_err(|error| JournalError::of(error, || format!("the entry at byte {at}")))?;
        self.entries.push(entry);
        self.epoch = frame.epoch;
        self.batch = frame.batch;
        self.good_length = frame.end;
        Ok(())
    }

    /// Whether what follows the last whole frame is no more than the last batch, torn.
    fn judge_tear(&self, bytes: &[u8], left: u32, wrong: bool) -> Result<(), JournalError> {
        let at = self.good_length;
        if wrong && !has_hole(bytes, at) {
            return Err(damaged(format!("the entry at byte {at} was changed")));
        }
        let next = self.batch.wrapping_add(1);
        let belongs = |frame: &Frame<'_>| {
            if left > 0 {
                frame.batch == self.batch || (frame.batch == next && frame.epoch > self.epoch)
            } else {
                frame.batch == next
            }
        };
        let later = (at + 1..bytes.len()).find(
            |&place| matches!(read_frame(bytes, place), Found::Frame(frame) if !belongs(&frame)),
        );
        match later {
            Some(place) => Err(damaged(format!(
                "the entry at byte {at} is torn although another follows at byte {place}"
            ))),
            None => Ok(()),
        }
    }
}

/// Whether a sector, or the part of one that lies after `from`, holds nothing but zeros: it was never written.
fn has_hole(bytes: &[u8], from: usize) -> bool {
    let mut begin = from;
    while begin < bytes.len() {
        let end = ((begin / SECTOR + 1) * SECTOR).min(bytes.len());
        if end - begin >= SHORTEST_HOLE && bytes[begin..end].iter().all(|byte| *byte == 0) {
            return true;
        }
        begin = end;
    }
    false
}

/// The journal with every payload changed, the header's first: as another program would have written it.
#[cfg(test)]
pub(crate) fn with_payloads(
    bytes: &[u8],
    mut change: impl FnMut(bool, serde_json::Value) -> serde_json::Value,
) -> Vec<u8> {
    let mut out = Frames {
        sector: 0,
        bytes: MAGIC.to_vec(),
    };
    let mut at = MAGIC.len();
    while let Found::Frame(frame) = read_frame(bytes, at) {
        let payload = serde_json::from_slice(frame.payload).unwrap();
        let payload = change(frame.kind == KIND_HEADER, payload).to_string();
        let left = frame.left as usize;
        out.push(
            frame.epoch,
            frame.batch,
            left,
            frame.kind,
            payload.as_bytes(),
        );
        at = frame.end;
    }
    out.bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{model::Fqn, state::tests_support::record};

    fn header() -> JournalHeader {
        JournalHeader {
            format: FORMAT,
            lineage: "L".to_owned(),
            serial: 7,
            epoch: 3,
        }
    }

    fn entry(index: usize) -> JournalEntry {
        if index % 3 == 2 {
            JournalEntry::Removed {
                fqn: Fqn::parse(&format!("app/dev/r{index}")).unwrap(),
            }
        } else {
            JournalEntry::Record(std::sync::Arc::new(record(&format!("app/dev/r{index}"), 1)))
        }
    }

    /// A journal of batches of the given sizes, with the byte where each batch begins.
    fn journal(batches: &[usize]) -> (Vec<u8>, Vec<JournalEntry>, Vec<usize>) {
        let mut bytes = encode_new(&header(), &Payloads::default()).unwrap();
        let mut all = Vec::new();
        let mut begins = Vec::new();
        for (index, size) in batches.iter().enumerate() {
            let entries: Vec<_> = (0..*size).map(|n| entry(index * 10 + n)).collect();
            let payloads = Payloads::of(&entries).unwrap();
            begins.push(bytes.len());
            let batch = u32::try_from(index).unwrap() + 1;
            let length = bytes.len() as u64;
            bytes.extend(encode_batch(length, 3, batch, std::iter::once(&payloads)));
            all.extend(entries);
        }
        (bytes, all, begins)
    }

    #[test]
    fn every_truncation_gives_a_prefix_or_is_told() {
        let (bytes, entries, begins) = journal(&[1, 2, 1]);
        assert_eq!(decode(&bytes).unwrap().entries, entries);
        for length in 0..bytes.len() {
            match decode(&bytes[..length]) {
                Ok(journal) => {
                    assert!(entries.starts_with(&journal.entries));
                    assert!(journal.good_length <= length);
                }
                Err(_) => assert!(length < begins[0], "cut at {length}"),
            }
        }
    }

    #[test]
    fn every_changed_byte_is_told() {
        let (bytes, ..) = journal(&[1, 2, 1]);
        for at in 0..bytes.len() {
            for flip in [1_u8, 0x80, 0xff, bytes[at]] {
                let mut bad = bytes.clone();
                bad[at] ^= flip;
                if bad != bytes {
                    assert!(decode(&bad).is_err(), "byte {at} xor {flip}");
                }
            }
        }
    }

    #[test]
    fn an_unwritten_sector_of_the_last_batch_is_a_tear_and_of_an_earlier_one_damage() {
        let (bytes, entries, begins) = journal(&[1, 9]);
        let sector = (begins[1] / SECTOR + 1) * SECTOR;
        let mut torn = bytes;
        torn[sector..sector + SECTOR].fill(0);
        let journal = decode(&torn).unwrap();
        assert!(entries.starts_with(&journal.entries));
        assert!(journal.entries.len() < entries.len());

        let more = Payloads::of(&[entry(99)]).unwrap();
        let length = torn.len() as u64;
        torn.extend(encode_batch(length, 3, 3, std::iter::once(&more)));
        assert!(decode(&torn).is_err());
    }

    #[test]
    fn an_older_epoch_after_a_newer_one_is_told() {
        let (mut bytes, ..) = journal(&[1]);
        let more = Payloads::of(&[entry(1)]).unwrap();
        let length = bytes.len() as u64;
        bytes.extend(encode_batch(length, 2, 2, std::iter::once(&more)));
        assert!(decode(&bytes).is_err());
    }

    #[test]
    fn empty_and_foreign_files_are_damaged_and_newer_ones_refused() {
        assert!(decode(b"").is_err());
        assert!(decode(b"{}").is_err());
        assert!(decode(MAGIC).is_err());
        let newer = JournalHeader {
            format: FORMAT + 1,
            ..header()
        };
        let bytes = encode_new(&newer, &Payloads::default()).unwrap();
        assert_eq!(
            decode(&bytes).unwrap_err(),
            JournalError::TooNew(FORMAT + 1)
        );
    }

    proptest! {
        /// Whatever sectors of an unsynced batch reached the disk, it is whole or torn, never damage.
        #[test]
        fn any_sectors_of_the_last_batch_may_be_missing(
            before in proptest::collection::vec(0_usize..190, 1..6),
            sizes in proptest::collection::vec(0_usize..190, 1..12), missing in any::<u8>(),
        ) {
            let of_size = |size: usize| JournalEntry::Removed {
                fqn: Fqn::parse(&format!("app/dev/r{}", "x".repeat(size))).unwrap(),
            };
            let mut bytes = encode_new(&header(), &Payloads::default()).unwrap();
            let mut all = Vec::new();
            for (batch, sizes) in [(1, &before), (2, &sizes)] {
                let entries: Vec<_> = sizes.iter().map(|size| of_size(*size)).collect();
                let payloads = Payloads::of(&entries).unwrap();
                let length = bytes.len() as u64;
                if batch == 2 {
                    let mut torn = bytes.clone();
                    torn.extend(encode_batch(length, 3, batch, std::iter::once(&payloads)));
                    let mut from = bytes.len();
                    let mut sector = 0;
                    while from < torn.len() {
                        let to = ((from / SECTOR + 1) * SECTOR).min(torn.len());
                        if missing >> (sector % 8) & 1 == 1 {
                            torn[from..to].fill(0);
                        }
                        from = to;
                        sector += 1;
                    }
                    let read = decode(&torn).unwrap();
                    all.extend(entries);
                    prop_assert!(all.starts_with(&read.entries));
                    prop_assert!(!read.entries.is_empty(), "the batch before is durable");
                } else {
                    bytes.extend(encode_batch(length, 3, batch, std::iter::once(&payloads)));
                    all.extend(entries);
                }
            }
        }

        #[test]
        fn frames_round_trip(sizes in proptest::collection::vec(1_usize..6, 0..6), carried in 0_usize..4) {
            let old: Vec<_> = (0..carried).map(entry).collect();
            let mut bytes = encode_new(&header(), &Payloads::of(&old).unwrap()).unwrap();
            let mut all = old;
            for (index, size) in sizes.iter().enumerate() {
                let parts: Vec<Vec<JournalEntry>> = (0..*size).map(|n| vec![entry(n), entry(n + 1)]).collect();
                let payloads: Vec<Payloads> = parts.iter().map(|part| Payloads::of(part).unwrap()).collect();
                let length = bytes.len() as u64;
                bytes.extend(encode_batch(length, 4, u32::try_from(index).unwrap() + 1, payloads.iter()));
                all.extend(parts.into_iter().flatten());
            }
            let journal = decode(&bytes).unwrap();
            prop_assert_eq!(journal.entries, all);
            prop_assert_eq!(journal.good_length, bytes.len());
            prop_assert_eq!(journal.header, header());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut file = MAGIC.to_vec();
            file.extend(&bytes);
            prop_assert!(decode(&file).is_err());
        }
    }
}
