//! A report as a workbook: a summary with charts, then a sheet for each table.
//!
//! Rows are written as they come and not kept. Numbers are numbers, money has its currency's format, days are dates. A table
//! that is longer than a sheet goes on in another sheet.

use jiff::civil::Date;
use rust_xlsxwriter::{Chart, ChartType, Color, ExcelDateTime, Format, Workbook, Worksheet, XlsxError};

use super::Error;
use super::content::{self, Report};
use super::table::{Cell, Column, Flag, Table, decimal, harmless};

/// The most rows of a sheet, the headings not counted.
const MAX_ROWS: usize = 1_048_575;

struct Formats {
    heading: Format,
    title: Format,
    day: Format,
    count: Format,
    usd: Format,
    brl: Format,
    share: Format,
}

impl Formats {
    fn new() -> Self {
        let number = |format: &str| Format::new().set_num_format(format);
        Formats {
            heading: Format::new().set_bold().set_background_color(Color::RGB(0x00DD_EBF7)).set_text_wrap(),
            title: Format::new().set_bold().set_font_size(16),
            day: number("dd/mm/yyyy"),
            count: number("#,##0"),
            usd: number("[$US$-409] #,##0.000000"),
            brl: number("[$R$-416] #,##0.000000"),
            share: number("0.0%"),
        }
    }

    /// Money is in the currency that the column's name ends in.
    fn of(&self, cell: &Cell, column: &str) -> Option<&Format> {
        match cell {
            Cell::Day(_) => Some(&self.day),
            Cell::Count(_) | Cell::Milliseconds(_) => Some(&self.count),
            Cell::Money(_) if column.ends_with("brl") || column.ends_with("(BRL)") => Some(&self.brl),
            Cell::Money(_) => Some(&self.usd),
            Cell::Share(_) => Some(&self.share),
            Cell::Empty | Cell::Text(_) | Cell::Flag(_) => None,
        }
    }
}

/// Writes the report; returns the file's bytes.
///
/// # Errors
/// If the workbook cannot be written, for example because the folder for temporary files is full.
pub fn write(report: &Report) -> Result<Vec<u8>, Error> {
    let formats = Formats::new();
    let mut workbook = Workbook::new();
    summary(workbook.add_worksheet_with_constant_memory()?, report, &formats)?;
    for table in [&report.days, &report.outcomes, &report.models] {
        sheets(&mut workbook, table, MAX_ROWS, &formats)?;
    }
    Ok(workbook.save_to_buffer()?)
}

fn summary(sheet: &mut Worksheet, report: &Report, formats: &Formats) -> Result<(), Error> {
    sheet.set_name("Resumo")?;
    sheet.set_column_width(0, 28)?.set_column_width(1, 24)?;
    sheet.write_with_format(0, 0, "Relatório", &formats.title)?;
    let about: Vec<(&str, Cell)> = vec![
        ("Empresa", Cell::text(&*report.name)),
        ("Domínio", Cell::text(&*report.domain)),
        ("Código da empresa", Cell::Count(report.company.0)),
        ("Fuso horário", Cell::text(&*report.time_zone)),
        ("De", Cell::Day(report.from)),
        ("Até", Cell::Day(report.to)),
        ("Período fechado", Cell::flag(report.is_final)),
        ("Gerado em", Cell::text(report.made_at.to_string())),
        ("Calculado em", report.computed_at.map_or(Cell::Empty, |it| Cell::text(it.to_string()))),
        ("Dias com movimento", Cell::Count(i64::try_from(report.rows()).unwrap_or(i64::MAX))),
    ];
    let totals = content::headings().zip(content::numbers(&report.total));
    for (row, (heading, cell)) in (2..).zip(about.into_iter().chain(totals)) {
        sheet.write_with_format(row, 0, heading, &formats.heading)?;
        put(sheet, row, 1, &cell, heading, formats)?;
    }
    if !report.days.rows.is_empty() {
        let days = u32::try_from(report.days.rows.len().min(MAX_ROWS)).unwrap_or(u32::MAX);
        let messages = chart(ChartType::Column, "Mensagens por dia", report, &["messages_in", "messages_out"], days);
        sheet.insert_chart(2, 3, &messages)?;
        let times = ["answer_p50_ms", "answer_p95_ms"];
        sheet.insert_chart(18, 3, &chart(ChartType::Line, "Tempo de resposta (ms)", report, &times, days))?;
    }
    Ok(())
}

/// A chart of columns of the days.
fn chart(kind: ChartType, title: &str, report: &Report, columns: &[&str], days: u32) -> Chart {
    let mut chart = Chart::new(kind);
    chart.title().set_name(title);
    chart.set_width(640).set_height(300);
    let place = |name: &str| report.days.columns.iter().position(|it| it.name == name);
    let place = |name: &str| place(name).and_then(|it| u16::try_from(it).ok()).unwrap_or_default();
    for name in columns {
        let column = place(name);
        chart
            .add_series()
            .set_name((report.days.name, 0, column))
            .set_categories((report.days.name, 1, place("day"), days, place("day")))
            .set_values((report.days.name, 1, column, days, column));
    }
    chart
}

/// Writes a table on as many sheets as it needs.
fn sheets(workbook: &mut Workbook, table: &Table, max_rows: usize, formats: &Formats) -> Result<(), Error> {
    let mut parts = table.rows.chunks(max_rows.max(1)).peekable();
    let mut nth = 1;
    loop {
        let sheet = workbook.add_worksheet_with_constant_memory()?;
        sheet.set_name(if nth == 1 { table.name.to_owned() } else { format!("{} ({nth})", table.name) })?;
        rows(sheet, &table.columns, parts.next().unwrap_or_default(), formats)?;
        if parts.peek().is_none() {
            return Ok(());
        }
        nth += 1;
    }
}

fn rows(sheet: &mut Worksheet, columns: &[Column], rows: &[Vec<Cell>], formats: &Formats) -> Result<(), Error> {
    sheet.set_freeze_panes(1, 0)?;
    for (place, column) in (0..).zip(columns) {
        sheet.set_column_width(place, 16)?;
        sheet.write_with_format(0, place, column.heading, &formats.heading)?;
    }
    for (row, cells) in (1..).zip(rows) {
        for (place, (cell, column)) in (0..).zip(cells.iter().zip(columns)) {
            put(sheet, row, place, cell, column.name, formats)?;
        }
    }
    Ok(())
}

fn put(
    sheet: &mut Worksheet,
    row: u32,
    place: u16,
    cell: &Cell,
    column: &str,
    formats: &Formats,
) -> Result<(), XlsxError> {
    let plain = Format::default();
    let format = formats.of(cell, column).unwrap_or(&plain);
    match cell {
        Cell::Empty => Ok(()),
        Cell::Text(text) => sheet.write_string(row, place, harmless(text)).map(drop),
        Cell::Day(day) => sheet.write_with_format(row, place, &excel(*day)?, format).map(drop),
        Cell::Count(number) | Cell::Milliseconds(number) => whole(sheet, row, place, *number, format),
        Cell::Money(micros) => money(sheet, row, place, *micros, format),
        Cell::Share(share) => sheet.write_with_format(row, place, *share, format).map(drop),
        Cell::Flag(flag) => sheet.write_boolean(row, place, *flag == Flag::Yes).map(drop),
    }
}

/// Up to which whole numbers a cell, which is a double, is exact.
const EXACT: u64 = 1 << 53;

fn whole(sheet: &mut Worksheet, row: u32, place: u16, number: i64, format: &Format) -> Result<(), XlsxError> {
    match number.unsigned_abs() <= EXACT {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        true => sheet.write_with_format(row, place, number as f64, format).map(drop),
        false => sheet.write_string(row, place, number.to_string()).map(drop),
    }
}

fn money(sheet: &mut Worksheet, row: u32, place: u16, micros: i64, format: &Format) -> Result<(), XlsxError> {
    match micros.unsigned_abs() <= EXACT {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53; the nearest double shows six places")]
        true => sheet.write_with_format(row, place, micros as f64 / 1e6, format).map(drop),
        false => sheet.write_string(row, place, decimal(micros)).map(drop),
    }
}

fn excel(day: Date) -> Result<ExcelDateTime, XlsxError> {
    let year = u16::try_from(day.year()).unwrap_or_default();
    ExcelDateTime::from_ymd(year, day.month().unsigned_abs(), day.day().unsigned_abs())
}
