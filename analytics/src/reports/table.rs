//! Tables as reports show them: typed cells, so that each format writes a number as a number.

use jiff::civil::Date;

/// A value of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Empty,
    Text(String),
    Day(Date),
    Count(i64),
    /// In millionths of the column's currency.
    Money(i64),
    Milliseconds(i64),
    /// From 0 to 1.
    Share(f64),
    Flag(Flag),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    Yes,
    No,
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Cell::Text(text.into())
    }

    pub fn flag(holds: bool) -> Self {
        Cell::Flag(if holds { Flag::Yes } else { Flag::No })
    }

    pub fn milliseconds(value: Option<i64>) -> Self {
        value.map_or(Cell::Empty, Cell::Milliseconds)
    }
}

/// A table with a name and a heading for each column.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub name: &'static str,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
}

/// A column: its name in files for programs, and its heading for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub heading: &'static str,
}

/// A column's name and heading.
pub const fn column(name: &'static str, heading: &'static str) -> Column {
    Column { name, heading }
}

/// A text that no spreadsheet takes for a formula: one that begins like a formula gets an apostrophe in front.
///
/// See OWASP, *CSV Injection*.
pub fn harmless(text: &str) -> String {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}

/// Millionths as a decimal number with six places, exactly.
pub fn decimal(micros: i64) -> String {
    let (whole, rest) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    let sign = if micros < 0 { "-" } else { "" };
    format!("{sign}{whole}.{rest:06}")
}
