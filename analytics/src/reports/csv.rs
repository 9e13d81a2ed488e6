//! A table as CSV (RFC 4180): UTF-8, a line for each row, names of columns in the first, numbers with a point and without
//! thousands separators.

use std::io::Write;

use super::Error;
use super::table::{Cell, Flag, Table, decimal, harmless};

/// Writes a table; returns the writer.
///
/// # Errors
/// If the writer fails.
pub fn write<W: Write>(table: &Table, out: W) -> Result<W, Error> {
    let mut lines = csv::Writer::from_writer(out);
    lines.write_record(table.columns.iter().map(|it| it.name))?;
    for row in &table.rows {
        lines.write_record(row.iter().map(text))?;
    }
    lines.into_inner().map_err(|it| it.into_error().into())
}

fn text(cell: &Cell) -> String {
    match cell {
        Cell::Empty => String::new(),
        Cell::Text(text) => harmless(text),
        Cell::Day(day) => day.to_string(),
        Cell::Count(number) | Cell::Milliseconds(number) => number.to_string(),
        Cell::Money(micros) => decimal(*micros),
        Cell::Share(share) => format!("{share:.6}"),
        Cell::Flag(Flag::Yes) => "true".into(),
        Cell::Flag(Flag::No) => "false".into(),
    }
}
