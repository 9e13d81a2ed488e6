//! Which partition a record goes to: shuffle sharding, a pure function with golden vectors.
//!
//! A company owns `k` of a topic's `N` partitions, the ones with the highest rendezvous score (Thaler and Ravishankar,
//! "Using name-based mappings to increase hit rates", 1998); what follows the company in the key is hashed inside that
//! set. A noisy company slows at most its own `k`, and order per address holds.
//!
//! Every record ever written depends on this function: its vectors must never change, only the epoch may.

use crate::CompanyId;

/// Partitions per company unless its row says otherwise.
pub const DEFAULT_SPREAD: u16 = 2;

/// The partition of `subject` (an address, a conversation, or nothing) of `company`, among `partitions`.
///
/// `spread` is the number of partitions the company owns; it is held between 1 and `partitions`, and
/// `partitions` of zero counts as one.
pub fn partition(company: CompanyId, subject: &str, spread: u16, partitions: u16) -> i32 {
    CompanyPartitions::of(company, spread, partitions).partition(subject)
}

/// The partitions a company owns, computed once for many records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompanyPartitions(Vec<u16>);

impl CompanyPartitions {
    /// The company's `spread` partitions among `partitions`, best first; both are held in bounds as in [`partition`].
    pub fn of(company: CompanyId, spread: u16, partitions: u16) -> Self {
        let partitions = partitions.max(1);
        let mut order: Vec<u16> = (0..partitions).collect();
        order.sort_by_key(|&partition| (std::cmp::Reverse(score(company, partition)), partition));
        order.truncate(usize::from(spread.clamp(1, partitions)));
        CompanyPartitions(order)
    }

    /// The partition of records about `subject`.
    pub fn partition(&self, subject: &str) -> i32 {
        // At least one partition is owned, so the index is in range.
        let index = (hash(subject.as_bytes()) % self.0.len() as u64) as usize;
        i32::from(self.0[index])
    }
}

fn score(company: CompanyId, partition: u16) -> u64 {
    mix(mix(company.0 as u64) ^ mix(u64::from(partition).wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// FNV-1a, 64 bit, finished by a mixer because its low bits are weak.
fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(fnv)
}

/// The 64-bit finaliser of MurmurHash3 (Appleby, public domain).
fn mix(mut value: u64) -> u64 {
    value ^= value >> 33;
    value = value.wrapping_mul(0xff51_afd7_ed55_8ccd);
    value ^= value >> 33;
    value = value.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(company: i64, subject: &str) -> i32 {
        partition(CompanyId(company), subject, 2, 12)
    }

    #[test]
    fn golden_vectors_never_change() {
        let vectors: Vec<i32> = [
            (1, "551199990001"),
            (1, "551199990002"),
            (1, ""),
            (2, "551199990001"),
            (42, "lid:116900000000001"),
            (9_007_199_254_740_993, "553188880002"),
        ]
        .into_iter()
        .map(|(company, subject)| of(company, subject))
        .collect();
        assert_eq!(vectors, [1, 3, 1, 4, 3, 1]);
    }

    #[test]
    fn a_company_stays_inside_its_own_partitions() {
        for company in 1..200 {
            let seen: std::collections::BTreeSet<i32> = (0..500).map(|n| of(company, &format!("5511{n:08}"))).collect();
            assert_eq!(seen.len(), 2, "company {company}");
        }
    }

    #[test]
    fn companies_spread_over_all_partitions() {
        let mut load = [0_u32; 12];
        (1..=6_000).for_each(|company| load[of(company, "551199990001") as usize] += 1);
        assert!(load.iter().all(|&n| (400..600).contains(&n)), "{load:?}");
    }

    #[test]
    fn a_wider_spread_keeps_the_partitions_it_had() {
        let owned = |spread| -> std::collections::BTreeSet<i32> {
            (0..500).map(|n| partition(CompanyId(5), &n.to_string(), spread, 12)).collect()
        };
        assert!(owned(2).is_subset(&owned(4)));
    }

    #[test]
    fn absurd_counts_are_held_in_bounds() {
        assert_eq!(partition(CompanyId(1), "a", 0, 0), 0);
        assert!((0..3).contains(&partition(CompanyId(1), "a", 99, 3)));
    }
}
