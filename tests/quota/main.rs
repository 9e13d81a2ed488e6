//! The quota functions on a real Postgres: rights, usage and periods as the SQL functions answer them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod support;
mod cluster;
mod periods;
mod checks;
mod resolution;
mod editors;
mod increments;
mod lowered_limits;
mod reservations;
mod many_reservations;
mod corrections;
mod crowd;
mod shards;
mod crashes;
mod lifecycle;
mod privileges;
mod roles;
mod row_security;
mod intrusions;
mod rebind;
mod starting;
mod bad_input;
mod bad_days;
mod replays;
mod oracle;
mod calendars;
mod entitlements;
mod prorations;
mod thresholds;
mod boundaries;
