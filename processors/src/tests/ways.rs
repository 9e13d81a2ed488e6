//! Whole ways through the rooms.
