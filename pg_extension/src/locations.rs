//! Where rows were found last: a bounded hash from (company, feature, slot) to a place in the table.
//!
//! It only ever guesses. The user of a place compares the whole key in the row that is there, so an entry may be
//! stale, and two keys may share a hash: the cost is a search of the index, never a wrong answer. Pure; no server.

/// A line pointer (from 1) on a page, by the shared buffer (from 1) that held the page. For rows that were updated in
/// place, the root of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowLocation {
    pub(crate) buffer: i32,
    pub(crate) line: u16,
    /// How far from the page's beginning the row itself was, in units of 8 bytes.
    pub(crate) row: u16,
}

/// Six bytes of a place: the row's 10 bits, 29 of its buffer, 9 of its line, from the highest on. A page of 8 KiB has
/// less than three hundred lines, and buffers to the end of 4 TiB have a number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Packed {
    low: u32,
    high: u16,
}

const LINE_BITS: u32 = 9;
const BUFFER_BITS: u32 = 29;
const ROW_BITS: u32 = 10;

impl RowLocation {
    /// None for a place past the bounds, which is not remembered.
    const fn packed(self) -> Option<Packed> {
        let Self { buffer, line, row } = self;
        if buffer < 1 || buffer >> BUFFER_BITS != 0 || line < 1 || line >> LINE_BITS != 0 || row >> ROW_BITS != 0 {
            return None;
        }
        let bits = ((row as u64) << BUFFER_BITS | buffer as u64) << LINE_BITS | line as u64;
        Some(Packed { low: bits as u32, high: (bits >> u32::BITS) as u16 })
    }

    const fn unpacked(packed: Packed) -> Self {
        let bits = (packed.high as u64) << u32::BITS | packed.low as u64;
        Self {
            buffer: (bits >> LINE_BITS & ((1 << BUFFER_BITS) - 1)) as i32,
            line: (bits & ((1 << LINE_BITS) - 1)) as u16,
            row: (bits >> (LINE_BITS + BUFFER_BITS)) as u16,
        }
    }
}

const WAYS: usize = 6;

/// One cache line. A look-up touches no other, unless it is full: then what did not fit is in its neighbour.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Set {
    /// Halves of hashes: each chooses its set, and tells the entries of a set apart well enough for a guess.
    tags: [u32; WAYS],
    /// Places, in two parts; the lower part is 0 where there is none.
    low: [u32; WAYS],
    high: [u16; WAYS],
}

const _: () = assert!(size_of::<Set>() == 64);
const EMPTY: Set = Set { tags: [0; WAYS], low: [0; WAYS], high: [0; WAYS] };

impl Set {
    #[inline]
    fn way_of(&self, tag: u32) -> Option<usize> {
        self.tags.iter().zip(&self.low).position(|(&kept, &low)| kept == tag && low != 0)
    }

    #[inline]
    fn free_way(&self) -> Option<usize> {
        self.low.iter().position(|&low| low == 0)
    }

    #[inline]
    const fn at(&self, way: usize) -> Packed {
        Packed { low: self.low[way], high: self.high[way] }
    }
}

/// The hash. Doubles when two thirds full, up to its limit; then a new entry may cost an old one of its set.
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
        self.sets.fill(EMPTY);
        self.entries = 0;
    }

    /// The memory that [`get`](Self::get) will touch first, to have it fetched ahead.
    #[inline]
    pub(crate) fn line(&self, hash: u64) -> *const u8 {
        self.sets.as_ptr().wrapping_add(self.index(tag(hash))).cast()
    }

    /// Where a key of this hash was found last.
    #[inline]
    pub(crate) fn get(&self, hash: u64) -> Option<RowLocation> {
        let tag = tag(hash);
        let index = self.index(tag);
        let set = self.sets.get(index)?;
        let packed = match set.way_of(tag) {
            Some(way) => set.at(way),
            None if set.free_way().is_some() => return None,
            None => {
                let neighbour = self.sets.get(index ^ 1)?;
                neighbour.at(neighbour.way_of(tag)?)
            }
        };
        Some(RowLocation::unpacked(packed))
    }

    /// Remembers a place, instead of what was remembered for this hash.
    pub(crate) fn put(&mut self, hash: u64, place: RowLocation) {
        let Some(packed) = place.packed() else { return };
        if self.entries * 3 >= self.sets.len() * WAYS * 2 {
            self.grow();
        }
        self.put_tagged(tag(hash), packed);
    }

    fn put_tagged(&mut self, tag: u32, packed: Packed) {
        let index = self.index(tag);
        let (Some(set), Some(neighbour)) = (self.sets.get(index), self.sets.get(index ^ 1)) else { return };
        let here = |way| (index, way);
        let beside = |way| (index ^ 1, way);
        // The top bits did not choose the set, so they choose who leaves it.
        let (index, way) = (set.way_of(tag).map(here))
            .or_else(|| neighbour.way_of(tag).map(beside))
            .or_else(|| set.free_way().map(here))
            .or_else(|| neighbour.free_way().map(beside))
            .unwrap_or((index, (tag >> 26) as usize % WAYS));
        let Some(set) = self.sets.get_mut(index) else { return };
        self.entries += usize::from(set.low[way] == 0);
        set.tags[way] = tag;
        set.low[way] = packed.low;
        set.high[way] = packed.high;
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
        let old = std::mem::replace(&mut self.sets, vec![EMPTY; wanted]);
        self.entries = 0;
        for set in old {
            for way in (0..WAYS).filter(|&way| set.low[way] != 0) {
                // A pair of sets splits in two, so there is always space.
                self.put_tagged(set.tags[way], set.at(way));
            }
        }
    }
}

/// The half of a hash that is kept: sets are at most 2^21, so that at least eleven bits of it are not the set's.
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
