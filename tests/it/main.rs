//! Whole-river tests.
