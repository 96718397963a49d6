//! What a crash takes away: the end of one life of the machine and the beginning of the next.

use super::machine::{Machine, Node, Tree, apply};

/// What a crash takes away of that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: the process died, the machine did not.
    Nothing,
    /// Everything.
    Everything,
    /// Some of it, by this seed: a part of each folder's changes from the first on, and of each file's new bytes any sectors.
    Some(u64),
    /// Everything but these, by bits: the changes of names, folder by folder in their order, then the new contents of files.
    /// File systems promise no order between them, so any may have become durable and any other not.
    Subset(u64),
}

impl Machine {
    /// Ends every open file and guard, takes away what `loss` says, and goes on without a fault.
    pub(super) fn reboot(&mut self, loss: Loss) {
        if let Loss::Subset(kept) = loss {
            self.keep(kept);
        } else if loss != Loss::Nothing {
            let mut random = Random(match loss {
                Loss::Some(seed) => seed.wrapping_mul(2).wrapping_add(1),
                _ => 0,
            });
            let keeps_some = matches!(loss, Loss::Some(_));
            let mut tree = std::mem::take(&mut self.durable);
            for changes in std::mem::take(&mut self.pending).values() {
                let kept = if keeps_some {
                    random.below(changes.len() + 1)
                } else {
                    0
                };
                for change in &changes[..kept] {
                    apply(&mut tree, change);
                }
            }
            self.tree = reachable(tree);
            for content in self.contents.values_mut() {
                content.bytes = if keeps_some {
                    survivors(&content.durable, &content.bytes, &mut random)
                } else {
                    content.durable.clone()
                };
            }
        }
        self.durable = self.tree.clone();
        self.pending.clear();
        for content in self.contents.values_mut() {
            content.durable = content.bytes.clone();
        }
        self.guards.clear();
        self.fault = None;
        self.is_down = false;
        self.life += 1;
    }

    /// How many changes of names and contents are not durable.
    pub(super) fn unsynced(&self) -> usize {
        let names: usize = self.pending.values().map(Vec::len).sum();
        let contents = self.contents.values();
        names
            + contents
                .filter(|content| content.bytes != content.durable)
                .count()
    }

    /// Keeps those of the changes that are not durable whose bits are set.
    fn keep(&mut self, kept: u64) {
        let mut number = 0;
        let mut is_kept = || {
            number += 1;
            kept >> (number - 1) & 1 == 1
        };
        let mut tree = std::mem::take(&mut self.durable);
        for change in self.pending.values().flatten() {
            if is_kept() {
                apply(&mut tree, change);
            }
        }
        self.tree = reachable(tree);
        let contents = self.contents.values_mut();
        for content in contents.filter(|content| content.bytes != content.durable) {
            if !is_kept() {
                content.bytes.clone_from(&content.durable);
            }
        }
    }
}

/// What can be reached: names below folders that are there.
fn reachable(mut tree: Tree) -> Tree {
    let folders: Tree = tree.clone();
    tree.retain(|path, _| {
        path.ancestors()
            .skip(1)
            .filter(|folder| !folder.as_os_str().is_empty() && folder.parent().is_some())
            .all(|folder| folders.get(folder) == Some(&Node::Folder))
    });
    tree
}

const SECTOR: usize = 512;

/// Of the bytes that were not synced, any sectors; those between that were not written are zero.
fn survivors(durable: &[u8], bytes: &[u8], random: &mut Random) -> Vec<u8> {
    if durable == bytes {
        return bytes.to_vec();
    }
    if !bytes.starts_with(durable) {
        return mixture(durable, bytes, random);
    }
    let mut out = bytes[..durable.len() + random.below(bytes.len() - durable.len() + 1)].to_vec();
    let mut begin = durable.len();
    while begin < out.len() {
        let end = ((begin / SECTOR + 1) * SECTOR).min(out.len());
        if random.below(8) == 0 {
            out[begin..end].fill(0);
        }
        begin = end;
    }
    out
}

/// Of a file that was cut or rewritten in place: how it was, how it is, or sectors of both in one of the two lengths.
fn mixture(durable: &[u8], bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let kind = random.below(4);
    let length = if random.below(2) == 0 { durable } else { bytes }.len();
    match kind {
        0 => return durable.to_vec(),
        1 => return bytes.to_vec(),
        _ => {}
    }
    let mut out = vec![0; length];
    for (number, sector) in out.chunks_mut(SECTOR).enumerate() {
        let source = if random.below(2) == 0 { durable } else { bytes };
        let rest = source.get(number * SECTOR..).unwrap_or_default();
        let written = rest.len().min(sector.len());
        sector[..written].copy_from_slice(&rest[..written]);
    }
    out
}

/// A small generator (SplitMix64): equal seeds, equal losses.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^= value >> 31;
        usize::try_from(value % (limit as u64)).unwrap_or(0)
    }
}
