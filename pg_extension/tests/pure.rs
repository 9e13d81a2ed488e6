//! What needs no server: the hash of places, and the arithmetic of an answer.

#[path = "../src/decision.rs"]
mod decision;
#[expect(dead_code, reason = "memory is fetched ahead in a server only")]
#[path = "../src/locations.rs"]
mod locations;

use decision::{Decision, Reading};
use locations::{Locations, RowLocation, hash};

#[test]
fn places_are_found_again_and_the_bound_holds() {
    for limit in [64, 1000, 100_000] {
        let mut places = Locations::new();
        places.bound(limit);
        for key in 0..50_000_i64 {
            let place = RowLocation { buffer: 1 + key as i32, line: 1 + (key % 200) as u16, row: (key % 1024) as u16 };
            places.put(hash(key, b"agents", 0), place);
            assert_eq!(places.get(hash(key, b"agents", 0)), Some(place));
        }
        assert!(places.entries() <= limit);
        assert!(places.entries() >= limit.min(50_000) * 2 / 5, "{} of {limit}", places.entries());
        places.clear();
        assert_eq!((places.entries(), places.get(hash(7, b"agents", 0))), (0, None));
    }
}

#[test]
fn hardly_a_place_is_lost_while_there_is_space() {
    let mut places = Locations::new();
    places.bound(393_216);
    let keys = || (0..10_000_i64).flat_map(|company| (1..=20).map(move |feature| (company, format!("f{feature}"))));
    let mut misses = [0; 3];
    for turn in &mut misses {
        for (company, feature) in keys() {
            let hash = hash(company, feature.as_bytes(), 0);
            if places.get(hash).is_none() {
                *turn += 1;
                places.put(hash, RowLocation { buffer: 1 + company as i32, line: 1, row: 0 });
            }
        }
    }
    // The first turn meets every key; while it grows some are lost, which the second finds and the third does not.
    assert!(misses[1] < 6_000 && misses[2] < 1_500, "{misses:?} of 200000");
}

#[test]
fn a_place_that_is_put_again_replaces_the_older_one() {
    let mut places = Locations::new();
    places.bound(64);
    for line in 1..=9 {
        places.put(42, RowLocation { buffer: 1, line, row: 0 });
    }
    assert_eq!((places.entries(), places.get(42)), (1, Some(RowLocation { buffer: 1, line: 9, row: 0 })));
}

#[test]
fn places_at_the_bounds_are_kept_whole_and_those_past_them_not_at_all() {
    let mut places = Locations::new();
    places.bound(64);
    let last = RowLocation { buffer: (1 << 29) - 1, line: 511, row: 1023 };
    let first = RowLocation { buffer: 1, line: 1, row: 0 };
    for place in [
        last,
        first,
        RowLocation { row: 1023, ..first },
        RowLocation { line: 511, ..first },
        RowLocation { row: 0, ..last },
    ] {
        places.put(42, place);
        assert_eq!(places.get(42), Some(place));
    }
    for (key, (buffer, line, row)) in
        [(0, 1, 0), (-1, 1, 0), (1 << 29, 1, 0), (1, 0, 0), (1, 512, 0), (1, 1, 1024)].into_iter().enumerate()
    {
        let hash = hash(key as i64, b"agents", 0);
        places.put(hash, RowLocation { buffer, line, row });
        assert_eq!(places.get(hash), None, "{buffer} {line} {row}");
    }
}

#[test]
fn hashes_tell_companies_and_features_apart() {
    let mut seen = std::collections::HashSet::new();
    for company in -500..500_i64 {
        for feature in ["", "a", "b", "agents", "agent", "a_feature_with_a_name_that_is_long", "aaaaaaaa", "aaaaaaaaa"]
        {
            assert!(seen.insert(hash(company, feature.as_bytes(), 0)), "{company} {feature}");
        }
    }
}

#[test]
fn answers_stay_in_range_at_the_ends() {
    let reading = |limit, used, reserved| Reading { metered: true, allowed: true, soft: false, limit, used, reserved };
    let most = i64::MAX;
    let answer = reading(Some(0), most, most).answer(0);
    assert_eq!((answer.allowed, answer.remaining, answer.overage), (true, Some(0), Some(most)));
    let answer = reading(Some(most), 0, 0).answer(most);
    assert_eq!((answer.allowed, answer.remaining, answer.overage), (true, Some(most), Some(0)));
    let answer = reading(Some(10), 10, 0).answer(1);
    assert_eq!((answer.allowed, answer.decision), (false, Decision::UsageLimitReached));
    let answer = Reading { soft: true, ..reading(Some(10), 12, 0) }.answer(1);
    assert_eq!((answer.allowed, answer.decision, answer.overage), (true, Decision::SoftLimitExceeded, Some(2)));
    let answer = reading(None, most, most).answer(most);
    assert_eq!((answer.allowed, answer.remaining, answer.overage), (true, None, Some(0)));
}
