//! Where rows were found last: a bounded hash from (company, feature, slot) to a place in the table.
//!
//! It only ever guesses. Whoever uses a place compares the whole key in the row that is there, so an entry may be
//! stale, and two keys may share a hash: the cost is a search of the index, never a wrong answer. Pure; no server.

/// A line pointer: block and offset (from 1). For rows that were updated in place, the root of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) block: u32,
    pub(crate) offset: u16,
    /// The buffer that the block was in, where it may be still; 0: none.
    pub(crate) buffer: i32,
    /// How far from the page's beginning the row was, in bytes.
    pub(crate) at: u16,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Half of the hash: it chooses the set, and tells the entries of a set apart well enough for a guess.
    tag: u32,
    block: u32,
    buffer: i32,
    /// 0: empty.
    offset: u16,
    at: u16,
}

impl Entry {
    const fn place(self) -> Place {
        let Self { block, offset, buffer, at, .. } = self;
        Place { block, offset, buffer, at }
    }
}

impl Set {
    #[inline]
    fn way_of(&self, tag: u32) -> Option<usize> {
        self.0.iter().position(|entry| entry.tag == tag && entry.offset != 0)
    }

    #[inline]
    fn free_way(&self) -> Option<usize> {
        self.0.iter().position(|entry| entry.offset == 0)
    }
}

const EMPTY: Entry = Entry { tag: 0, block: 0, buffer: 0, offset: 0, at: 0 };
const WAYS: usize = 4;

/// One cache line. A look-up touches no other, unless it is full: then what did not fit is in its neighbour.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Set([Entry; WAYS]);

/// The hash. Doubles when half full, up to its limit; then a new entry may cost an old one of its set.
pub(crate) struct Locations {
    sets: Vec<Set>,
    limit: usize,
    entries: usize,
}

impl Locations {
    /// Empty, without memory of its own yet.
    pub(crate) const fn new() -> Self {
        Self { sets: Vec::new(), limit: 0, entries: 0 }
    }

    /// Sets how many entries it may hold; another number than before forgets everything.
    pub(crate) fn bound(&mut self, limit: usize) {
        if limit != self.limit {
            *self = Self { sets: Vec::new(), limit, entries: 0 };
        }
    }

    /// How many places are remembered.
    pub(crate) const fn entries(&self) -> usize {
        self.entries
    }

    /// Forgets everything, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.sets.fill(Set([EMPTY; WAYS]));
        self.entries = 0;
    }

    /// Where a key of this hash was found last.
    #[inline]
    pub(crate) fn get(&self, hash: u64) -> Option<Place> {
        let tag = tag(hash);
        let index = self.index(tag);
        let set = self.sets.get(index)?;
        let entry = match set.way_of(tag) {
            Some(way) => set.0[way],
            None if set.free_way().is_some() => return None,
            None => {
                let neighbour = self.sets.get(index ^ 1)?;
                neighbour.0[neighbour.way_of(tag)?]
            }
        };
        Some(entry.place())
    }

    /// Remembers a place, instead of what was remembered for this hash.
    pub(crate) fn put(&mut self, hash: u64, place: Place) {
        if self.entries * 2 >= self.sets.len() * WAYS {
            self.grow();
        }
        self.put_tagged(tag(hash), place);
    }

    fn put_tagged(&mut self, tag: u32, place: Place) {
        let index = self.index(tag);
        let (Some(set), Some(neighbour)) = (self.sets.get(index), self.sets.get(index ^ 1)) else { return };
        let here = |way| (index, way);
        let beside = |way| (index ^ 1, way);
        // The top bits did not choose the set, so they choose fairly who leaves it.
        let (index, way) = (set.way_of(tag).map(here))
            .or_else(|| neighbour.way_of(tag).map(beside))
            .or_else(|| set.free_way().map(here))
            .or_else(|| neighbour.free_way().map(beside))
            .unwrap_or((index, (tag >> 30) as usize));
        let Some(set) = self.sets.get_mut(index) else { return };
        self.entries += usize::from(set.0[way].offset == 0);
        let Place { block, offset, buffer, at } = place;
        set.0[way] = Entry { tag, block, buffer, offset, at };
    }

    #[inline]
    fn index(&self, tag: u32) -> usize {
        tag as usize & self.sets.len().wrapping_sub(1)
    }

    fn grow(&mut self) {
        let most = (self.limit / WAYS).max(1);
        let wanted = if self.sets.is_empty() { 64 } else { self.sets.len() * 2 };
        let wanted = wanted.min(1 << most.ilog2());
        if wanted <= self.sets.len() {
            return;
        }
        let old = std::mem::replace(&mut self.sets, vec![Set([EMPTY; WAYS]); wanted]);
        self.entries = 0;
        for entry in old.iter().flat_map(|set| set.0).filter(|entry| entry.offset != 0) {
            // A pair of sets splits in two, so there is always room.
            self.put_tagged(entry.tag, entry.place());
        }
    }
}

/// The half of a hash that is kept: sets are at most 2^22, so that at least ten bits of it are not the set's.
const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// Mixes company, feature and slot. Not for keeping: it may differ between releases.
#[inline]
pub(crate) fn hash(company: i64, feature: &[u8], slot: i16) -> u64 {
    let length_and_slot = feature.len() as u64 ^ ((slot as u64) << 48);
    let mut state = fold(company as u64 ^ 0x9e37_79b9_7f4a_7c15, 0xa076_1d64_78bd_642f ^ length_and_slot);
    let mut rest = feature;
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        state = fold(state ^ u64::from_le_bytes(*word), 0xe703_7ed1_a0b4_28db);
        rest = tail;
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(state ^ u64::from_le_bytes(last), 0x8ebc_6af0_9c88_c6e3)
}

/// Multiplies to 128 bits and folds the halves together.
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}
